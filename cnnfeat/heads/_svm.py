"""Linear support vector machine, one class against the rest, all classes at once."""

from __future__ import annotations

from typing import Any

from cnnfeat.errors import DataError
from cnnfeat.heads._base import LinearHead


class LinearSVM(LinearHead):
    """Linear SVM in LIBLINEAR's convention, solved for all classes together.

    For every class, with y = ±1 and x the features followed by `intercept_scaling`:

        minimise  ½‖w‖² + C Σ weight max(0, 1 − y w·x)²

    The intercept is penalised, as in LIBLINEAR and scikit-learn's LinearSVC. Two
    classes give one problem. C depends on the scale of the features: multiplying them
    (and `intercept_scaling`) by s equals multiplying C by s².

    Parameters
    ----------
    C : float, default 1.0
        Weight of the loss, above 0.
    fit_intercept : bool, default True
    intercept_scaling : float, default 1.0
        Value of the constant feature, above 0.
    class_weight : dict or "balanced", optional
        Multiplies C for the rows of a class. With more than two classes it weighs that
        class's rows in its own problem, not among the rest, as LIBLINEAR does.
    tol : float, default 1e-6
        Stop where the duality gap is at most `tol` times the objective, for every
        class, checked in float64. The gap equals ½‖gradient‖² for this problem. Weights
        are then rounded to the features' dtype: docs/solver.md says what that adds.
    max_iter : int, default 200
        Newton steps; a `HeadConvergenceWarning` says when they did not suffice.
    solver : {"auto", "primal", "gram"}
        The side to solve on; "auto" counts the cost. `solver_` tells the choice.
    device : str, default "auto"
        "auto" is a tensor's own device, and the CPU for arrays.
    memory_budget : int, optional
        Bytes that Gram matrices may take.
    dropout, dropout_copies : float and int
        DeCAF's dropout on the features, see `cnnfeat.heads._dropout`.
    random_state : int, default 0
        Seed of the dropout masks.

    Attributes
    ----------
    coef_ : ndarray of shape (k, d), or (1, d) with two classes, float32 or float64
    intercept_ : ndarray of shape (k,) or (1,), float32 or float64
    classes_ : ndarray of shape (k,), dtype of the labels
    n_iter_ : int
    objective_ : float
        Sum of the objectives over the classes.
    solver_ : {"primal", "gram"}

    References
    ----------
    Chapelle 2007, "Training a support vector machine in the primal". Hsieh et al.,
    ICML 2008 (the dual, hence the gap). Fan et al., JMLR 2008 (LIBLINEAR).
    """

    _kind = "svm"

    def __init__(
        self,
        C: float = 1.0,
        *,
        fit_intercept: bool = True,
        intercept_scaling: float = 1.0,
        class_weight: dict[Any, float] | str | None = None,
        tol: float = 1e-6,
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
        self.intercept_scaling = intercept_scaling
        self.class_weight = class_weight
        self.tol = tol
        self.max_iter = max_iter
        self.solver = solver
        self.device = device
        self.memory_budget = memory_budget
        self.dropout = dropout
        self.dropout_copies = dropout_copies
        self.random_state = random_state

    def _constant(self) -> float:
        if not self.intercept_scaling > 0:
            raise DataError(
                f"intercept_scaling must be above 0, found {self.intercept_scaling!r}"
            )
        return float(self.intercept_scaling) if self.fit_intercept else 0.0
