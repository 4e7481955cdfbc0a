"""Pairs of rows whose cosine is high: exact, block against block, memory flat."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

BLOCK_ROWS = 4096
MOST_PAIRS = 100_000  # kept: of more the nearest

# Gives rows start to stop of a set as an array (m, d).
ReadRows = Callable[[int, int], np.ndarray]


@dataclass(frozen=True, eq=False)
class NearPairs:
    """Pairs of rows, the nearest first.

    Parameters
    ----------
    rows : ndarray of shape (n_pairs, 2), dtype=int64
        Of the first set and of the second; of one set each pair once, ascending.
    cosines : ndarray of shape (n_pairs,), dtype=float32
    threshold : float
        Every pair of at least this cosine is there. Higher than what was asked for
        where there were more than `MOST_PAIRS`.
    """

    rows: np.ndarray
    cosines: np.ndarray
    threshold: float


def near_pairs(
    read: ReadRows,
    n: int,
    other: ReadRows | None = None,
    m: int = 0,
    *,
    threshold: float,
    progress: Callable[[int, int], None] | None = None,
) -> NearPairs:
    """Return the pairs of rows whose cosine is at least `threshold`.

    Parameters
    ----------
    read : callable (start, stop) -> ndarray of shape (stop - start, d), floating
        Gives rows of the first set, n in all. It is read once, and then once for each
        block of `BLOCK_ROWS` rows.
    n : int
    other, m : callable and int, optional
        The second set; without it the first is held against itself.
    threshold : float
        From 0 to 1.
    progress : callable (n_done, n_all), optional
        Called after each block of pairs.

    Returns
    -------
    NearPairs
    """
    is_one = other is None
    other, m = (read, n) if other is None else (other, m)
    starts, others = range(0, n, BLOCK_ROWS), range(0, m, BLOCK_ROWS)
    n_all = sum(1 for i in starts for j in others if not is_one or j >= i)
    kept = NearPairs(np.empty((0, 2), np.int64), np.empty(0, np.float32), threshold)
    n_done = 0
    for i in starts:
        A = unit_rows(read(i, min(i + BLOCK_ROWS, n)))
        for j in others:
            if is_one and j < i:
                continue
            own = is_one and i == j
            B = A if own else unit_rows(other(j, min(j + BLOCK_ROWS, m)))
            kept = _with(kept, _of_blocks(A, B, kept.threshold, own), (i, j))
            n_done += 1
            if progress:
                progress(n_done, n_all)
    order = np.lexsort((kept.rows[:, 1], kept.rows[:, 0], -kept.cosines))
    return NearPairs(kept.rows[order], kept.cosines[order], kept.threshold)


def unit_rows(X: np.ndarray) -> np.ndarray:
    """Return rows (n, d) at unit length, float32; a row of zeros stays zero."""
    norms = np.linalg.norm(X.astype(np.float64), axis=1, keepdims=True)
    return (X / np.where(norms > 0, norms, 1.0)).astype(np.float32)


def _of_blocks(
    A: np.ndarray, B: np.ndarray, threshold: float, own: bool
) -> tuple[np.ndarray, np.ndarray]:
    cosines = A @ B.T
    near = cosines >= threshold
    if own:
        near = np.triu(near, 1)
    rows = np.argwhere(near)
    return rows, cosines[rows[:, 0], rows[:, 1]]


def _with(
    kept: NearPairs, found: tuple[np.ndarray, np.ndarray], at: tuple[int, int]
) -> NearPairs:
    rows, cosines = found
    if not len(rows):
        return kept
    rows = np.concatenate([kept.rows, rows + np.array(at)])
    cosines = np.concatenate([kept.cosines, cosines])
    if len(rows) <= MOST_PAIRS:
        return NearPairs(rows, cosines, kept.threshold)
    # All that tie with the last one go, so that what is kept is complete.
    least = float(np.partition(cosines, len(rows) - MOST_PAIRS - 1)[-MOST_PAIRS - 1])
    threshold = float(np.nextafter(np.float32(least), np.float32(2)))
    inside = cosines >= threshold
    return NearPairs(rows[inside], cosines[inside], threshold)
