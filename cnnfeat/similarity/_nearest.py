"""The rows of a set that are nearest to a few others: exact, block by block."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cnnfeat.similarity._pairs import BLOCK_ROWS, unit_rows

DISTANCES = ("cosine", "euclidean")
_SPARE = 16  # kept beyond those asked for, as single precision may swap close ones
_BLOCK_BYTES = 2**26

# Gives rows (m,), any of a set, as an array (m, d).
ReadRows = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Nearest:
    """The rows nearest to each query, the nearest first.

    Parameters
    ----------
    rows : ndarray of shape (n_queries, k), dtype=int64
        Equal ones in their order; where more are equal than are kept, any of them.
    values : ndarray of shape (n_queries, k), dtype=float64
        Cosines, descending, or Euclidean distances, ascending.
    """

    rows: np.ndarray
    values: np.ndarray


def nearest_rows(
    queries: np.ndarray,
    read: ReadRows,
    n: int,
    *,
    k: int,
    distance: str = "cosine",
    skipped: np.ndarray | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Nearest:
    """Return the k rows of a set that are nearest to each query.

    All are compared in single precision, block by block; those that come near are read
    again and compared in double precision.

    Parameters
    ----------
    queries : ndarray of shape (n_queries, d), floating
    read : callable (rows) -> ndarray of shape (m, d), floating
        Called with rows in ascending order.
    n : int
        Rows of the set; more than k, or k where none is skipped.
    k : int
        1 or more.
    distance : {"cosine", "euclidean"}
        The cosine with a row of zeros is 0.
    skipped : ndarray of shape (n_queries,), dtype=int, optional
        A row that each query is not compared with, itself for example; -1 for none.
    progress : callable (n_done, n), optional
        Called after each block of rows.

    Returns
    -------
    Nearest
    """
    if skipped is None:
        skipped = np.full(len(queries), -1)
    near, least = _candidates(queries, read, n, (k, distance, skipped), progress)
    rows = np.empty((len(queries), k), np.int64)
    values = np.empty((len(queries), k))
    for i, query in enumerate(queries):
        own = np.sort(near[i][np.isfinite(least[i])])
        exact = _exact(query, read(own), distance)
        order = np.argsort(exact, kind="stable")[:k]
        rows[i], values[i] = own[order], exact[order]
    return Nearest(rows, -values if distance == "cosine" else values)


def _candidates(
    queries: np.ndarray,
    read: ReadRows,
    n: int,
    asked: tuple[int, str, np.ndarray],
    progress: Callable[[int, int], None] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows (n_queries, k + spare) that come near, and how near."""
    k, distance, skipped = asked
    n_kept = min(k + _SPARE, n)
    # Around their mean numbers are small, and so is what rounding does to them.
    middle = queries.mean(0) if distance == "euclidean" else np.zeros(1, np.float32)
    Q = queries - middle if distance == "euclidean" else unit_rows(queries)
    near = np.zeros((len(Q), 0), np.int64)
    least = np.zeros((len(Q), 0), np.float32)
    size = min(BLOCK_ROWS, max(1, _BLOCK_BYTES // (4 * queries.shape[1])))
    for start in range(0, n, size):
        rows = np.arange(start, min(start + size, n))
        X = read(rows)
        X = X - middle if distance == "euclidean" else unit_rows(X)
        found = -(Q @ X.T)
        if distance == "euclidean":
            found = 2 * found + np.einsum("ij,ij->i", X, X)  # less |q|², which is one
        found[skipped[:, None] == rows] = np.inf
        near = np.concatenate([near, np.broadcast_to(rows, found.shape)], axis=1)
        least = np.concatenate([least, found], axis=1)
        if least.shape[1] > n_kept:
            kept = np.argpartition(least, n_kept - 1, axis=1)[:, :n_kept]
            near = np.take_along_axis(near, kept, axis=1)
            least = np.take_along_axis(least, kept, axis=1)
        if progress:
            progress(int(rows[-1]) + 1, n)
    return near, least


def _exact(query: np.ndarray, X: np.ndarray, distance: str) -> np.ndarray:
    """Return minus the cosines, or the distances, of rows: float64 (m,)."""
    q, X = query.astype(np.float64), X.astype(np.float64)
    if distance == "euclidean":
        far: np.ndarray = np.linalg.norm(X - q, axis=1)
        return far
    norms = np.linalg.norm(X, axis=1) * np.linalg.norm(q)
    cosines: np.ndarray = (X @ q) / np.where(norms > 0, norms, 1.0)
    return -np.minimum(cosines, 1.0)
