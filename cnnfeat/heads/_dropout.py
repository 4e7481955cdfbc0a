"""DeCAF's dropout on the features, made into a data set that any head can be fitted to.

Donahue et al. 2013, section 4.1, drop half of the activations while the head is
trained. A convex head has no epochs to draw masks in, so the training rows are written
down `n_copies` times, each copy under masks of its own, and C is divided by `n_copies`:
the objective is then the mean over masks of the usual one. Kept features are multiplied
by 1 / (1 − p), so scoring needs no change.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cnnfeat.errors import DataError


def check_dropout(p: float, n_copies: int) -> None:
    """Raise DataError unless 0 <= p < 1 and n_copies >= 1."""
    if not 0 <= p < 1:
        raise DataError(f"dropout must be at least 0 and below 1, found {p!r}")
    if n_copies < 1:
        raise DataError(f"dropout_copies must be at least 1, found {n_copies!r}")


def drop_features(X: Tensor, p: float, n_copies: int, seed: int) -> Tensor:
    """Return copies of X with features dropped at rate p, and the rest scaled up.

    The masks come from a CPU generator, so that a seed gives the same masks on every
    device.

    Parameters
    ----------
    X : Tensor of shape (n, d), floating
    p : float
        In [0, 1).
    n_copies : int
        Of each row.
    seed : int

    Returns
    -------
    Tensor of shape (n_copies * n, d), dtype of X
        Copy after copy, each in the order of X.
    """
    generator = torch.Generator().manual_seed(seed)
    copies = X.repeat(n_copies, 1)
    for row in copies.split(1024):
        keep = torch.rand(row.shape, generator=generator) >= p
        row.mul_(keep.to(row.device)).div_(1 - p)
    return copies
