"""What both heads share: checking the input, building the problem, scoring.

A head takes features as a NumPy array, a torch tensor, or a `RowSource`, and answers in
NumPy. Features in float16 or float32 are solved in float32 and verified in float64;
anything else is solved in float64.
"""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
import sklearn.exceptions
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
from torch import Tensor

from cnnfeat.errors import ConvergenceWarning, DataError, ShapeError
from cnnfeat.heads._dropout import check_dropout, drop_features
from cnnfeat.heads._losses import Loss
from cnnfeat.heads._newton import Settings
from cnnfeat.heads._rows import BLOCK_BYTES, Rows, RowSource
from cnnfeat.heads._solve import Fit, Problem, plan_solver, solve
from cnnfeat.heads._validation import (
    check_C,
    check_finite,
    check_source,
    check_weights,
    resolve_device,
    working_dtype,
)

STREAM_BYTES = 256 * 2**20  # of one block of a streamed matrix, without a budget


class HeadConvergenceWarning(ConvergenceWarning, sklearn.exceptions.ConvergenceWarning):
    """A head stopped before its tolerance; known to cnnfeat and to scikit-learn."""


class LinearHead(ClassifierMixin, BaseEstimator):
    """Base of `LinearSVM` and `Softmax`; not for use by itself."""

    _kind: str
    _penalise_intercept: bool

    def _loss(
        self, index: Tensor, n_classes: int, C: float, weights: Tensor, dtype: Any
    ) -> Loss:
        """Return the loss on class indices (n,) with row weights (n,)."""
        raise TypeError(f"{type(self).__name__} has no loss of its own")

    def _intercept_value(self) -> float:
        return 1.0 if self.fit_intercept else 0.0

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit to features X (n, d) and labels y (n,); return self.

        Parameters
        ----------
        X : ndarray, Tensor or RowSource of shape (n, d)
            float16, float32 or float64.
        y : array of shape (n,)
            Labels of any kind that NumPy can sort.
        sample_weight : array of shape (n,), optional
            Multiplies C row by row; a weight of 2 equals writing the row twice.

        Raises
        ------
        DataError
            For NaN or infinity (the row is named), fewer than two classes, C that is
            not a finite number above 0, or a matrix over the memory budget.
        ShapeError
            If y or sample_weight do not have one entry a row.
        """
        C = check_C(self.C)
        check_dropout(self.dropout, self.dropout_copies)
        X, labels = self._check_training(X, y)
        self.classes_, index = np.unique(labels, return_inverse=True)
        weights = check_weights(sample_weight, len(index))
        self._check_classes(index, weights)
        if self.dropout:
            X, index, weights = self._drop(X, index, weights)
        problem = self.build_problem(X)
        fit = self.solve_problem(problem, index, C, weights)
        self._keep(fit, problem)
        return self

    def _check_classes(
        self, index: NDArray[np.int64], weights: NDArray[np.float64]
    ) -> None:
        if not (weights > 0).any():
            raise DataError("every sample weight is zero; no row is left to fit to")
        if len(self.classes_) < 2 or len(np.unique(index[weights > 0])) < 2:
            present = self.classes_[np.unique(index[weights > 0])].tolist()
            raise DataError(
                "a head needs rows of at least two classes; found one class or none "
                f"with weight above 0: {present}"
            )

    def _check_training(self, X: Any, y: Any) -> tuple[Any, NDArray[Any]]:
        """Return (tensor on the device or source, labels), both checked."""
        if y is None:
            raise DataError(
                f"{type(self).__name__} requires y to be passed, but the "
                "target y is None"
            )
        labels = y.cpu().numpy() if isinstance(y, Tensor) else y
        if isinstance(X, RowSource):
            check_source(X)
            self.n_features_in_ = int(X.shape[1])
        else:
            X = self._as_tensor(X, reset=True)
            check_finite(X)
        labels = column_or_1d(labels, warn=True)
        check_classification_targets(labels)
        if len(labels) != X.shape[0]:
            raise ShapeError(
                f"X has {X.shape[0]} rows but y has {len(labels)}; they are "
                "inconsistent: one label a row is needed"
            )
        return X, labels

    def _as_tensor(self, X: Any, reset: bool) -> Tensor:
        """Return features as a tensor on the device, float32 or float64."""
        device = resolve_device(self.device, X)
        if isinstance(X, Tensor):
            if X.ndim != 2:
                raise ShapeError(f"features must be 2-D (n, d), found {X.ndim}-D")
            if reset:
                self.n_features_in_ = X.shape[1]
            elif X.shape[1] != self.n_features_in_:
                raise ShapeError(
                    f"X has {X.shape[1]} features, but {type(self).__name__} is "
                    f"expecting {self.n_features_in_} features as input"
                )
            return X.detach().to(device, working_dtype(X))
        if isinstance(X, np.ndarray) and X.dtype == np.float16:
            X = X.astype(np.float32)
        X = validate_data(
            self,
            X,
            reset=reset,
            dtype=[np.float64, np.float32],
            ensure_all_finite=False,
        )
        X = X if X.flags.writeable else X.view()
        with warnings.catch_warnings():  # read-only arrays are only read here
            warnings.filterwarnings("ignore", message="The given NumPy array is not w")
            return torch.from_numpy(np.ascontiguousarray(X)).to(device)

    def _drop(
        self, X: Any, index: NDArray[np.int64], weights: NDArray[np.float64]
    ) -> tuple[Tensor, NDArray[np.int64], NDArray[np.float64]]:
        if not isinstance(X, Tensor):
            raise DataError("dropout needs the features in memory, not streamed")
        m = self.dropout_copies
        X = drop_features(X, self.dropout, m, int(self.random_state or 0))
        return X, np.tile(index, m), np.tile(weights, m) / m

    def build_problem(self, X: Tensor | RowSource, K: Tensor | None = None) -> Problem:
        """Return the rows with the solver's plan; K (n, n) is theirs where known."""
        n, d = (int(m) for m in X.shape)
        n_columns = max(1, len(self.classes_) if len(self.classes_) > 2 else 1)
        plan = plan_solver(
            n,
            d,
            n_columns,
            solver=self.solver,
            budget=self.memory_budget,
            hinge=self._kind == "svm",
        )
        streamed = (self.memory_budget or STREAM_BYTES * 4) // 4
        rows = Rows(
            X,
            self._intercept_value(),
            resolve_device(self.device, X),
            BLOCK_BYTES if isinstance(X, Tensor) else streamed,
        )
        dtype = working_dtype(X)
        return Problem(rows, plan, dtype, self._penalise_intercept, K)

    def solve_problem(
        self,
        problem: Problem,
        index: NDArray[np.int64],
        C: float,
        weights: NDArray[np.float64],
        start: Tensor | None = None,
        verify: bool = True,
    ) -> Fit:
        """Return the solution for class indices (n,) and weights (n,) at C."""
        device = problem.rows.device
        n_classes = len(self.classes_)
        loss = self._loss(
            torch.as_tensor(index, device=device),
            n_classes,
            C,
            torch.as_tensor(weights, device=device),
            problem.dtype,
        )
        n_columns = n_classes if n_classes > 2 else 1
        settings = Settings(self.tol, self.max_iter, verify)
        fit = solve(problem, loss, n_columns, settings, start)
        if not fit.converged:
            warnings.warn(
                f"{type(self).__name__} stopped after {fit.n_iter} Newton steps at "
                f"½‖gradient‖² / objective = {float((fit.gap / fit.value).max()):.1e} "
                f"(tol={self.tol:g}); raise max_iter, lower C, or scale the features",
                HeadConvergenceWarning,
                stacklevel=3,
            )
        return fit

    def _keep(self, fit: Fit, problem: Problem) -> None:
        """Store the learned attributes."""
        d, dtype = problem.rows.d, problem.dtype
        W = fit.W.to(dtype).cpu().numpy()
        self.coef_ = np.ascontiguousarray(W[:d].T)
        value = problem.rows.intercept
        self.intercept_ = W[d] * dtype_of(W, value) if value else np.zeros(W.shape[1])
        self.n_iter_ = max(1, fit.n_iter)
        self.solver_ = fit.solver
        self.objective_ = float(fit.value.sum())

    def decision_function(self, X: Any) -> NDArray[Any]:
        """Return scores (n, k), or (n,) with two classes: X @ coef_.T + intercept_."""
        check_is_fitted(self)
        if isinstance(X, RowSource):
            return np.concatenate(
                [self.decision_function(torch.as_tensor(b)) for _, b in X.blocks(1024)]
            )
        X = self._as_tensor(X, reset=False)
        check_finite(X)
        coef = torch.as_tensor(self.coef_, device=X.device)
        dtype = torch.promote_types(X.dtype, coef.dtype)
        scores = X.to(dtype) @ coef.to(dtype).T
        scores += torch.as_tensor(self.intercept_, device=X.device, dtype=dtype)
        result: NDArray[Any] = scores.cpu().numpy()
        return result[:, 0] if result.shape[1] == 1 else result

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the class of the highest score, (n,), as in `classes_`."""
        scores = self.decision_function(X)
        index = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(1)
        return np.asarray(self.classes_[index])


def dtype_of(W: NDArray[Any], value: float) -> Any:
    """Return `value` in W's dtype, so that a product keeps it."""
    return W.dtype.type(value)
