"""How good a head is, and how sure that is. Arrays in, numbers out.

Both plain and mean per-class accuracy are always computed: on a data set with classes
of different size they are different numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from cnnfeat.errors import DataError, ShapeError


@dataclass(frozen=True, eq=False)
class Scores:
    """What one head achieves on one set of rows; accuracies are fractions.

    Parameters
    ----------
    n_images, n_classes : int
    accuracy : float
        Fraction of rows whose highest score is the true class's.
    top_5_accuracy : float
        Fraction of rows whose true class is among the five highest scores; with fewer
        than five classes among all of them, and so 1.
    mean_per_class_accuracy : float
        Mean over the classes that have rows.
    per_class_accuracy : ndarray of shape (n_classes,), dtype=float64
        NaN for a class without rows.
    confusion : ndarray of shape (n_classes, n_classes), dtype=int64
        Rows are true classes, columns predicted ones.
    predicted : ndarray of shape (n_images,), dtype=int64
    """

    n_images: int
    n_classes: int
    accuracy: float
    top_5_accuracy: float
    mean_per_class_accuracy: float
    per_class_accuracy: np.ndarray
    confusion: np.ndarray
    predicted: np.ndarray


def evaluate_scores(scores: np.ndarray, y: np.ndarray, n_classes: int) -> Scores:
    """Return every accuracy of the scores.

    Of equal scores the class of the lower index goes first, in top-1 and top-5 alike:
    top-1 equals the argmax, and all-equal scores give no accuracy for free.

    Parameters
    ----------
    scores : ndarray of shape (n_images, n_classes), floating
        Decision values or logits, any scale; infinities are ordered like numbers.
    y : ndarray of shape (n_images,), dtype=int
        True classes in [0, n_classes).
    n_classes : int
        All that the head knows, with rows or without.

    Raises
    ------
    ShapeError
        If the shapes do not agree.
    DataError
        If there are no rows, a score is NaN, or a label is outside the classes.
    """
    scores, y = np.asarray(scores), np.asarray(y)
    _check(scores, y, n_classes)
    rows = np.arange(len(y))
    own = scores[rows, y][:, None]
    before = np.arange(n_classes) < y[:, None]
    # How many classes are ranked above the true one.
    rank = ((scores > own) | ((scores == own) & before)).sum(axis=1)
    predicted = scores.argmax(axis=1)
    confusion = np.zeros((n_classes, n_classes), dtype=np.int64)
    np.add.at(confusion, (y, predicted), 1)
    correct = predicted == y
    return Scores(
        n_images=len(y),
        n_classes=n_classes,
        accuracy=float(np.mean(rank == 0)),
        top_5_accuracy=float(np.mean(rank < 5)),
        mean_per_class_accuracy=mean_per_class_accuracy(y, correct, n_classes),
        per_class_accuracy=per_class_accuracy(y, correct, n_classes),
        confusion=confusion,
        predicted=predicted.astype(np.int64),
    )


def best_two(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the best class and the runner-up of each row, and their scores.

    Of equal scores the class of the lower index goes first, as in `evaluate_scores`.

    Parameters
    ----------
    scores : ndarray of shape (n_images, n_classes), floating

    Returns
    -------
    ndarray of shape (n_images, 2), dtype=int64
        -1 where there is no second class, or its score is -inf.
    ndarray of shape (n_images, 2), floating
    """
    scores = np.asarray(scores)
    if scores.shape[1] < 2:
        scores = np.pad(scores, ((0, 0), (0, 1)), constant_values=-np.inf)
    ranked = np.argsort(-scores, axis=1, kind="stable")[:, :2]
    best = np.take_along_axis(scores, ranked, axis=1)
    return np.where(np.isneginf(best), -1, ranked).astype(np.int64), best


def per_class_accuracy(
    y: np.ndarray, correct: np.ndarray, n_classes: int
) -> np.ndarray:
    """Return the fraction of each class's rows that are correct.

    Parameters
    ----------
    y : ndarray of shape (n_images,), dtype=int
        True classes in [0, n_classes).
    correct : ndarray of shape (n_images,), dtype=bool
        Whether the class predicted is the true one.
    n_classes : int

    Returns
    -------
    ndarray of shape (n_classes,), dtype=float64
        NaN for a class without rows.
    """
    counts = np.bincount(y, minlength=n_classes)
    fractions = np.full(n_classes, np.nan)
    hits = np.bincount(y[correct], minlength=n_classes)
    return np.divide(hits, counts, out=fractions, where=counts > 0)


