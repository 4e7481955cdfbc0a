"""How alike are two sets of features of the same images.

Most measures make a matrix (n, n) of each set, and are the cosine of the two matrices
as vectors; so they do not change when a set is rotated or scaled.

=================  =====================================================================
`cka`              linear CKA, unbiased: X Xᵀ, U-centred (Song et al. 2012, equation 5;
                   Kornblith et al. 2019; Nguyen et al. 2021, section 3)
`rsa-correlation`  ranks of 1 − r between images, r their correlation over features,
                   centred: Spearman's ρ (Kriegeskorte et al. 2008)
`rsa-euclidean`    the same of Euclidean distances
`rsa-cosine`       the same of 1 − cosine
`neighbours`       1 where an image is among the 10 nearest by cosine of another: the
                   share of nearest images that both have (Huh et al. 2024, section 2)
`procrustes`       ‖XᵀY‖ₙᵤ𝒸 / (‖X‖ ‖Y‖) of centred features: 1 − d² / 2, d the distance
                   after the best rotation (Schönemann 1966; Ding et al. 2021)
=================  =====================================================================
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import rankdata

_N_NEAREST = 10
LEAST = _N_NEAREST + 2  # images


def likeness_matrix(sets: Sequence[np.ndarray], measure: str) -> np.ndarray:
    """Return how alike each two sets of features are.

    Parameters
    ----------
    sets : sequence of ndarray of shape (n, d_i), floating
        Rows are the same images in each; n is at least `LEAST`.
    measure : str
        One of `MEASURES`.

    Returns
    -------
    ndarray of shape (k, k), dtype=float64
        Symmetric, 1 on the diagonal, at most 1; 0 for a set without any variation.
    """
    if measure == "procrustes":
        return _procrustes([_centred(X) for X in sets])
    make = _MATRICES[measure]
    vectors = np.stack([_unit(make(np.asarray(X, np.float64))) for X in sets])
    return _as_likeness(vectors @ vectors.T)


def _as_likeness(found: np.ndarray) -> np.ndarray:
    """Return a matrix without the last digits that rounding makes of 1."""
    found = np.minimum(found.astype(np.float64), 1.0)
    np.fill_diagonal(found, np.where(np.diag(found) > 0.5, 1.0, 0.0))
    return (found + found.T) / 2


def _unit(matrix: np.ndarray) -> np.ndarray:
    """Return a matrix as a vector of length 1, float32; zeros stay zeros."""
    vector = matrix.ravel()
    norm = float(np.linalg.norm(vector))
    return (vector / norm if norm > 0 else vector).astype(np.float32)


def _centred(X: np.ndarray) -> np.ndarray:
    X = X - X.mean(0, dtype=np.float64)
    norm = np.linalg.norm(X)
    return np.asarray(X / norm if norm > 0 else X)


def _u_centred_gram(X: np.ndarray) -> np.ndarray:
    X = X - X.mean(0)  # changes nothing but the rounding
    K = X @ X.T
    np.fill_diagonal(K, 0)
    n = len(K)
    rows = K.sum(0) / (n - 2)
    K -= rows[:, None] + rows
    K += rows.sum() / (n - 1)
    np.fill_diagonal(K, 0)
    return K


def _rows_of_length_1(X: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(X, axis=1, keepdims=True)
    return np.asarray(X / np.where(norms > 0, norms, 1.0))


def _ranks(D: np.ndarray) -> np.ndarray:
    """Return the centred ranks of distances (n, n), each pair of images once."""
    # Rounded, so that distances that are equal in truth share their rank.
    ranks = rankdata(np.round(D[np.triu_indices(len(D), 1)], 10))
    return np.asarray(ranks - ranks.mean())


def _correlation_ranks(X: np.ndarray) -> np.ndarray:
    return _cosine_ranks(X - X.mean(1, keepdims=True))


def _euclidean_ranks(X: np.ndarray) -> np.ndarray:
    X = X - X.mean(0)
    X /= np.linalg.norm(X) or 1.0
    squares = (X**2).sum(1)
    return _ranks(squares[:, None] + squares - 2 * X @ X.T)


def _cosine_ranks(X: np.ndarray) -> np.ndarray:
    Z = _rows_of_length_1(X)
    return _ranks(-Z @ Z.T)


def _nearest(X: np.ndarray) -> np.ndarray:
    Z = _rows_of_length_1(X)
    cosines = Z @ Z.T
    np.fill_diagonal(cosines, -np.inf)
    near = np.argpartition(-cosines, _N_NEAREST, axis=1)[:, :_N_NEAREST]
    found = np.zeros(cosines.shape)
    np.put_along_axis(found, near, 1.0, axis=1)
    return found


_MATRICES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "cka": _u_centred_gram,
    "rsa-correlation": _correlation_ranks,
    "rsa-euclidean": _euclidean_ranks,
    "rsa-cosine": _cosine_ranks,
    "neighbours": _nearest,
}


def _procrustes(sets: Sequence[np.ndarray]) -> np.ndarray:
    found = np.zeros((len(sets), len(sets)))
    for i, X in enumerate(sets):
        for j, Y in enumerate(sets[: i + 1]):
            found[i, j] = found[j, i] = np.linalg.norm(X.T @ Y, "nuc")
    return _as_likeness(found)


def half_sample_intervals(
    sets: Sequence[np.ndarray],
    value: np.ndarray,
    measure: str,
    *,
    n_draws: int,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the intervals of `likeness_matrix`, each (k, k).

    Percentiles of the deviations of draws of half the images, without repeats, from
    their mean: their spread is that of all images, and no image is its own neighbour,
    as it would be in draws with repeats (Efron 1982, section 8.2).

    Parameters
    ----------
    sets, measure
        As for `likeness_matrix`; twice as many images at least.
    value : ndarray of shape (k, k)
        What it returned.
    n_draws : int
    seed : int
    confidence : float
    """
    rng = np.random.default_rng(seed)
    n = len(sets[0])
    draws = []
    for _ in range(n_draws):
        rows = np.sort(rng.permutation(n)[: n // 2])
        draws.append(likeness_matrix([X[rows] for X in sets], measure))
    ends = [0.5 - confidence / 2, 0.5 + confidence / 2]
    deviations = np.stack(draws) - np.mean(draws, axis=0)
    low, high = value + np.quantile(deviations, ends, axis=0)
    return low, np.minimum(high, 1.0)
