"""What a head minimises and how it is solved, apart from C and the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
        self, index: Tensor, classes: NDArray[Any], cost: Tensor, dtype: torch.dtype
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
        """
        make = _squared_hinge if self.kind == "svm" else _log_loss
        factor = None
        if self.class_weight is not None:
            labels = classes[index.cpu().numpy()]
            factor = torch.as_tensor(
                compute_class_weight(self.class_weight, classes=classes, y=labels),
                device=index.device,
            )[index]
        return make(index, len(classes), cost, factor, dtype)


def _squared_hinge(
    index: Tensor, n_classes: int, cost: Tensor, factor: Tensor | None, dtype: Any
) -> Loss:
    Y = _signs(index, n_classes, dtype)
    costs = cost[:, None]
    # One entry broadcasts: a full (n, k) matrix of equal costs is never made.
    if bool((cost == cost[0]).all()):
        costs = costs[:1]
    if factor is not None:
        own = factor[:, None]
        # LIBLINEAR weighs a class's rows in that class's own problem alone.
        costs = costs * (own if n_classes == 2 else torch.where(Y > 0, own, 1.0))
    return SquaredHinge(Y, costs.to(dtype))


def _log_loss(
    index: Tensor, n_classes: int, cost: Tensor, factor: Tensor | None, dtype: Any
) -> Loss:
    costs = (cost if factor is None else cost * factor)[:, None].to(dtype)
    if n_classes == 2:
        return Logistic(_signs(index, 2, dtype), costs)
    classes = torch.arange(n_classes, device=index.device)
    return Multinomial((index[:, None] == classes).to(dtype), costs)


def _signs(index: Tensor, n_classes: int, dtype: Any) -> Tensor:
    """Return ±1, (n, k), or (n, 1) with + for the second of two classes."""
    if n_classes == 2:
        return (2 * index - 1)[:, None].to(dtype)
    classes = torch.arange(n_classes, device=index.device)
    return (index[:, None] == classes).to(dtype).mul_(2).sub_(1)
