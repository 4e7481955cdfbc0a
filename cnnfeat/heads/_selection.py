"""The choice of C inside the training rows, and many splits over one Gram matrix.

C is scored by mean per-class accuracy on inner validation rows, which are part of the
training rows; the head is then fitted again to all training rows at the chosen C. The
fits of a grid start from one another, the inner and the last fit of a split share one
Gram matrix, and so do all splits where the transform treats each row by itself.

The scale of C follows that of the features: multiplying features by s equals
multiplying C by s² (the trap that `mean-norm` is there for). `default_grid` takes the
scale into account.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from torch import Tensor

from cnnfeat.errors import DataError
from cnnfeat.heads._base import LinearHead
from cnnfeat.heads._parallel import map_splits, splits_at_a_time
from cnnfeat.heads._rows import RowSource
from cnnfeat.heads._solve import Problem
from cnnfeat.heads._transform import FeatureTransform, row_blocks
from cnnfeat.heads._validation import check_grid

SELECTION_TOL = 1e-4  # duality gap of the fits that only score a C
VALIDATION_PART = 1 / 6  # DeCAF's 25 / 5

IntRows = NDArray[np.int64]


@dataclass(frozen=True)
class CChoice:
    """The chosen C, and what was seen: one score a value of the sorted grid."""

    C: float
    grid: tuple[float, ...]
    scores: tuple[float, ...]  # mean per-class accuracy on the validation rows
    inner_train: IntRows
    validation: IntRows

    @property
    def is_at_edge(self) -> bool:
        """Whether a larger C than the grid holds might have been better."""
        return len(self.grid) > 1 and self.grid[-1] == self.C


@dataclass(frozen=True)
class SplitFit:
    """What one split gave: a fitted head, its transform, and how C was chosen."""

    head: LinearHead
    transform: FeatureTransform | None
    choice: CChoice | None


def default_grid(X: Any, lowest: int = -3, highest: int = 3) -> tuple[float, ...]:
    """Return powers of ten, divided by the mean squared norm of the rows."""
    total = sum(float(b.double().square().sum()) for _, b in row_blocks(X))
    unit = total / max(1, X.shape[0]) or 1.0
    return tuple(10.0**e / unit for e in range(lowest, highest + 1))


def draw_inner(
    y: NDArray[Any], seed: int = 0, part: float = VALIDATION_PART
) -> tuple[IntRows, IntRows]:
    """Draw inner training and validation rows, stratified, from a seeded generator.

    Every class gives `part` of its rows, rounded and at least one, to validation.

    Raises
    ------
    DataError
        If a class has one row only: it cannot stand on both sides. The class is named.
    """
    train, validation = [], []
    for name in np.unique(y):
        rows = np.flatnonzero(y == name)
        if len(rows) < 2:
            raise DataError(
                f"class {name!s} has 1 training row; choosing C needs at least 2 a "
                "class: leave the class out, or give one value of C"
            )
        rows = np.random.default_rng(seed).permutation(rows)
        n_validation = min(len(rows) - 1, max(1, round(part * len(rows))))
        validation.append(rows[:n_validation])
        train.append(rows[n_validation:])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(validation))


def select_C(
    head: LinearHead,
    X: Any,
    y: NDArray[Any],
    grid: Sequence[float],
    *,
    inner: tuple[IntRows, IntRows] | None = None,
    seed: int = 0,
) -> CChoice:
    """Choose C for `head` from `grid` on rows X (n, d), all of them training rows.

    Parameters
    ----------
    head : LinearHead
        Settings other than C; it is not changed.
    X : ndarray or Tensor of shape (n, d)
        Features of the training rows.
    y : ndarray of shape (n,)
        Their labels.
    grid : sequence of float
        The order does not matter; of equal scores the smaller C wins.
    inner : (train, validation) rows, optional
        Indices into X; drawn 25 / 5 a class by `seed` when not given.
    seed : int, default 0
        Of that draw.

    Raises
    ------
    DataError
        For a bad grid, or a class with one row (named).
    """
    return _select(head, X, np.asarray(y), check_grid(grid), inner, seed, None)[0]


def _select(
    head: LinearHead,
    X: Any,
    y: NDArray[Any],
    grid: tuple[float, ...],
    inner: tuple[IntRows, IntRows] | None,
    seed: int,
    K: Tensor | None,
) -> tuple[CChoice, Tensor | None]:
    """Return the choice, and weights that a primal fit to all rows may start from."""
    train, validation = inner if inner is not None else draw_inner(y, seed)
    model = clone(head).set_params(tol=max(head.tol, SELECTION_TOL))
    problem, index, weights = _prepare(model, X, y, train, K)
    X_validation = X[validation]
    if not isinstance(X_validation, RowSource):
        X_validation = model._as_tensor(X_validation, reset=False)
    scores: list[float] = []
    starts: list[Tensor] = []
    start = None
    for C in grid:
        fit = model.solve_problem(problem, index, C, weights, start, verify=False)
        start = fit.start
        starts.append(start)
        model._keep(fit, problem)
        predicted = model.predict(X_validation)
        scores.append(mean_per_class_accuracy(y[validation], predicted))
    best = int(np.argmax(scores))  # the first of equals: the smallest C
    choice = CChoice(grid[best], grid, tuple(scores), train, validation)
    primal = problem.plan.side == "primal" and not model.dropout
    return choice, starts[best] if primal else None


def _prepare(
    model: LinearHead, X: Any, y: NDArray[Any], rows: IntRows, K: Tensor | None
) -> tuple[Problem, IntRows, NDArray[np.float64]]:
    """Check rows of X and build their problem on a block of K where it is known."""
    X_rows, labels = model._check_training(X[rows], y[rows])
    model.classes_, index = np.unique(labels, return_inverse=True)
    weights = np.ones(len(index))
    model._check_classes(index, weights)
    if model.dropout:
        X_rows, index, weights = model._drop(X_rows, index, weights)
        return model.build_problem(X_rows), index, weights
    block = None
    if K is not None:
        at = torch.as_tensor(rows, device=K.device)
        block = K[at[:, None], at]
    return model.build_problem(X_rows, block), index, weights


def mean_per_class_accuracy(y: NDArray[Any], predicted: NDArray[Any]) -> float:
    """Return the mean over the classes in y of each class's accuracy."""
    hits = y == predicted
    return float(np.mean([hits[y == name].mean() for name in np.unique(y)]))


