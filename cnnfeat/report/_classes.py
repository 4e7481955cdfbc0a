"""Classes as plots and pages show them: their order, their shares, short names."""

from __future__ import annotations

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from cnnfeat.shown import visible_text


def confusion_shares(confusion: np.ndarray) -> np.ndarray:
    """Return each row divided by its sum, float64 of the same shape, in [0, 1].

    The row of a class without images stays zero.
    """
    confusion = np.asarray(confusion, dtype=float)
    totals = confusion.sum(axis=1, keepdims=True)
    shares: np.ndarray = np.divide(
        confusion, totals, out=np.zeros_like(confusion), where=totals > 0
    )
    return shares


def similarity_order(confusion: np.ndarray) -> np.ndarray:
    """Return the classes so that those taken for one another are neighbours.

    The leaves of an average-linkage tree, turned so that neighbours are as alike as
    they can be. Two classes are as alike as the mean share of either that is taken for
    the other.

    Parameters
    ----------
    confusion : ndarray of shape (n_classes, n_classes), integer
        Counts; rows true class, columns predicted class.

    Returns
    -------
    ndarray of shape (n_classes,), dtype=int32
        Class indices.

    References
    ----------
    Bar-Joseph, Gifford and Jaakkola 2001, "Fast optimal leaf ordering for hierarchical
    clustering".
    """
    if len(confusion) < 2:
        return np.arange(len(confusion), dtype=np.int32)
    shares = confusion_shares(confusion)
    distance = 1 - (shares + shares.T) / 2
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance), method="average", optimal_ordering=True)
    order: np.ndarray = leaves_list(tree)
    return order


def shorten(name: str, length: int) -> str:
    """Return a name on one line, its middle cut out if it is too long."""
    name = visible_text(name)
    if len(name) <= length:
        return name
    tail = (length - 1) // 2
    return f"{name[: length - 1 - tail]}…{name[-tail:]}"
