"""Heads fitted to splits of one set of features: transform, choice of C, last fit.

All that a split is fitted with comes from its own training rows, and what a fold is
fitted with from those of the fold. Where the transform treats each row by itself, the
folds and the last fit of a split share one problem, and all splits one Gram matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnfeat.errors import DataError
from cnnfeat.heads._head import Head
from cnnfeat.heads._linear import LinearFit
from cnnfeat.heads._neighbours import NeighbourChoice, fit_means, fit_neighbours
from cnnfeat.heads._parallel import map_splits, splits_at_a_time
from cnnfeat.heads._problem import TrainingProblem, block_of
from cnnfeat.heads._ridge import fit_ridge
from cnnfeat.heads._rows import RowSource
from cnnfeat.heads._selection import (
    CChoice,
    CGrid,
    FoldedProblem,
    IntRows,
    select_C,
)
from cnnfeat.heads._settings import HeadSettings
from cnnfeat.heads._transform import FeatureTransform
from cnnfeat.heads._validation import (
    as_features,
    check_finite,
    device_of,
    refuse_one_class,
)
from cnnfeat.machine import resolve_device
from cnnfeat.splits import Split


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """What one split trains on.

    Parameters
    ----------
    rows : ndarray of shape (n,), dtype=int64
        Of the features.
    folds : sequence of Split
        Positions in `rows`: `train` to fit on, `test` to score each C on. See
        `cnnfeat.splits.inner_positions`.
    seed : int
        Draws the masks of dropout.
    groups : ndarray of shape (n,), dtype=int64, optional
        Rows that belong together, for what leaves out each row in turn.
    """

    rows: IntRows
    folds: tuple[Split, ...] = ()
    seed: int = 0
    groups: IntRows | None = None


@dataclass(frozen=True, eq=False)
class HeadFit:
    """A head in memory: its weights and transform, and how C was chosen.

    Attributes
    ----------
    linear : LinearFit
        Weights (k, d) on transformed features.
    transform : FeatureTransform
        Fitted to the training rows.
    choice : CChoice or NeighbourChoice, optional
        None where nothing was chosen.
    """

    linear: LinearFit
    transform: FeatureTransform
    choice: CChoice | NeighbourChoice | None

    @property
    def grid(self) -> tuple[float, ...]:
        """The values of C that were tried, ascending; () for a kind without C."""
        if isinstance(self.choice, CChoice):
            return self.choice.grid
        return () if self.linear.C is None else (self.linear.C,)

    @property
    def validation(self) -> tuple[float, ...]:
        """The score of each C on the held-out rows; () without a choice of C."""
        return self.choice.scores if isinstance(self.choice, CChoice) else ()

    @property
    def tried(self) -> dict[str, float]:
        """The score of whatever was tried, by its name; {} without a choice."""
        if isinstance(self.choice, NeighbourChoice):
            scores = self.choice.scores.items()
            return {f"k={k}, T={T:g}": score for (k, T), score in scores}
        if self.choice is None:
            return {}
        scored = zip(self.choice.grid, self.choice.scores, strict=True)
        return {f"{C:g}": score for C, score in scored}

    def to_head(self, class_names: Sequence[str], **told: Any) -> Head:
        """Return the head, a row of weights (k, d) for each class.

        Parameters
        ----------
        class_names : sequence of k str
            In the order of `linear.classes`.
        **told
            What else a `Head` knows: its layers, its rows, its provenance.
        """
        coef, intercept = self.linear.per_class()
        return Head(
            kind=self.linear.kind,
            coef=coef,
            intercept=intercept,
            class_names=tuple(class_names),
            scaler=self.transform.to_arrays(),
            neighbours=self.linear.neighbours,
            **told,
        )


def fit_splits(
    X: Any,
    y: NDArray[Any],
    splits: Sequence[TrainingRows],
    settings: HeadSettings,
    part_widths: Sequence[int] = (),
) -> list[HeadFit]:
    """Choose C and fit a head on the training rows of every split.

    Each result equals, to the solver's tolerance, that of the split alone.

    Parameters
    ----------
    X : ndarray, Tensor or RowSource of shape (n, d), floating
        Features of all images, as stored. A source is indexed by rows, as an array is,
        and gives a source of those.
    y : ndarray of shape (n,)
        Their labels, of any kind that NumPy can sort.
    splits : sequence of TrainingRows
        With folds where there is a C to choose.
    settings : HeadSettings
    part_widths : sequence of int
        Widths of the layers that stand side by side in X; their sum is d.

    Returns
    -------
    list of HeadFit
        One a split.

    Raises
    ------
    DataError
        For NaN or infinity, a bad grid, a split of one class, no rows to choose C on,
        or what needs the features in memory when they are a source.
    ShapeError
        If the parts do not add up to d.
    """
    # Moved and converted once, and not by each of the threads below.
    X = as_features(X, device_of(str(resolve_device(settings.device)), X))
    y = np.asarray(y)
    shared = _SharedGram.of(X, y, splits, settings, part_widths)

    def fit_one(number: int) -> HeadFit:
        one = splits[number]
        K = shared.block(one.rows) if shared else None
        return _fit_split(X[one.rows], y[one.rows], one, settings, part_widths, K)

    # Copies of dropout take several times the memory that `splits_at_a_time` counts.
    at_once = 1 if settings.dropout else splits_at_a_time(X, len(splits))
    return map_splits(fit_one, len(splits), at_once)


def _fit_split(
    X: Any,
    y: NDArray[Any],
    split: TrainingRows,
    settings: HeadSettings,
    part_widths: Sequence[int],
    K: Tensor | None,
) -> HeadFit:
    transform = settings.transform(part_widths).fit(X)
    Z = transform.transform(X)
    check_finite(Z)
    refuse_one_class(np.unique(y))
    material = _Material(X, y, split, settings, part_widths, K, transform, Z)
    linear, choice = _FITS[settings.kind](material)
    return HeadFit(linear, transform, choice)


@dataclass(frozen=True, eq=False)
class _Material:
    """What a fit of any kind is made from; Z are the transformed rows of X."""

    X: Any
    y: NDArray[Any]
    split: TrainingRows
    settings: HeadSettings
    part_widths: Sequence[int]
    K: Tensor | None
    transform: FeatureTransform
    Z: Any

    @property
    def grid(self) -> CGrid:
        """The values of C to try."""
        given = self.settings.C
        return CGrid.for_features(self.Z) if given is None else CGrid(given)

    @property
    def in_memory(self) -> Tensor:
        """The transformed rows; DataError where they are streamed."""
        if isinstance(self.Z, RowSource):
            raise DataError(
                f"a {self.settings.kind} head needs the features in memory, not "
                "streamed"
            )
        return torch.as_tensor(self.Z)


_Fit = tuple[LinearFit, CChoice | NeighbourChoice | None]


def _newton(own: _Material) -> _Fit:
    grid, split = own.grid, own.split
    formulation = own.settings.formulation(split.seed)
    problem = TrainingProblem.of(own.Z, own.y, formulation, K=own.K)
    problem.share_gram()
    if len(grid.values) == 1:
        return problem.fit(grid.values[0]), None
    if not split.folds:
        raise DataError(
            f"choosing C from {len(grid.values)} values needs rows to choose it on; "
            "draw them with cnnfeat.splits.inner_positions, or give one value"
        )
    if own.transform.is_rowwise:
        parts: Iterable[FoldedProblem] = [FoldedProblem(problem, split.folds)]
    else:
        parts = _RefittedFolds(own.X, own.y, split, own.settings, own.part_widths)
    choice = select_C(parts, grid)
    start = choice.start if own.transform.is_rowwise else None
    return problem.fit(choice.C, start=start), choice


def _ridge(own: _Material) -> _Fit:
    return fit_ridge(own.in_memory, own.y, own.grid, own.split.groups)


def _means(own: _Material) -> _Fit:
    return fit_means(own.Z, own.y), None


def _neighbours(own: _Material) -> _Fit:
    return fit_neighbours(own.in_memory, own.y, own.split.folds)


# What each of `HEAD_KINDS` is fitted by.
_FITS: dict[str, Callable[[_Material], _Fit]] = {
    "svm": _newton,
    "softmax": _newton,
    "ridge": _ridge,
    "ncm": _means,
    "knn": _neighbours,
}


@dataclass(frozen=True, eq=False)
class _RefittedFolds:
    """The folds of a split, each with a transform fitted to its own training rows.

    Made anew each time, as copies of large features for all folds would not fit.
    """

    X: Any
    y: NDArray[Any]
    split: TrainingRows
    settings: HeadSettings
    part_widths: Sequence[int]

    def __iter__(self) -> Iterator[FoldedProblem]:
        formulation = self.settings.formulation(self.split.seed)
        for fold in self.split.folds:
            own = self.settings.with_rows(len(fold.train)).transform(self.part_widths)
            Z = own.fit(self.X[fold.train]).transform(self.X)
            yield FoldedProblem(TrainingProblem.of(Z, self.y, formulation), (fold,))


@dataclass(frozen=True, eq=False)
class _SharedGram:
    """The Gram matrix K of all training rows, `rows` of the features, ascending."""

    rows: IntRows
    K: Tensor

    @classmethod
    def of(
        cls,
        X: Any,
        y: NDArray[Any],
        splits: Sequence[TrainingRows],
        settings: HeadSettings,
        part_widths: Sequence[int],
    ) -> _SharedGram | None:
        """Return it where one costs less than one a split; else None."""
        transform = settings.transform(part_widths)
        # What a transform learns from a split's rows makes a K of its own.
        if len(splits) < 2 or settings.dropout or not transform.is_rowwise:
            return None
        if _FITS[settings.kind] is not _newton:
            return None
        rows = np.unique(np.concatenate([split.rows for split in splits]))
        n_bytes, budget = 16 * len(rows) ** 2, settings.memory_budget
        separate = sum(len(split.rows) ** 2 for split in splits)
        if len(rows) ** 2 > separate or (budget is not None and n_bytes > budget):
            return None
        Z = X[rows]
        Z = transform.fit(Z).transform(Z)
        formulation = settings.formulation()
        K = TrainingProblem.of(Z, y[rows], formulation).share_gram()
        return None if K is None else cls(rows, K)

    def block(self, rows: IntRows) -> Tensor:
        """Return the Gram matrix (n, n) of some of the rows (n,)."""
        return block_of(self.K, np.searchsorted(self.rows, rows))