def fit_splits(
    head: LinearHead,
    X: Any,
    y: NDArray[Any],
    splits: Sequence[IntRows],
    grid: Sequence[float] | None,
    *,
    transform: FeatureTransform | None = None,
    inner: Sequence[tuple[IntRows, IntRows]] | None = None,
    seed: int = 0,
) -> list[SplitFit]:
    """Choose C and fit `head` on the training rows of every split.

    Each result equals, to the head's tolerance, that of the split alone.

    Parameters
    ----------
    head, seed
        As in `select_C`.
    grid : sequence of float or None
        As in `select_C`; a grid of one is fitted without a choice. None is the
        `default_grid` of each split's own training rows, once transformed.
    X : ndarray, Tensor or RowSource of shape (n, d)
        Features of all images. A source is indexed by rows, as an array is, and gives a
        source of those.
    y : ndarray of shape (n,)
        Their labels.
    splits : sequence of int64 arrays
        Training rows of each split, indices into X.
    transform : FeatureTransform, optional
        Fitted again on the training rows of each split.
    inner : sequence of (train, validation), optional
        For each split, indices into its own training rows.
    """
    values, y = check_grid(grid) if grid is not None else None, np.asarray(y)
    rowwise = transform is None or transform.is_rowwise
    union = np.unique(np.concatenate(splits)) if len(splits) else np.zeros(0, int)
    K = _shared_gram(head, X, y, union, transform, splits) if rowwise else None
    if isinstance(X, np.ndarray):  # once, and not in the threads
        X = clone(head)._as_tensor(X, reset=True)

    def fit_one(number: int) -> SplitFit:
        rows, own = splits[number], None
        if K is not None:
            at = torch.as_tensor(np.searchsorted(union, rows), device=K.device)
            own = K[at[:, None], at]
        parts = inner[number] if inner is not None else None
        return _fit_split(head, X[rows], y[rows], values, transform, parts, seed, own)

    return map_splits(fit_one, len(splits), splits_at_a_time(X, len(splits)))


def _fit_split(
    head: LinearHead,
    X: Any,
    y: NDArray[Any],
    grid: tuple[float, ...] | None,
    transform: FeatureTransform | None,
    inner: tuple[IntRows, IntRows] | None,
    seed: int,
    K: Tensor | None,
) -> SplitFit:
    fitted = None
    if transform is not None:
        fitted = transform.unfitted().fit(X)
        X = fitted.transform(X)
    grid = grid or check_grid(default_grid(X))
    model, choice, start = clone(head).set_params(C=grid[0]), None, None
    if K is None and not head.dropout:
        K = _gram_of(model, X, y)
    if len(grid) > 1:
        choice, start = _select(head, X, y, grid, inner, seed, K)
        model.set_params(C=choice.C)
    problem, index, weights = _prepare(model, X, y, np.arange(len(y)), K)
    model._keep(model.solve_problem(problem, index, model.C, weights, start), problem)
    return SplitFit(model, fitted, choice)


def _gram_of(head: LinearHead, X: Any, y: NDArray[Any]) -> Tensor | None:
    """Return X Xᵀ where fits to these rows would use it."""
    model = clone(head)
    tensor, labels = model._check_training(X, y)
    model.classes_ = np.unique(labels)
    problem = model.build_problem(tensor)
    needed = problem.plan.use_gram or problem.plan.side == "gram"
    return problem.gram() if needed else None


def _shared_gram(
    head: LinearHead,
    X: Any,
    y: NDArray[Any],
    union: IntRows,
    transform: FeatureTransform | None,
    splits: Sequence[IntRows],
) -> Tensor | None:
    """Return the Gram matrix of all training rows where one costs less than many."""
    separate = sum(len(rows) ** 2 for rows in splits)
    budget = head.memory_budget
    too_large = budget is not None and 16 * len(union) ** 2 > budget
    if head.dropout or len(splits) < 2 or len(union) ** 2 > separate or too_large:
        return None
    rows = X[union]
    if transform is not None:
        rows = transform.unfitted().fit(rows).transform(rows)
    return _gram_of(head, rows, y[union])
