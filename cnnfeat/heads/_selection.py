"""The choice of C inside the training rows.

C is scored by mean per-class accuracy on rows that are held out of the training rows,
fold after fold; `cnnfeat.splits.inner_positions` draws the folds. All folds are fitted
together, and the fits of a grid start from one another, smallest C first.

The scale of C follows that of the features: multiplying features by s equals
multiplying C by s² (the trap that `mean-norm` is there for). The default grid takes the
scale into account. Where its best C is the smallest or largest it grows, as long as one
decade more, or two, are better by more than chance.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cnnfeat.errors import CnnfeatWarning, DataError
from cnnfeat.heads._linear import best_classes
from cnnfeat.heads._problem import FoldFits, TrainingProblem, not_finite
from cnnfeat.heads._transform import row_blocks
from cnnfeat.heads._validation import check_grid
from cnnfeat.metrics import mean_per_class_accuracy
from cnnfeat.splits import Split

# Duality gap of the fits that only score a C: which side of a boundary a held-out row
# is on is settled long before the weights are.
SELECTION_TOL = 1e-4
# Decades of C, for rows of unit length: the grid, and how far it grows at its edges.
FIRST_DECADES = (-3, 3)
LAST_DECADES = (-4, 6)
FOLD_ELEMENTS = 2**22  # scores and weights of the folds that are fitted together

IntRows = NDArray[np.int64]


@dataclass(frozen=True)
class CGrid:
    """The values of C to try, and how far they may go beyond.

    Parameters
    ----------
    values : sequence of float
        In any order; kept ascending, each once.
    extra : tuple of tuples of float
        What may be tried below, downwards, and above, upwards. A grid that a user gave
        has none.

    Raises
    ------
    DataError
        If there are no values, or one is not a finite number above 0.
    """

    values: tuple[float, ...]
    extra: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", check_grid(self.values))

    @classmethod
    def for_features(cls, X: Any) -> CGrid:
        """Return 10⁻³ … 10³, for rows of unit length; 10⁻⁴ … 10⁶ where it has to grow.

        For others it is divided by the power of ten nearest to their mean squared norm,
        so that all values are powers of ten, the same ones in every split.

        Parameters
        ----------
        X : ndarray, Tensor or RowSource of shape (n, d), floating
            Features of the training rows, as the head will see them.
        """
        total = sum(float(b.double().square().sum()) for _, b in row_blocks(X))
        mean = total / max(1, X.shape[0])
        unit = round(math.log10(mean)) if 0 < mean < math.inf else 0
        (low, high), (lowest, highest) = FIRST_DECADES, LAST_DECADES
        # From text: 10.0 ** e is not always the number that is written as 1e{e}.
        powers = {e: float(f"1e{e - unit}") for e in range(lowest, highest + 1)}
        return cls(
            tuple(powers[e] for e in range(low, high + 1)),
            (
                tuple(powers[e] for e in range(low - 1, lowest - 1, -1)),
                tuple(powers[e] for e in range(high + 1, highest + 1)),
            ),
        )

    def beyond(self, best: float) -> tuple[float, CGrid] | None:
        """Return one more value, and the grid with it, where its best is at an edge.

        None where the best lies inside, or nothing more may be tried.
        """
        below, above = self.extra
        if best == self.values[-1] and above:
            return above[0], CGrid((*self.values, above[0]), (below, above[1:]))
        if best == self.values[0] and below:
            return below[0], CGrid((below[0], *self.values), (below[1:], above))
        return None


@dataclass(frozen=True, eq=False)
class FoldedProblem:
    """Rows to choose C on: a problem, and folds as positions among its rows."""

    problem: TrainingProblem
    folds: tuple[Split, ...]

    def batches(self) -> list[tuple[Split, ...]]:
        """Return the folds in parts small enough to be fitted at once."""
        n_scores = len(self.problem.y) * len(self.problem.classes)
        step = max(1, FOLD_ELEMENTS // n_scores)
        starts = range(0, len(self.folds), step)
        return [self.folds[start : start + step] for start in starts]


@dataclass(frozen=True, eq=False)
class CChoice:
    """The chosen C, and what was seen.

    Attributes
    ----------
    C : float
    grid : tuple of float
        What was tried, ascending.
    scores : tuple of float
        Mean per-class accuracy on the held-out rows of all folds, one for each of the
        grid; 0 where a fit is not finite, which is never chosen.
    start : Tensor of shape (p, k), optional
        Weights that a fit at C to all rows of the first problem may start from.
    """

    C: float
    grid: tuple[float, ...]
    scores: tuple[float, ...]
    start: Tensor | None = field(default=None, repr=False)


def select_C(parts: Iterable[FoldedProblem], grid: CGrid) -> CChoice:
    """Choose the C whose heads are right on most held-out rows.

    Of neighbouring values that tie for the best the middle one (the smaller of two) is
    taken: with few rows ties are long, and their ends are the worst guess.

    The grid is tried in full. While its best is at an edge that can move, one value
    more is tried; it is taken if its fits converge within `QUICK_STEPS` and it is
    better by more than chance (`_Trials.gain`). Accuracy may rise slowly: a gain that
    may be chance gets one decade more, to be more than chance against the same edge.
    Otherwise, and without a gain, the grid ends.

    Parameters
    ----------
    parts : iterable of FoldedProblem
        Problems of the same training rows, transformed as each one's folds ask for. It
        is gone through again each time that the grid has grown.
    grid : CGrid

    Raises
    ------
    DataError
        If no fit is finite.
    """
    trials = _Trials(parts)
    trials.run(grid.values)
    finite = {C: trials.scores[C] for C in grid.values if C in trials.starts}
    if not finite:
        at = f"any C from {grid.values[0]:g} to {grid.values[-1]:g}"
        raise DataError(not_finite(trials.name, at))
    best = middle_of_best(finite)
    edge = best
    while wider := grid.beyond(edge):
        C, grid = wider
        trials.run([C], quick=True)
        gain, chance = trials.gain(C, best)
        if gain > chance:
            best = edge = max(C, edge, key=trials.scores.__getitem__)
        elif gain > 0 and edge == best:
            edge = C
        else:
            break
    scores = tuple(trials.scores[C] for C in grid.values)
    return CChoice(best, grid.values, scores, trials.starts[best])


class _Trials:
    """The values of C that were tried: their scores, and where fits may start."""

    def __init__(self, parts: Iterable[FoldedProblem]):
        self.parts = parts
        self.name = ""
        self.scores: dict[float, float] = {}
        self.starts: dict[float, Tensor] = {}  # of those whose fits are all good
        self._points: dict[float, NDArray[Any]] = {}
        # Of each batch of folds, the largest C so far and its weights.
        self._largest: dict[int, tuple[float, Tensor]] = {}

    def run(self, grid: Sequence[float], *, quick: bool = False) -> None:
        """Try the values of an ascending grid; `quick` as for `fit_folds`."""
        right: dict[float, list[NDArray[np.bool_]]] = {C: [] for C in grid}
        good, held, index = list(grid), [], []
        batches = ((part.problem, b) for part in self.parts for b in part.batches())
        for number, (problem, folds) in enumerate(batches):
            self.name = problem.formulation.name
            held += [fold.test for fold in folds]
            index += [problem.index[fold.test] for fold in folds]
            for C in list(good):
                found = self._fit(number, problem, folds, C, quick)
                if found is None:
                    good.remove(C)
                    continue
                right[C] += _right(problem, folds, found)
                self.starts.setdefault(C, found.start)
        for C in grid:
            self.scores[C] = 0.0
            if C in good:
                self._score(C, *map(np.concatenate, (index, held, right[C])))
            else:
                self.starts.pop(C, None)

    def gain(self, C: float, best: float) -> tuple[float, float]:
        """Return by how much C is better than the best, and what chance may do.

        That is one standard error, if each row whose decisions differ had done so
        either way alike (McNemar's test). A row that is held out several times is one.
        """
        if C not in self.starts:
            return 0.0, 0.0
        change = self._points[C] - self._points[best]
        return float(change.sum()), math.sqrt(float(change @ change))

    def _score(
        self,
        C: float,
        y: NDArray[np.int64],
        rows: NDArray[np.int64],
        correct: NDArray[np.bool_],
    ) -> None:
        self.scores[C] = mean_per_class_accuracy(y, correct, y.max() + 1)
        # What each row adds to that mean.
        counts = np.bincount(y)
        share = correct / (counts[y] * np.count_nonzero(counts))
        self._points[C] = np.bincount(rows, weights=share)

    def _fit(
        self,
        number: int,
        problem: TrainingProblem,
        folds: Sequence[Split],
        C: float,
        quick: bool,
    ) -> FoldFits | None:
        # From a smaller C the active sets shrink to the right ones: see `_start`.
        largest, weights = self._largest.get(number, (math.inf, None))
        tol = max(problem.formulation.tol, SELECTION_TOL)
        start = weights if largest < C else None
        found = problem.fit_folds(C, folds, start=start, tol=tol, quick=quick)
        if found is not None and (weights is None or largest < C):
            self._largest[number] = C, found.weights
        return found


def middle_of_best(scores: Mapping[float, float]) -> float:
    """Return the C in the middle of the longest run of best scores, C ascending.

    The first of equally long runs, and the smaller of two in the middle.
    """
    best = max(scores.values())
    ties = groupby(scores.items(), lambda one: one[1] == best)
    runs = [[C for C, _ in run] for is_best, run in ties if is_best]
    longest = max(runs, key=len)
    return longest[(len(longest) - 1) // 2]


def _right(
    problem: TrainingProblem, folds: Sequence[Split], found: FoldFits
) -> list[NDArray[np.bool_]]:
    """Return of each fold which held-out rows are right."""
    scored = zip(folds, found.scores.swapaxes(0, 1), strict=True)
    return [
        best_classes(scores[fold.test], problem.classes) == problem.y[fold.test]
        for fold, scores in scored
    ]


def is_at_edge(C: float, grid: Sequence[float]) -> bool:
    """Return whether a larger C than an ascending grid holds might have been better."""
    return len(grid) > 1 and grid[-1] == C


def warn_of_edges(choices: Sequence[tuple[str, float, Sequence[float]]]) -> None:
    """Warn where the largest C that was tried was the best.

    Parameters
    ----------
    choices : sequence of (name, C, grid)
        What a fit is called, the C it was fitted at, and what was tried.

    Warns
    -----
    CnnfeatWarning
        Once for all of them; the first is named.
    """
    names = [name for name, C, grid in choices if is_at_edge(C, grid)]
    if names:
        warnings.warn(
            f"the largest C that was tried was the best in {len(names)} of "
            f"{len(choices)} fits (first: {names[0]}): try larger ones with `C`",
            CnnfeatWarning,
            stacklevel=3,
        )
