"""Heads of kept rows: the means of classes, and nearest neighbours that vote.

A head of nearest neighbours keeps all training rows. Class means are rows of the same
kind, each with a class of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnfeat.errors import DataError
from cnnfeat.heads._linear import LinearFit
from cnnfeat.heads._nearest import log_votes, nearest
from cnnfeat.heads._transform import row_blocks
from cnnfeat.heads._votes import Neighbours
from cnnfeat.metrics import mean_per_class_accuracy
from cnnfeat.splits import Split

K_GRID = (1, 2, 5, 10, 20, 50, 100, 200)
TEMPERATURES = (0.01, 0.02, 0.05, 0.07, 0.1, 0.2, 1.0)  # for rows of unit length


@dataclass(frozen=True, eq=False)
class NeighbourChoice:
    """The chosen k and temperature, and what was seen.

    `scores` are the mean per-class accuracies on the held-out rows of all folds, by
    (k, temperature).
    """

    k: int
    temperature: float
    scores: dict[tuple[int, float], float]


def fit_neighbours(
    Z: Tensor, y: NDArray[Any], folds: Sequence[Split]
) -> tuple[LinearFit, NeighbourChoice]:
    """Choose k and the temperature on held-out rows, and keep all rows.

    Of settings that score alike the one of fewest neighbours is taken, and of these the
    one of the lowest temperature.

    Parameters
    ----------
    Z : Tensor of shape (n, d), floating
        Transformed features of the training rows.
    y : ndarray of shape (n,)
        Labels of any kind that NumPy can sort.
    folds : sequence of Split
        Positions among the rows.

    Raises
    ------
    DataError
        If there are no folds.
    """
    if not folds:
        raise DataError(
            "nearest neighbours need rows to choose k and the temperature on; draw "
            "them with cnnfeat.splits.inner_positions"
        )
    Z = Z.float().cpu()
    classes, index = np.unique(y, return_inverse=True)
    offset = _offsets(Z)
    # As for the grid of C: temperatures follow the scale of the features.
    square = -2 * float(offset.double().mean())
    unit = 10.0 ** round(np.log10(square)) if 0 < square < np.inf else 1.0
    grid = [
        (k, T * unit)
        for k, T in product(_k_grid(folds), TEMPERATURES)
        if k > 1 or TEMPERATURES[0] == T  # one neighbour's vote has no weight
    ]
    choice = _choose(Z, offset, index, folds, grid)
    told = Neighbours(index, len(classes), choice.k, choice.temperature)
    fit = LinearFit.of_rows("knn", classes, Z.numpy(), offset.numpy(), told)
    return fit, choice


def _k_grid(folds: Sequence[Split]) -> list[int]:
    most = min(len(fold.train) for fold in folds)
    return [k for k in K_GRID if k <= most] or [1]


def _choose(
    Z: Tensor,
    offset: Tensor,
    index: NDArray[np.int64],
    folds: Sequence[Split],
    grid: Sequence[tuple[int, float]],
) -> NeighbourChoice:
    n_classes, k_most = int(index.max()) + 1, max(k for k, _ in grid)
    right: dict[tuple[int, float], list[NDArray[np.bool_]]] = {one: [] for one in grid}
    for fold in folds:
        train = torch.as_tensor(fold.train)
        values, found = nearest(Z[fold.test], Z[train], offset[train], k_most)
        labels, truth = index[fold.train][found], index[fold.test]
        for k, T in grid:
            votes = log_votes(values[:, :k], labels[:, :k], n_classes, T)
            right[k, T].append(votes.argmax(1) == truth)
    held = np.concatenate([index[fold.test] for fold in folds])
    scores = {
        one: mean_per_class_accuracy(held, np.concatenate(parts), n_classes)
        for one, parts in right.items()
    }
    k, T = max(grid, key=lambda one: (scores[one], -one[0], -one[1]))
    return NeighbourChoice(k, T, scores)


def fit_means(Z: Any, y: NDArray[Any]) -> LinearFit:
    """Return the head whose rows are the means of the classes.

    Its scores are x·m − ½‖m‖², the nearest mean's the largest. With the mean of the
    training rows taken off and rows of unit length it is SimpleShot's CL2N (Wang et al.
    2019, arXiv 1911.04623, section 3).

    Parameters
    ----------
    Z : Tensor or RowSource of shape (n, d), floating
        Transformed features of the training rows.
    y : ndarray of shape (n,)
    """
    classes, index = np.unique(y, return_inverse=True)
    totals = torch.zeros(len(classes), int(Z.shape[1]), dtype=torch.float64)
    for rows, block in row_blocks(Z):
        totals.index_add_(0, torch.as_tensor(index[rows]), block.double().cpu())
    counts = torch.as_tensor(np.bincount(index))[:, None]
    means = (totals / counts).float()
    return LinearFit.of_rows("ncm", classes, means.numpy(), _offsets(means).numpy())


def _offsets(rows: Tensor) -> Tensor:
    """Return −½‖row‖² (n,) of rows (n, d)."""
    squares = [block.double().square().sum(1) for _, block in row_blocks(rows)]
    return -0.5 * torch.cat(squares).float()
