"""Whether a difference between two results is more than luck. Numbers in, numbers out.

Over several splits of one data set the training rows overlap, so the splits are not
independent trials: the corrected resampled t-test of Nadeau and Bengio allows for that.
On one split the images are the trials: the sign of each image's disagreement is what
chance would decide. Of many comparisons Holm's procedure keeps the family's error.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr, stdtr, stdtrit

from cnnfeat.errors import DataError, ShapeError

_N_DRAWS = 10_000  # p-values and percentiles are then sure to about 0.4 points


@dataclass(frozen=True)
class Difference:
    """A difference of two accuracies, and how sure it is.

    Parameters
    ----------
    mean : float
        Of a - b, as a fraction.
    standard_error : float
        Of the mean; NaN where nothing tells it.
    low, high : float
        The confidence interval, as fractions; NaN likewise.
    p_value : float
        Two-sided, of no difference; NaN likewise.
    test : str
        Which test gave it, "" where none can.
    """

    mean: float
    standard_error: float
    low: float
    high: float
    p_value: float
    test: str

    @classmethod
    def untested(cls, mean: float) -> "Difference":
        """Return a difference whose spread nothing tells."""
        nan = float("nan")
        return cls(mean, nan, nan, nan, nan, "")


def split_difference(
    a: Sequence[float],
    b: Sequence[float],
    test_share: float,
    *,
    confidence: float = 0.95,
) -> Difference:
    """Compare two results over the same random splits of one data set.

    The pairs share their split, so that what makes a split hard cancels. With J splits
    the variance of the mean is (1/J + test_share) s², not s²/J: training sets that
    overlap make the differences of the splits alike.

    Parameters
    ----------
    a, b : sequences of the same number J of float
        Accuracies as fractions, split by split.
    test_share : float
        Test rows of a split per training row, n_test / n_train.
    confidence : float, default=0.95

    Returns
    -------
    Difference
        Of a - b, with J - 1 degrees of freedom. Untested for a single split, and where
        all differences are equal but not zero.

    Raises
    ------
    ShapeError
        If the two differ in length.
    DataError
        If there are no pairs, or `test_share` is not positive.

    References
    ----------
    Nadeau and Bengio, Inference for the Generalization Error, Machine Learning 52,
    2003, section 3 ("corrected resampled t-test").
    """
    if len(a) != len(b):
        raise ShapeError(f"{len(a)} and {len(b)} results are not pairs")
    if not len(a) or not test_share > 0:
        raise DataError(
            f"{len(a)} splits with {test_share} test rows per training row cannot be "
            "compared"
        )
    differences = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    mean, n_splits = float(differences.mean()), len(differences)
    if not differences.any():
        name = "corrected resampled t" if n_splits > 1 else ""
        return Difference(0.0, 0.0, 0.0, 0.0, 1.0, name)
    spread = float(differences.std(ddof=1)) if n_splits > 1 else 0.0
    # Differences that are equal but for rounding tell no spread either.
    if spread <= 1e-12:
        return Difference.untested(mean)
    error = spread * (1 / n_splits + test_share) ** 0.5
    freedom = n_splits - 1
    half = float(stdtrit(freedom, 0.5 + confidence / 2)) * error
    p_value = 2 * float(stdtr(freedom, -abs(mean) / error))
    return Difference(
        mean, error, mean - half, mean + half, p_value, "corrected resampled t"
    )


def image_difference(
    n_images: np.ndarray,
    only_a: np.ndarray,
    only_b: np.ndarray,
    *,
    per_class: bool,
    seed: int = 0,
    confidence: float = 0.95,
) -> Difference:
    """Compare two results on the same test images of one split.

    Of plain accuracy the test is McNemar's, exact. Of mean per-class accuracy it is the
    same idea with the weights of that mean: every image that one of the two gets right
    and the other wrong takes its side by the toss of a coin. The interval is the paired
    bootstrap's over images, drawn within each class for the mean over classes.

    Parameters
    ----------
    n_images : ndarray of shape (n_classes,), dtype=int
        Test images of each class.
    only_a, only_b : ndarray of shape (n_classes,), dtype=int
        Images of each class that only one of the two gets right.
    per_class : bool
        Whether the results are means over classes rather than over images.
    seed : int, default=0
        Of the 10,000 draws.
    confidence : float, default=0.95

    Returns
    -------
    Difference
        Of a - b.

    Raises
    ------
    DataError
        If there are no images, or more disagreements than images in a class.

    References
    ----------
    McNemar, Psychometrika 1947; Efron and Tibshirani, An Introduction to the
    Bootstrap, 1993, section 13.3 (percentiles).
    """
    counts = np.array([n_images, only_a, only_b], dtype=np.int64)
    if not counts[0].sum() or counts.min() < 0 or (counts[1:].sum(0) > counts[0]).any():
        raise DataError("there are more disagreements than images, or no images")
    counts = counts[:, counts[0] > 0] if per_class else counts.sum(1, keepdims=True)
    n, plus, minus = counts
    mean = float(((plus - minus) / n).mean())
    rng = np.random.default_rng(seed)
    shares = np.stack([plus, minus, n - plus - minus], axis=1) / n[:, None]
    drawn = rng.multinomial(n, shares, size=(_N_DRAWS, len(n)))
    means = ((drawn[..., 0] - drawn[..., 1]) / n).mean(axis=1)
    low, high = np.quantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2])
    if not per_class:
        p_value, name = _mcnemar(int(plus[0]), int(minus[0])), "McNemar, exact"
    else:
        tossed = rng.binomial(plus + minus, 0.5, size=(_N_DRAWS, len(n)))
        by_chance = ((2 * tossed - plus - minus) / n).mean(axis=1)
        # The rounding of the sums must not split ties.
        n_as_far = np.count_nonzero(np.abs(by_chance) >= abs(mean) - 1e-12)
        p_value, name = (1 + n_as_far) / (1 + _N_DRAWS), "signs of images"
    return Difference(
        mean, float(means.std(ddof=1)), float(low), float(high), p_value, name
    )


def _mcnemar(n_a: int, n_b: int) -> float:
    """Return the exact two-sided p of so many disagreements on each side."""
    total = n_a + n_b
    return min(1.0, 2 * float(bdtr(min(n_a, n_b), total, 0.5))) if total else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for being a family, in the order given.

    With these, the chance of calling even one true equality a difference is at most
    the level that each is held against, whatever the dependence between them. NaN
    stays NaN and does not count.

    References
    ----------
    Holm, Scandinavian Journal of Statistics 6, 1979.
    """
    given = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(len(given), np.nan)
    order = [k for k in np.argsort(given, kind="stable") if not np.isnan(given[k])]
    highest = 0.0
    for rank, k in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * given[k]))
        adjusted[k] = highest
    return [float(p) for p in adjusted]
