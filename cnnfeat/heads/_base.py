"""What both estimators share: scikit-learn's contract around a `TrainingProblem`.

An estimator takes features as a NumPy array, a torch tensor, or a `RowSource`, and
answers in NumPy.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from cnnfeat.errors import ShapeError
from cnnfeat.heads._formulation import Formulation
from cnnfeat.heads._linear import best_classes, linear_scores
from cnnfeat.heads._problem import TrainingProblem
from cnnfeat.heads._rows import RowSource
from cnnfeat.heads._validation import check_C, device_of


class LinearHead(ClassifierMixin, BaseEstimator):
    """Base of `LinearSVM` and `Softmax` on features (n, d); not for use by itself."""

    _kind: str

    def formulation(self) -> Formulation:
        """Return what is minimised and how, apart from C, as the settings say.

        Raises
        ------
        DataError
            If a setting is not what it may be.
        """
        return Formulation(
            kind=self._kind,
            tol=self.tol,
            max_iter=self.max_iter,
            intercept=self._constant(),
            class_weight=self.class_weight,
            dropout=self.dropout,
            dropout_copies=self.dropout_copies,
            seed=int(self.random_state or 0) if self.dropout else 0,
            solver=self.solver,
            device=self.device,
            memory_budget=self.memory_budget,
        )

    def _constant(self) -> float:
        """Return the value of the intercept's feature, 0 for none."""
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
        C, formulation = check_C(self.C), self.formulation()
        X = self._checked(X, reset=True)
        problem = TrainingProblem.of(X, y, formulation, sample_weight=sample_weight)
        found = problem.fit(C)
        self.classes_ = found.classes
        self.coef_, self.intercept_ = found.coef, found.intercept
        self.n_iter_, self.solver_ = found.n_iter, found.side
        self.objective_ = found.objective
        return self

    def _checked(self, X: Any, *, reset: bool) -> Any:
        """Return features (n, d) of the width fitted to; what they hold is not checked.

        `reset` learns the width, as scikit-learn's own `validate_data` does for arrays.
        """
        if not isinstance(X, (Tensor, RowSource)):
            if isinstance(X, np.ndarray) and X.dtype == np.float16:
                X = X.astype(np.float32)  # which the function below would make float64
            return validate_data(
                self,
                X,
                reset=reset,
                dtype=[np.float64, np.float32],
                ensure_all_finite=False,
            )
        if len(X.shape) == 2 and reset:
            self.n_features_in_ = int(X.shape[1])
        elif len(X.shape) == 2 and X.shape[1] != self.n_features_in_:
            raise ShapeError(
                f"X has {X.shape[1]} features, but {type(self).__name__} is "
                f"expecting {self.n_features_in_} features as input"
            )
        return X

    def decision_function(self, X: Any) -> NDArray[Any]:
        """Return scores X @ coef_.T + intercept_.

        Parameters
        ----------
        X : ndarray, Tensor or RowSource of shape (n, d), floating

        Returns
        -------
        ndarray of shape (n, k), or (n,) with two classes, float32 or float64

        Raises
        ------
        DataError
            For NaN or infinity.
        ShapeError
            If X is not as wide as the features fitted to.
        """
        scores = self._scores(X)
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the class of the highest score, (n,), as in `classes_`.

        Parameters
        ----------
        X : ndarray, Tensor or RowSource of shape (n, d), floating
            As for `decision_function`.
        """
        return best_classes(self._scores(X), self.classes_)

    def _scores(self, X: Any) -> NDArray[Any]:
        check_is_fitted(self)
        X = self._checked(X, reset=False)
        device = device_of(self.device, X)
        return linear_scores(X, self.coef_, self.intercept_, device)