def mean_per_class_accuracy(
    y: np.ndarray, correct: np.ndarray, n_classes: int
) -> float:
    """Return the mean of `per_class_accuracy` over the classes that have rows.

    Parameters
    ----------
    y : ndarray of shape (n_images,), dtype=int
    correct : ndarray of shape (n_images,), dtype=bool
    n_classes : int
        These three as for `per_class_accuracy`.
    """
    return float(np.nanmean(per_class_accuracy(y, correct, n_classes)))


def _check(scores: np.ndarray, y: np.ndarray, n_classes: int) -> None:
    if scores.ndim != 2 or y.ndim != 1 or scores.shape != (len(y), n_classes):
        raise ShapeError(
            f"scores {scores.shape} and labels {y.shape} do not agree with each other "
            f"and {n_classes} classes"
        )
    if not len(y):
        raise DataError("there are no rows to score")
    if np.isnan(scores).any():
        row = int(np.flatnonzero(np.isnan(scores).any(axis=1))[0])
        raise DataError(f"a score of row {row} is not a number")
    if y.min() < 0 or y.max() >= n_classes:
        raise DataError(
            f"labels go from {y.min()} to {y.max()}, but there are {n_classes} classes"
        )


def mean_std(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the sample standard deviation (n - 1) of results over splits.

    The deviation is NaN for a single value: one split says nothing about its spread.

    Raises
    ------
    DataError
        If there are no values.
    """
    if not len(values):
        raise DataError("there are no results to average")
    array = np.asarray(values, dtype=np.float64)
    std = float(array.std(ddof=1)) if len(array) > 1 else float("nan")
    return float(array.mean()), std


def wilson_interval(
    n_correct: int, n_images: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the interval in which the accuracy of one split lies.

    It holds for images drawn independently, and stays inside [0, 1] where the usual
    p ± z sqrt(p (1 - p) / n) does not.

    Raises
    ------
    DataError
        If there are no images, or more correct ones than images.

    References
    ----------
    Wilson, JASA 1927; Brown, Cai and DasGupta, Statistical Science 2001, eq. 4.
    """
    if n_images < 1 or not 0 <= n_correct <= n_images:
        raise DataError(f"{n_correct} correct of {n_images} is no accuracy")
    return _wilson(n_correct / n_images, n_images, confidence)


def mean_per_class_interval(
    fractions: np.ndarray, counts: np.ndarray, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the interval in which the mean per-class accuracy of one split lies.

    Classes are strata that were drawn from one by one. The variance of their mean is
    estimated without bias, and Wilson's interval is taken of as many images as would
    have it if they were drawn from one class. Classes are those at hand: it says
    nothing of others.

    Parameters
    ----------
    fractions : ndarray of shape (n_classes,), floating
        `per_class_accuracy`; NaN for a class without rows.
    counts : ndarray of shape (n_classes,), dtype=int
        Rows of each class.
    confidence : float, default=0.95

    Raises
    ------
    DataError
        If no class has rows.

    References
    ----------
    Franco, Little, Louis and Slud, "Comparative study of confidence intervals for
    proportions in complex sample surveys", Journal of Survey Statistics and Methodology
    7, 2019. A class of one row, whose variance nobody can estimate, gets that of the
    mean.
    """
    p, n = fractions[counts > 0], counts[counts > 0].astype(float)
    if not len(p):
        raise DataError("no class has rows")
    mean = float(p.mean())
    spread = np.where(n > 1, p * (1 - p) / np.maximum(n - 1, 1), mean * (1 - mean))
    variance = float(spread.sum()) / len(p) ** 2
    # Where no row is wrong, or all are, as if each class were alike.
    alike = len(p) ** 2 / float((1 / n).sum())
    n_images = mean * (1 - mean) / variance if variance else alike
    return _wilson(mean, n_images, confidence)


def _wilson(p: float, n: float, confidence: float) -> tuple[float, float]:
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)
