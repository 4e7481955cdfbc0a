"""The nearest of many rows, exactly and block by block, and their votes for classes.

Near is measured by s(x, z) = x·z − ½‖z‖², which is −½‖x − z‖² but for what depends on
x alone. For rows of unit length it orders as the cosine does. A neighbour votes for its
class with the weight exp(s / T), T the temperature: Wu et al. 2018, section 3.4, as in
DINO.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnfeat.heads._votes import Neighbours

# Scores of a block of rows with all neighbours: 64 MiB, which stays near the processor.
BLOCK_SCORES = 2**24


def nearest(
    X: Tensor, rows: Tensor, offset: Tensor, k: int
) -> tuple[Tensor, NDArray[np.int64]]:
    """Return the k largest of s = X @ rows.T + offset, the largest first.

    Parameters
    ----------
    X : Tensor of shape (m, d), floating
    rows : Tensor of shape (n, d), of X's dtype
    offset : Tensor of shape (n,)
        −½‖row‖² for the nearest by distance.
    k : int
        All n rows at most.

    Returns
    -------
    Tensor of shape (m, k)
        s, descending.
    ndarray of shape (m, k), dtype=int64
        Which rows.
    """
    k, step = min(k, len(rows)), max(1, BLOCK_SCORES // max(1, len(rows)))
    values, found = X.new_empty(len(X), k), np.empty((len(X), k), np.int64)
    for start in range(0, len(X), step):
        block = slice(start, start + step)
        scores = torch.addmm(offset, X[block], rows.T)
        values[block], at = scores.topk(k)
        found[block] = at.numpy()
    return values, found


def log_votes(
    near: Tensor, labels: NDArray[np.int64], n_classes: int, temperature: float
) -> NDArray[np.float64]:
    """Return the logarithm of each class's share of the votes, −inf for none.

    Parameters
    ----------
    near : Tensor of shape (m, k)
        s of the neighbours, descending.
    labels : ndarray of shape (m, k), dtype=int64
        Their classes.
    n_classes : int
    temperature : float
        Above 0.

    Returns
    -------
    ndarray of shape (m, n_classes), dtype=float64
    """
    weights = ((near - near[:, :1]).double() / temperature).exp()
    votes = torch.zeros(len(near), n_classes, dtype=torch.float64)
    votes.scatter_add_(1, torch.as_tensor(labels), weights)
    return (votes / weights.sum(1, keepdim=True)).log().numpy()


def neighbour_scores(
    X: NDArray[Any], coef: NDArray[Any], intercept: NDArray[Any], told: Neighbours
) -> NDArray[np.float64]:
    """Return the log-probabilities (m, n_classes) of transformed features X (m, d)."""
    rows, offset = torch.as_tensor(coef), torch.as_tensor(intercept)
    Z = torch.as_tensor(X, dtype=rows.dtype)
    values, found = nearest(Z, rows, offset, told.k)
    classes = told.labels[found]
    return log_votes(values, classes, told.n_classes, told.temperature)


def nearest_cosines(X: Any, rows: Any, k: int) -> NDArray[np.float64]:
    """Return the mean cosine (m,) of unit rows X (m, d) to their k nearest of `rows`.

    Parameters
    ----------
    X, rows : ndarrays of shape (m, d) and (n, d), dtype=float32
        Of unit length.
    k : int
    """
    others = torch.as_tensor(rows)
    values, _ = nearest(torch.as_tensor(X), others, torch.zeros(len(others)), k)
    return values.double().mean(1).numpy()
