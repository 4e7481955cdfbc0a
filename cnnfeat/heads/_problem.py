"""The training rows of a head, checked once, and one fit to them at one C.

A problem knows nothing of grids, transforms or files. Several folds of its rows can be
fitted at once, as the choice of C does. Features in float16 or float32
are solved in float32 and verified in float64; anything else is solved in float64.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
import sklearn.exceptions
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cnnfeat.errors import ConvergenceWarning, DataError
from cnnfeat.heads._design import Design, plan_solver
from cnnfeat.heads._dropout import drop_features
from cnnfeat.heads._formulation import Formulation
from cnnfeat.heads._held_out import FoldFits
from cnnfeat.heads._linear import LinearFit
from cnnfeat.heads._losses import Loss
from cnnfeat.heads._newton import Solution, Stopping
from cnnfeat.heads._rows import BLOCK_BYTES, Rows, RowSource
from cnnfeat.heads._solve import (
    Optimum,
    refine,
    solve,
    solve_loosely,
    weights_of,
)
from cnnfeat.heads._validation import (
    as_features,
    check_C,
    check_finite,
    check_labels,
    check_weights,
    device_of,
    refuse_one_class,
    working_dtype,
)
from cnnfeat.splits import Split

QUICK_STEPS = 30  # Newton steps of a fit that is given up if it takes more
STREAM_BYTES = 256 * 2**20  # of one block of a streamed matrix, without a budget


class HeadConvergenceWarning(ConvergenceWarning, sklearn.exceptions.ConvergenceWarning):
    """A head stopped before its tolerance; known to cnnfeat and to scikit-learn."""


@dataclass(eq=False)
class TrainingProblem:
    """Training rows, with what every fit to them shares; made by `of`.

    Attributes
    ----------
    X : Tensor or RowSource of shape (n, d), dtype float32 or float64
        Finite, on the device that is solved on.
    y : ndarray of shape (n,)
        Labels of any kind that NumPy can sort.
    weights : ndarray of shape (n,), dtype=float64
        Each multiplies C in its row.
    formulation : Formulation
    K : Tensor of shape (n, n), optional
        X Xᵀ in X's dtype, without the intercept, where somebody has computed it.
    classes : ndarray of shape (k,)
        The labels in order, each once.
    index : ndarray of shape (n,), dtype=int64
        Each row's place in `classes`.
    """

    X: Tensor | RowSource
    y: NDArray[Any]
    weights: NDArray[np.float64]
    formulation: Formulation
    K: Tensor | None = None
    classes: NDArray[Any] = field(init=False)
    index: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.classes, self.index = np.unique(self.y, return_inverse=True)
        if not (self.weights > 0).any():
            raise DataError("every sample weight is zero; no row is left to fit to")
        refuse_one_class(self.classes[np.unique(self.index[self.weights > 0])])

    @classmethod
    def of(
        cls,
        X: Any,
        y: ArrayLike | Tensor,
        formulation: Formulation,
        *,
        sample_weight: ArrayLike | None = None,
        K: Tensor | None = None,
    ) -> Self:
        """Return the problem of these rows, checked.

        Parameters
        ----------
        X : ndarray, Tensor or RowSource of shape (n, d)
            float16, float32 or float64.
        y : array of shape (n,)
            Labels of any kind that NumPy can sort.
        formulation : Formulation
        sample_weight : array of shape (n,), optional
            Finite and not negative; a weight of 2 equals writing the row twice.
        K : Tensor of shape (n, n), optional
            X Xᵀ in the dtype that is solved in, where it is known.

        Raises
        ------
        DataError
            For NaN or infinity (the row is named), or fewer than two classes.
        ShapeError
            If X is not 2-D, or y or sample_weight do not have one entry a row.
        """
        X = as_features(X, device_of(formulation.device, X))
        check_finite(X)
        labels = check_labels(y, X.shape[0], formulation.name)
        weights = check_weights(sample_weight, len(labels))
        return cls(X, labels, weights, formulation, K)

    def share_gram(self) -> Tensor | None:
        """Compute K (n, n) where fits would use it, for problems of some of the rows.

        None where they would not, and with dropout, whose copies have a K of their own.
        """
        wanted = not self.formulation.dropout and self._design.plan.needs_gram
        if self.K is None and wanted:
            self.K = self._design.gram()
        return self.K

    def fit(
        self,
        C: float,
        *,
        start: Tensor | None = None,
    ) -> LinearFit:
        """Return the head that minimises the objective at C.

        Parameters
        ----------
        C : float
            Weight of the loss, above 0.
        start : Tensor of shape (p, k), optional
            `LinearFit.start` of a fit to the same rows at another C, or
            `FoldFits.start`.

        Raises
        ------
        DataError
            If C is not a finite number above 0, a matrix is over the memory budget, or
            the weights are not finite.

        Warns
        -----
        HeadConvergenceWarning
            If the Newton steps did not suffice.
        """
        formulation, C = self.formulation, check_C(C)
        stopping = Stopping(formulation.tol, formulation.max_iter)
        found = solve(self._design, self._loss(C), self._n_columns, stopping, start)
        if not found.converged:
            self._warn(found, formulation.tol)
        fit = self._to_fit(found, C)
        if not fit.is_finite:
            raise DataError(not_finite(formulation.name, f"C = {C:g}"))
        return fit

    def fit_folds(
        self,
        C: float,
        folds: Sequence[Split],
        *,
        start: Tensor | None,
        tol: float,
        quick: bool = False,
    ) -> FoldFits | None:
        """Fit to the training rows of every fold at once, and score all rows.

        The folds are columns of one problem, in which held-out rows weigh nothing; so
        they share X, K and every product with the features.

        Parameters
        ----------
        C : float
            Above 0.
        folds : sequence of Split
            Positions among the rows. Those in neither part are not fitted to.
        start : Tensor of shape (p, n_folds * k), optional
            `FoldFits.weights` of the same folds at a smaller C.
        tol : float
            In place of the formulation's.
        quick : bool
            Take `QUICK_STEPS` at most, and warn of nothing.

        Returns
        -------
        FoldFits or None
            None where a fit is not finite, or a quick one has not converged.

        Warns
        -----
        HeadConvergenceWarning
            If the Newton steps did not suffice.
        """
        max_iter = self.formulation.max_iter
        found = solve_loosely(
            self._design,
            self._folds_loss(C, folds),
            self._n_columns * len(folds),
            Stopping(tol, min(max_iter, QUICK_STEPS) if quick else max_iter),
            start,
        )
        if not _is_finite(found.W) or not bool(found.value.isfinite().all()):
            return None
        if not found.converged(tol):
            if quick:
                return None
            self._warn(found, tol)
        return self._scored(found, len(folds))

    def refine_folds(
        self, C: float, folds: Sequence[Split], weights: Tensor, tol: float
    ) -> FoldFits:
        """Go on from `FoldFits.weights` of these folds at this C, in float64.

        It ends at `tol`, or where rounding or `QUICK_STEPS` do; `FoldFits.errors` says
        how far it came.
        """
        stopping = Stopping(tol, min(self.formulation.max_iter, QUICK_STEPS))
        loss = self._folds_loss(C, folds)
        return self._scored(refine(self._design, loss, stopping, weights), len(folds))

    def _folds_loss(self, C: float, folds: Sequence[Split]) -> Loss:
        members = torch.zeros(len(self.y), len(folds), dtype=torch.bool)
        for number, fold in enumerate(folds):
            members[torch.as_tensor(fold.train), number] = True
        return self._loss(C, members)

    def _scored(self, found: Solution, n_folds: int) -> FoldFits:
        F, errors = found.F, None
        if self.formulation.dropout:  # solved on masked copies, scored without masks
            F = self._rows(self.X).forward(weights_of(self._design, found.W))
        if self.formulation.penalises_intercept:
            errors = (2 * found.gap).sqrt().reshape(n_folds, -1).cpu().numpy()
        scores = F.reshape(len(self.y), n_folds, -1).cpu().numpy()
        return FoldFits(found.W, scores, errors)

    @cached_property
    def row_norms(self) -> NDArray[np.float64]:
        """The norms of the rows (n,), the intercept's constant included."""
        blocks = self._rows(self.X).blocks(torch.float64)
        squares = torch.cat([block.square().sum(1) for _, block in blocks])
        norms: NDArray[np.float64] = (
            (squares + self.formulation.intercept**2).sqrt().cpu().numpy()
        )
        return norms

    def can_start(self, other: TrainingProblem) -> bool:
        """Whether weights of a fit to these rows are a start for fits to `other`.

        On the Gram side they are in a basis of the rows, and with dropout of copies of
        them; and each class has its column.
        """
        if self is other:
            return True
        sides = {self._design.plan.side, other._design.plan.side}
        same = len(self.classes) == len(other.classes)
        return sides == {"primal"} and same and not self.formulation.dropout

    @property
    def _n_columns(self) -> int:
        return len(self.classes) if len(self.classes) > 2 else 1

    @cached_property
    def _design(self) -> Design:
        """The rows with the solver's plan; with dropout, of the copies."""
        told, X = self.formulation, self.X
        if told.dropout:
            if not isinstance(X, Tensor):
                raise DataError("dropout needs the features in memory, not streamed")
            X = drop_features(X, told.dropout, told.dropout_copies, told.seed)
        n, d = (int(m) for m in X.shape)
        plan = plan_solver(
            n,
            d,
            self._n_columns,
            solver=told.solver,
            budget=told.memory_budget,
            hinge=told.kind == "svm",
        )
        K = None if told.dropout else self.K
        return Design(
            self._rows(X), plan, working_dtype(X), told.penalises_intercept, K
        )

    def _rows(self, X: Tensor | RowSource) -> Rows:
        told = self.formulation
        # A streamed block is one of about four such things in memory at a time.
        streamed = (told.memory_budget or STREAM_BYTES * 4) // 4
        return Rows(
            X,
            told.intercept,
            device_of(told.device, X),
            BLOCK_BYTES if isinstance(X, Tensor) else streamed,
        )

    def _loss(self, C: float, members: Tensor | None = None) -> Loss:
        """Return the loss at C, of the folds that train on `members` (n, n_folds)."""
        index, weights = self.index, self.weights
        if self.formulation.dropout:
            # Copies stand one after another; together they weigh as much as one row.
            m = self.formulation.dropout_copies
            index, weights = np.tile(index, m), np.tile(weights, m) / m
            members = None if members is None else members.repeat(m, 1)
        device = self._design.rows.device
        return self.formulation.loss(
            torch.as_tensor(index, device=device),
            self.classes,
            C * torch.as_tensor(weights, device=device),
            self._design.dtype,
            None if members is None else members.to(device),
        )

    def _to_fit(self, found: Optimum, C: float) -> LinearFit:
        d, dtype = self._design.rows.d, self._design.dtype
        W = found.W.to(dtype).cpu().numpy()
        value = self._design.rows.intercept
        return LinearFit(
            kind=self.formulation.kind,
            C=C,
            classes=self.classes,
            coef=np.ascontiguousarray(W[:d].T),
            intercept=W[d] * value if value else np.zeros(W.shape[1]),
            n_iter=max(1, found.n_iter),
            side=found.side,
            objective=float(found.value.sum()),
            start=found.start,
        )

    def _warn(self, found: Optimum | Solution, tol: float) -> None:
        warnings.warn(
            f"{self.formulation.name} stopped after {found.n_iter} Newton steps at "
            f"½‖gradient‖² / objective = {float((found.gap / found.value).max()):.1e} "
            f"(tol={tol:g}); raise max_iter, lower C, or scale the features",
            HeadConvergenceWarning,
            stacklevel=4,
        )


def _is_finite(W: Tensor) -> bool:
    """Whether all weights (p, k) are numbers that float32, which heads keep, holds."""
    return bool((W.abs() <= torch.finfo(torch.float32).max).all())


def not_finite(name: str, at: str) -> str:
    """Return the words for fits of an estimator that came out as NaN or infinity."""
    return (
        f"{name} has no finite weights at {at}: lower `C`, or scale the features "
        "(`scale=l2`)"
    )


def block_of(K: Tensor, rows: NDArray[np.int64]) -> Tensor:
    """Return the block (m, m) of K (n, n) at rows (m,), in K's dtype and place."""
    at = torch.as_tensor(rows, device=K.device)
    return K[at[:, None], at]
