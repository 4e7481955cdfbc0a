"""The training rows of a head, checked once, and one fit to them at one C.

A problem knows nothing of grids, transforms or files. Features in float16 or float32
are solved in float32 and verified in float64; anything else is solved in float64.
"""

from __future__ import annotations

import warnings
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
from cnnfeat.heads._linear import LinearFit
from cnnfeat.heads._losses import Loss
from cnnfeat.heads._newton import Stopping
from cnnfeat.heads._rows import BLOCK_BYTES, Rows, RowSource
from cnnfeat.heads._solve import Optimum, solve
from cnnfeat.heads._validation import (
    as_features,
    check_C,
    check_finite,
    check_labels,
    check_weights,
    device_of,
    working_dtype,
)

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
        present = np.unique(self.index[self.weights > 0])
        if len(present) < 2:
            raise DataError(
                "a head needs rows of at least two classes; found one class or none "
                f"with weight above 0: {self.classes[present].tolist()}"
            )

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

    def take(self, rows: NDArray[np.int64]) -> TrainingProblem:
        """Return the problem of some rows, on a block of K where K is known.

        Parameters
        ----------
        rows : ndarray of shape (m,), dtype=int64

        Raises
        ------
        DataError
            If they are of fewer than two classes.
        """
        X: Any = self.X
        block = None if self.K is None else block_of(self.K, rows)
        return TrainingProblem(
            X[rows], self.y[rows], self.weights[rows], self.formulation, block
        )

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
        tol: float | None = None,
        verify: bool = True,
    ) -> LinearFit:
        """Return the head that minimises the objective at C.

        Parameters
        ----------
        C : float
            Weight of the loss, above 0.
        start : Tensor of shape (p, k), optional
            `LinearFit.start` of a fit to the same rows at another C.
        tol : float, optional
            In place of the formulation's.
        verify : bool
            Check the tolerance in float64, and go on where it does not hold; refuse
            weights that are not finite, which are otherwise the caller's affair.

        Raises
        ------
        DataError
            If C is not a finite number above 0, a matrix over the memory budget, or
            the weights of a verified fit are not finite.

        Warns
        -----
        HeadConvergenceWarning
            If the Newton steps did not suffice.
        """
        formulation, C = self.formulation, check_C(C)
        tol = formulation.tol if tol is None else tol
        found = solve(
            self._design,
            self._loss(C),
            self._n_columns,
            Stopping(tol, formulation.max_iter, verify),
            start,
        )
        if not found.converged:
            self._warn(found, tol)
        fit = self._to_fit(found, C)
        if verify and not fit.is_finite:
            raise DataError(not_finite(formulation.name, f"C = {C:g}"))
        return fit

    def can_start(self, other: TrainingProblem) -> bool:
        """Whether weights of a fit to these rows are a start for fits to `other`.

        On the Gram side they are in a basis of the rows, and with dropout of copies of
        them; and each class has its column.
        """
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
        # A streamed block is one of about four such things in memory at a time.
        streamed = (told.memory_budget or STREAM_BYTES * 4) // 4
        rows = Rows(
            X,
            told.intercept,
            device_of(told.device, X),
            BLOCK_BYTES if isinstance(X, Tensor) else streamed,
        )
        K = None if told.dropout else self.K
        return Design(rows, plan, working_dtype(X), told.penalises_intercept, K)

    def _loss(self, C: float) -> Loss:
        index, weights = self.index, self.weights
        if self.formulation.dropout:
            # Copies stand one after another; together they weigh as much as one row.
            m = self.formulation.dropout_copies
            index, weights = np.tile(index, m), np.tile(weights, m) / m
        device = self._design.rows.device
        return self.formulation.loss(
            torch.as_tensor(index, device=device),
            self.classes,
            C * torch.as_tensor(weights, device=device),
            self._design.dtype,
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

    def _warn(self, found: Optimum, tol: float) -> None:
        warnings.warn(
            f"{self.formulation.name} stopped after {found.n_iter} Newton steps at "
            f"½‖gradient‖² / objective = {float((found.gap / found.value).max()):.1e} "
            f"(tol={tol:g}); raise max_iter, lower C, or scale the features",
            HeadConvergenceWarning,
            stacklevel=4,
        )


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
