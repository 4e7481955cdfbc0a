"""Linear support vector machine, one class against the rest, all classes at once."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.svm import LinearSVC
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from cnnfeat.errors import DataError
from cnnfeat.heads._base import LinearHead
from cnnfeat.heads._losses import Loss, SquaredHinge
from cnnfeat.heads._validation import check_C


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
    loss : {"squared_hinge", "hinge"}
        "hinge" is handed to scikit-learn's LinearSVC, on one core.
    fit_intercept : bool, default True
    intercept_scaling : float, default 1.0
        Value of the constant feature, above 0.
    class_weight : dict or "balanced", optional
        Multiplies C for the rows of a class. With more than two classes it weighs that
        class's rows in its own problem, not among the rest, as LIBLINEAR does.
    tol : float, default 1e-6
        Stop where the duality gap is at most `tol` times the objective, for every
        class, checked in float64. The gap equals ½‖gradient‖² for this problem.
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
        Seed of the dropout masks, and of LIBLINEAR for "hinge".

    Attributes
    ----------
    coef_ : ndarray of shape (k, d), or (1, d) with two classes
    intercept_ : ndarray of shape (k,) or (1,)
    classes_ : ndarray of shape (k,)
    n_iter_ : int
    objective_ : float
        Sum of the objectives over the classes.
    solver_ : str

    References
    ----------
    Chapelle 2007, "Training a support vector machine in the primal". Hsieh et al.,
    ICML 2008 (the dual, hence the gap). Fan et al., JMLR 2008 (LIBLINEAR).
    """

    _kind = "svm"
    _penalise_intercept = True

    def __init__(
        self,
        C: float = 1.0,
        *,
        loss: str = "squared_hinge",
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
        self.loss = loss
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

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the SVM; see `LinearHead.fit` for the arguments and the errors."""
        if self.loss not in ("squared_hinge", "hinge"):
            raise DataError(
                f"loss must be 'squared_hinge' or 'hinge', found {self.loss!r}"
            )
        if not self.intercept_scaling > 0:
            raise DataError(
                f"intercept_scaling must be above 0, found {self.intercept_scaling!r}"
            )
        if self.loss == "hinge":
            return self._fit_hinge(X, y, sample_weight)
        return super().fit(X, y, sample_weight)

    def _fit_hinge(self, X: Any, y: ArrayLike, sample_weight: Any) -> Self:
        C = check_C(self.C)
        X, labels = self._check_training(X, y)
        if not isinstance(X, Tensor) or self.dropout:
            raise DataError("loss='hinge' takes features in memory, without dropout")
        svc = LinearSVC(
            C=C,
            loss="hinge",
            fit_intercept=self.fit_intercept,
            intercept_scaling=self.intercept_scaling,
            class_weight=self.class_weight,
            max_iter=100 * self.max_iter,
            random_state=self.random_state,
        ).fit(X.cpu().numpy(), labels, sample_weight)
        self.classes_, self.coef_ = svc.classes_, svc.coef_
        self.intercept_ = np.atleast_1d(svc.intercept_)
        self.n_iter_, self.solver_ = svc.n_iter_, "liblinear"
        return self

    def _intercept_value(self) -> float:
        return float(self.intercept_scaling) if self.fit_intercept else 0.0

    def _loss(
        self, index: Tensor, n_classes: int, C: float, weights: Tensor, dtype: Any
    ) -> Loss:
        if n_classes == 2:
            Y = (2 * index - 1)[:, None].to(dtype)
        else:
            classes = torch.arange(n_classes, device=index.device)
            Y = (index[:, None] == classes).to(dtype).mul_(2).sub_(1)
        cost = C * weights[:, None]
        if bool((weights == weights[0]).all()):
            cost = cost[:1]
        if self.class_weight is not None:
            labels = self.classes_[index.cpu().numpy()]
            factor = torch.as_tensor(
                compute_class_weight(
                    self.class_weight, classes=self.classes_, y=labels
                ),
                device=index.device,
            )
            own = factor[index][:, None]
            cost = cost * (own if n_classes == 2 else torch.where(Y > 0, own, 1.0))
        return SquaredHinge(Y, cost.to(dtype))
