"""What is minimised: the loss of scores X W, and a penalty on the weights W."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from cnnfeat.heads._losses import Loss
from cnnfeat.heads._rows import Rows


@dataclass(frozen=True)
class Objective:
    """½ Σ penalty · W² + loss(X W), of weights W (p, k).

    Parameters
    ----------
    rows : Rows
        X: n rows of p features.
    loss : Loss
        Of scores (n, k).
    penalty : Tensor of shape (p, 1), floating
        0 or 1. Its dtype is the one that directions are computed in.
    """

    rows: Rows
    loss: Loss
    penalty: Tensor
