"""What a head minimises and how it is solved, apart from C and the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from cnnfeat.errors import DataError
from cnnfeat.heads._dropout import check_dropout
from cnnfeat.heads._losses import Logistic, Loss, Multinomial, SquaredHinge

NAMES = {"svm": "LinearSVM", "softmax": "Softmax"}


@dataclass(frozen=True)
class Formulation:
    """The objective of one kind of head, and the settings of its solver.

    Parameters
    ----------
    kind : {"svm", "softmax"}
    tol : float
        Bound of ½‖gradient‖² as a part of the objective.
    max_iter : int
        Newton steps at most.
    intercept : float
        Value of the constant feature; 0 for no intercept.
    class_weight : dict or "balanced", optional
    dropout, dropout_copies, seed : float, int and int
        Rate of the masks, how many a row gets, and what draws them.
    solver : {"auto", "primal", "gram"}
    device : str
        As `device_of` takes it.
    memory_budget : int, optional
        Bytes that square matrices may take.

    Raises
    ------
    DataError
        For a kind, dropout rate or number of copies that there is not.
    """

    kind: str
    tol: float
    max_iter: int = 200
    intercept: float = 1.0
    class_weight: dict[Any, float] | str | None = None
    dropout: float = 0.0
    dropout_copies: int = 4
    seed: int = 0
    solver: str = "auto"
    device: str = "auto"
    memory_budget: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in NAMES:
            raise DataError(f"a head is one of {', '.join(NAMES)}; found {self.kind!r}")
        check_dropout(self.dropout, self.dropout_copies)

    @property
    def name(self) -> str:
        """The estimator's name, for messages."""
        return NAMES[self.kind]

    @property
    def penalises_intercept(self) -> bool:
        """Whether the intercept's weight is in ½‖w‖², as in LIBLINEAR's SVM."""
        return self.kind == "svm"

    def loss(
        self,
        index: Tensor,
        classes: NDArray[Any],
        cost: Tensor,
        dtype: torch.dtype,
        members: Tensor | None = None,
    ) -> Loss:
        """Return the loss of n rows; two classes share one column.

        Parameters
        ----------
        index : Tensor of shape (n,), dtype=int64
            Each row's place in `classes`.
        classes : ndarray of shape (n_classes,)
        cost : Tensor of shape (n,), dtype=float64
            C times the row's weight.
        dtype : torch.dtype
            Of the loss's arrays.
        members : Tensor of shape (n, n_folds), dtype=bool, optional
            Which rows each fold trains on: the problems of the folds stand side by
            side, and a row weighs nothing where it is held out. One of all rows
            without it.
        """
        if members is None:
            members = torch.ones_like(index[:, None], dtype=torch.bool)
        costs = cost[:, None] * members
        factors = self._class_factors(index, classes, members)
        make = _squared_hinge if self.kind == "svm" else _log_loss
        return make(index, len(classes), costs, factors, dtype)

    def _class_factors(
        self, index: Tensor, classes: NDArray[Any], members: Tensor
    ) -> Tensor | None:
        """Return what `class_weight` multiplies C by, (n, n_folds), if it is given."""
        if self.class_weight is None:
            return None
        own = []
        for fold in members.T:
            labels = classes[index[fold].cpu().numpy()]
            factor = compute_class_weight(
                self.class_weight, classes=np.unique(labels), y=labels
            )
            of_class = np.zeros(len(classes))
            of_class[np.searchsorted(classes, np.unique(labels))] = factor
            own.append(torch.as_tensor(of_class, device=index.device)[index])
        return torch.stack(own, 1)


def _squared_hinge(
    index: Tensor, n_classes: int, costs: Tensor, factors: Tensor | None, dtype: Any
) -> Loss:
    Y = _signs(index, n_classes, dtype)
    n_folds, k = costs.shape[1], Y.shape[1]
    if factors is None and n_folds == 1:
        # One entry broadcasts: a full (n, k) matrix of equal costs is never made.
        return SquaredHinge(Y, (costs[:1] if _are_equal(costs) else costs).to(dtype))
    # Of each fold its k columns, side by side.
    Y, costs = Y.repeat(1, n_folds), costs.repeat_interleave(k, 1)
    if factors is not None:
        own = factors.repeat_interleave(k, 1)
        # LIBLINEAR weighs a class's rows in that class's own problem alone.
        costs = costs * (own if n_classes == 2 else torch.where(Y > 0, own, 1.0))
    return SquaredHinge(Y, costs.to(dtype))


def _are_equal(costs: Tensor) -> bool:
    return bool((costs == costs[0, 0]).all())


def _log_loss(
    index: Tensor, n_classes: int, costs: Tensor, factors: Tensor | None, dtype: Any
) -> Loss:
    costs = (costs if factors is None else costs * factors).to(dtype)
    if n_classes == 2:
        return Logistic(_signs(index, 2, dtype).repeat(1, costs.shape[1]), costs)
    classes = torch.arange(n_classes, device=index.device)
    return Multinomial((index[:, None] == classes).to(dtype), costs)


def _signs(index: Tensor, n_classes: int, dtype: Any) -> Tensor:
    """Return ±1, (n, k), or (n, 1) with + for the second of two classes."""
    if n_classes == 2:
        return (2 * index - 1)[:, None].to(dtype)
    classes = torch.arange(n_classes, device=index.device)
    return (index[:, None] == classes).to(dtype).mul_(2).sub_(1)
