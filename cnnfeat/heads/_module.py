"""A head as a torch module, to be recorded with the network that it belongs to."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnnfeat.heads._choices import HEAD_KINDS
from cnnfeat.heads._head import Head


class HeadModule(nn.Module):
    """The scaler and the linear classifier of a head, on features as they are stored.

    Parameters
    ----------
    head : Head

    Notes
    -----
    Gives what `predict` prints: probabilities of a softmax, decision values of others.
    Nearest neighbours, which look up training rows, are no such function.
    """

    coef: Tensor
    intercept: Tensor

    def __init__(self, head: Head) -> None:
        super().__init__()
        self._transform = head.transform
        self._is_softmax = HEAD_KINDS[head.kind].gives_probabilities
        self.register_buffer("coef", torch.as_tensor(head.coef).float())
        self.register_buffer("intercept", torch.as_tensor(head.intercept).float())

    def forward(self, features: Tensor) -> Tensor:
        """Return scores (m, n_classes), float32, of features (m, n_features)."""
        scores = self._transform.of_block(features) @ self.coef.T + self.intercept
        return scores.softmax(1) if self._is_softmax else scores
