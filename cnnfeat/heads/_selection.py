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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cnnfeat.errors import CnnfeatWarning, DataError
from cnnfeat.heads._held_out import FoldFits, Marks
from cnnfeat.heads._problem import TrainingProblem, not_finite
from cnnfeat.heads._transform import row_blocks
from cnnfeat.heads._validation import check_grid
from cnnfeat.metrics import mean_per_class_accuracy
from cnnfeat.splits import Split

# Duality gap of the fits that only score a C. Most rows are decided at the first; those
# that are not, and that bear on the choice, are fitted further (`_Trials.settle`). What
# is open after the last is a tie to the rounding of float64.
SELECTION_TOL = 1e-4
SETTLING_TOLS = (1e-6, 1e-8, 1e-10, 1e-12)
TINY = 1e-9  # below any difference of two accuracies
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

    The grid is tried in full. While its best is at an edge that can move, it grows by a
    decade, or two where accuracy rises slowly: as long as one of them is better than
    that edge by more than chance (`_Trials.gain`). A value beyond the grid counts if
    its fits converge within `QUICK_STEPS`; the second is tried if the first is better
    at all. Chance says how far to go; of all that was tried the best is taken.

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
    if not trials.starts:
        at = f"any C from {grid.values[0]:g} to {grid.values[-1]:g}"
        raise DataError(not_finite(trials.name, at))
    trials.settle_best(grid.values)
    best = middle_of_best({C: trials.scores[C] for C in trials.good(grid.values)})
    edge = best
    while wider := grid.beyond(edge):
        C, grid = wider
        trials.run([C], quick=True)
        trials.settle(sorted({best, edge, C}))
        gain, chance = trials.gain(C, best)
        if gain > chance:
            best = edge = max(C, edge, key=trials.scores.__getitem__)
        elif gain > 0 and edge == best:
            edge = C
        else:
            break
    # How far to go is a question of chance; of what was tried the best is taken.
    best = middle_of_best(
        {C: trials.scores[C] for C in grid.values if C in trials.starts}
    )
    scores = tuple(trials.scores[C] for C in grid.values)
    return CChoice(best, grid.values, scores, trials.starts[best])


class _Trials:
    """The values of C that were tried: their scores, and where fits may start."""

    def __init__(self, parts: Iterable[FoldedProblem]):
        self.parts = parts
        self.name = ""
        self.scores: dict[float, float] = {}
        self.starts: dict[float, Tensor] = {}  # of those whose fits are all good
        # The classes of the held-out rows, fold after fold, and their places.
        self._y = self._rows = np.empty(0, np.int64)
        self._marks: dict[float, Marks] = {}
        # Of each batch of folds, the weights at each C.
        self._weights: dict[int, dict[float, Tensor]] = {}

    def run(self, grid: Sequence[float], *, quick: bool = False) -> None:
        """Try the values of an ascending grid; `quick` as for `fit_folds`."""
        marks: dict[float, list[Marks]] = {C: [] for C in grid}
        good, held, index = list(grid), [], []
        for number, problem, folds in self._batches():
            self.name = problem.formulation.name
            held += [fold.test for fold in folds]
            index += [problem.index[fold.test] for fold in folds]
            for C in list(good):
                found = self._fit(number, problem, folds, C, quick)
                if found is None:
                    good.remove(C)
                    continue
                marks[C] += found.marks(folds, problem.index, problem.row_norms)
                self.starts.setdefault(C, found.start)
        self._y, self._rows = np.concatenate(index), np.concatenate(held)
        for C in grid:
            self.scores[C] = 0.0
            if C in good:
                self._mark(C, marks[C])
            else:
                self.starts.pop(C, None)

    def good(self, grid: Iterable[float]) -> list[float]:
        """Return the values whose fits are all finite."""
        return [C for C in grid if C in self.starts]

    def settle_best(self, grid: Sequence[float]) -> None:
        """Go on with fits until nothing that they may still change bears on the best.

        A value whose score cannot reach the best of the others needs no more of them.
        """
        for tol in SETTLING_TOLS:
            bounds = {C: self._bounds(C) for C in self.good(grid)}
            reached = max(low for low, _ in bounds.values())
            leading = [C for C, (_, high) in bounds.items() if high >= reached - TINY]
            if len(leading) == 1 or not self._refine(leading, tol):
                break

    def settle(self, grid: Sequence[float]) -> None:
        """Go on with fits until it is known which rows they are right on."""
        for tol in SETTLING_TOLS:
            if not self._refine(self.good(grid), tol):
                break

    def gain(self, C: float, best: float) -> tuple[float, float]:
        """Return by how much C is better than the best, and what chance may do.

        That is one standard error, if each row whose decisions differ had done so
        either way alike (McNemar's test). A row that is held out several times is one.
        """
        if C not in self.starts:
            return 0.0, 0.0
        # What each row adds to the mean per-class accuracy.
        counts = np.bincount(self._y)
        change = self._marks[C].right.astype(float) - self._marks[best].right
        share = change / (counts[self._y] * np.count_nonzero(counts))
        points = np.bincount(self._rows, weights=share)
        return float(points.sum()), math.sqrt(float(points @ points))

    def _batches(self) -> Iterator[tuple[int, TrainingProblem, tuple[Split, ...]]]:
        batches = ((part.problem, b) for part in self.parts for b in part.batches())
        for number, (problem, folds) in enumerate(batches):
            yield number, problem, folds

    def _refine(self, grid: Iterable[float], tol: float) -> bool:
        """Go on with the fits that leave a row open; return whether there are any."""
        unsure = [C for C in grid if not self._marks[C].known.all()]
        marks: dict[float, list[Marks]] = {C: [] for C in unsure}
        for number, problem, folds in self._batches() if unsure else ():
            weights = self._weights[number]
            for C in unsure:
                found = problem.refine_folds(C, folds, weights[C], tol)
                weights[C] = found.weights
                marks[C] += found.marks(folds, problem.index, problem.row_norms)
        for C in unsure:
            self._mark(C, marks[C])
        return bool(unsure)

    def _mark(self, C: float, marks: list[Marks]) -> None:
        self._marks[C] = Marks.joined(marks)
        self.scores[C] = self._score(self._marks[C].right)

    def _bounds(self, C: float) -> tuple[float, float]:
        """Return the least and the highest score that C may have at its minimum."""
        marks = self._marks[C]
        least, most = marks.right & marks.known, marks.right | ~marks.known
        return self._score(least), self._score(most)

    def _score(self, right: NDArray[np.bool_]) -> float:
        return mean_per_class_accuracy(self._y, right, self._y.max() + 1)

    def _fit(
        self,
        number: int,
        problem: TrainingProblem,
        folds: Sequence[Split],
        C: float,
        quick: bool,
    ) -> FoldFits | None:
        # From a smaller C the active sets shrink to the right ones: see `_start`.
        weights = self._weights.setdefault(number, {})
        largest = max(weights, default=math.inf)
        tol = max(problem.formulation.tol, SELECTION_TOL)
        start = weights[largest] if largest < C else None
        found = problem.fit_folds(C, folds, start=start, tol=tol, quick=quick)
        if found is not None:
            weights[C] = found.weights
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
