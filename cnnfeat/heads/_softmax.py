"""Multinomial logistic regression in scikit-learn's scaling of C."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnfeat.heads._base import LinearHead
from cnnfeat.heads._head import to_probabilities


class Softmax(LinearHead):
    """Softmax head: ½‖W‖² + C Σ weight · log-loss, the intercept not penalised.

    Two classes give the binomial problem with one weight vector. Both are the
    objectives of scikit-learn's LogisticRegression(solver="lbfgs") with the same C.
    C depends on the scale of the features: multiplying them by s equals multiplying C
    by s².

    Parameters
    ----------
    C : float, default 1.0
        Weight of the loss, above 0.
    fit_intercept : bool, default True
    class_weight : dict or "balanced", optional
        Multiplies C for the rows of a class.
    tol : float, default 1e-7
        Stop where ½‖gradient‖² is at most `tol` times the objective, checked in
        float64; it bounds the distance to the minimum up to the free intercept.
    max_iter : int, default 200
        Newton steps; a `HeadConvergenceWarning` says when they did not suffice.
    solver, device, memory_budget, dropout, dropout_copies, random_state
        As in `LinearSVM`.

    Attributes
    ----------
    coef_ : ndarray of shape (k, d), or (1, d) with two classes, float32 or float64
    intercept_ : ndarray of shape (k,) or (1,), float32 or float64
    classes_, n_iter_, objective_, solver_
        As in `LinearSVM`.

    References
    ----------
    Lin, Weng and Keerthi, "Trust region Newton method for logistic regression", JMLR
    2008; we search along the line in place of the trust region.
    """

    _kind = "softmax"

    def __init__(
        self,
        C: float = 1.0,
        *,
        fit_intercept: bool = True,
        class_weight: dict[Any, float] | str | None = None,
        tol: float = 1e-7,
        max_iter: int = 200,
        solver: str = "auto",
        device: str = "auto",
        memory_budget: int | None = None,
        dropout: float = 0.0,
        dropout_copies: int = 4,
        random_state: int | None = 0,
    ):
        self.C = C
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.tol = tol
        self.max_iter = max_iter
        self.solver = solver
        self.device = device
        self.memory_budget = memory_budget
        self.dropout = dropout
        self.dropout_copies = dropout_copies
        self.random_state = random_state

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Return probabilities (n, k), float32 or float64; every row sums to 1.

        Parameters
        ----------
        X : ndarray, Tensor or RowSource of shape (n, d), floating
            As for `decision_function`.
        """
        scores = self.decision_function(X)
        if scores.ndim == 1:
            scores = np.stack([-scores / 2, scores / 2], axis=1)  # (n, 2)
        return to_probabilities(scores)

    def predict_log_proba(self, X: Any) -> NDArray[Any]:
        """Return the logarithm (n, k) of `predict_proba`, at most 0."""
        return np.asarray(np.log(self.predict_proba(X)))
