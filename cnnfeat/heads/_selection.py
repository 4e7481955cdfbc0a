"""The choice of C inside the training rows.

C is scored by mean per-class accuracy on inner validation rows, which are part of the
training rows; `cnnfeat.splits` draws them. The fits of a grid start from one another,
smallest C first.

The scale of C follows that of the features: multiplying features by s equals
multiplying C by s² (the trap that `mean-norm` is there for). `default_grid` takes the
scale into account.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cnnfeat.errors import CnnfeatWarning, DataError
from cnnfeat.heads._problem import TrainingProblem, not_finite
from cnnfeat.heads._transform import row_blocks
from cnnfeat.heads._validation import check_grid
from cnnfeat.metrics import mean_per_class_accuracy

# Duality gap of the fits that only score a C: which side of a boundary a validation row
# is on is settled long before the weights are.
SELECTION_TOL = 1e-4

IntRows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CChoice:
    """The chosen C, and what was seen.

    Attributes
    ----------
    C : float
    grid : tuple of float
        Ascending.
    scores : tuple of float
        Mean per-class accuracy on the validation rows, one for each of the grid; 0
        where the fit is not finite, which is never chosen.
    start : Tensor of shape (p, k), optional
        Weights that a fit at C to all training rows may start from.
    """

    C: float
    grid: tuple[float, ...]
    scores: tuple[float, ...]
    start: Tensor | None = field(default=None, repr=False)


def default_grid(X: Any) -> tuple[float, ...]:
    """Return 10⁻³ … 10³, divided by the mean squared norm of the rows.

    Parameters
    ----------
    X : ndarray, Tensor or RowSource of shape (n, d), floating
        Features of the training rows, as the head will see them.
    """
    total = sum(float(b.double().square().sum()) for _, b in row_blocks(X))
    unit = total / max(1, X.shape[0]) or 1.0
    return tuple(10.0**e / unit for e in range(-3, 4))


def select_C(
    problem: TrainingProblem, grid: Sequence[float], inner: tuple[IntRows, IntRows]
) -> CChoice:
    """Choose C from `grid` for a problem, all of whose rows are training rows.

    Parameters
    ----------
    problem : TrainingProblem
        Of n rows.
    grid : sequence of float
        The order does not matter; of equal scores the smaller C wins.
    inner : two ndarrays of shape (n_train,) and (n_validation,), dtype=int64
        Rows of the problem to fit to, and to score on.

    Raises
    ------
    DataError
        For a bad grid, inner training rows of fewer than two classes, or where no fit
        is finite.
    """
    grid, (train, validation) = check_grid(grid), inner
    inside = problem.take(train)
    X: Any = problem.X
    X_validation, y = X[validation], problem.y[validation]
    names, index = np.unique(y, return_inverse=True)
    tol = max(problem.formulation.tol, SELECTION_TOL)
    scores: list[float] = []
    starts: dict[int, Tensor] = {}  # of the fits that are finite
    for place, C in enumerate(grid):
        # From a smaller C the active sets shrink to the right ones: see `_start`.
        start = starts[max(starts)] if starts else None
        found = inside.fit(C, start=start, tol=tol, verify=False)
        if not found.is_finite:
            scores.append(0.0)
            continue
        starts[place] = found.start
        correct = found.predict(X_validation) == y
        scores.append(mean_per_class_accuracy(index, correct, len(names)))
    if not starts:
        at = f"any C from {grid[0]:g} to {grid[-1]:g}"
        raise DataError(not_finite(problem.formulation.name, at))
    best = max(starts, key=scores.__getitem__)  # the first of equals: the smallest C
    start = starts[best] if inside.can_start(problem) else None
    return CChoice(grid[best], grid, tuple(scores), start)


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
