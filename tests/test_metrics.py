"""Metrics agree with scikit-learn's and with counting by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn import metrics as reference

from cnnfeat.errors import DataError, ShapeError
from cnnfeat.metrics import (
    evaluate_scores,
    mean_per_class_interval,
    mean_std,
    wilson_interval,
)


@st.composite
def problems(draw):
    k = draw(st.integers(2, 9))
    n = draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    # Few distinct values, so that ties are common.
    return rng.integers(0, 4, (n, k)).astype(np.float32), rng.integers(0, k, n), k


@settings(deadline=None, max_examples=60)
@given(problems())
def test_against_scikit_learn_and_sorting(problem):
    scores, y, k = problem
    result = evaluate_scores(scores, y, k)
    predicted = scores.argmax(axis=1)
    np.testing.assert_array_equal(result.predicted, predicted)
    assert result.accuracy == pytest.approx(reference.accuracy_score(y, predicted))
    confusion = reference.confusion_matrix(y, predicted, labels=list(range(k)))
    np.testing.assert_array_equal(result.confusion, confusion)
    recall = reference.recall_score(
        y, predicted, labels=np.unique(y), average="macro", zero_division=0
    )
    assert result.mean_per_class_accuracy == pytest.approx(recall)
    first_five = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    top_5 = np.mean([label in row for label, row in zip(y, first_five, strict=True)])
    assert result.top_5_accuracy == pytest.approx(top_5)


def test_top_5_without_ties_is_scikit_learns():
    rng = np.random.default_rng(0)
    scores, y = rng.normal(size=(200, 12)), rng.integers(0, 12, 200)
    expected = reference.top_k_accuracy_score(y, scores, k=5, labels=range(12))
    assert evaluate_scores(scores, y, 12).top_5_accuracy == pytest.approx(expected)


def test_the_two_accuracies_differ_on_unequal_classes():
    y = np.array([0] * 8 + [1, 1])
    scores = np.tile([1.0, 0.0, -1.0], (10, 1))
    result = evaluate_scores(scores, y, 3)
    assert (result.accuracy, result.mean_per_class_accuracy) == (0.8, 0.5)
    assert result.per_class_accuracy[:2].tolist() == [1.0, 0.0]
    assert math.isnan(result.per_class_accuracy[2])
    assert result.confusion.tolist() == [[8, 0, 0], [2, 0, 0], [0, 0, 0]]
    assert result.top_5_accuracy == 1.0


def test_equal_scores_earn_nothing():
    result = evaluate_scores(np.zeros((10, 10)), np.arange(10), 10)
    assert (result.accuracy, result.top_5_accuracy) == (0.1, 0.5)


def test_one_row_and_one_class():
    result = evaluate_scores(np.array([[-np.inf]]), np.array([0]), 1)
    assert (result.accuracy, result.n_images, result.n_classes) == (1.0, 1, 1)


@pytest.mark.parametrize(
    ("scores", "y", "error", "match"),
    [
        (np.zeros((3, 2)), [0, 1], ShapeError, "do not agree"),
        (np.zeros((2, 3)), [0, 1], ShapeError, "2 classes"),
        (np.zeros((0, 2)), [], DataError, "no rows"),
        (np.array([[0, 0], [0, np.nan]]), [0, 1], DataError, "row 1"),
        (np.zeros((2, 2)), [0, 2], DataError, "labels go from 0 to 2"),
        (np.zeros((2, 2)), [-1, 1], DataError, "labels go from -1"),
    ],
)
def test_input_that_cannot_be_scored(scores, y, error, match):
    with pytest.raises(error, match=match):
        evaluate_scores(scores, np.array(y, dtype=int), 2)


def test_mean_and_sample_deviation():
    mean, std = mean_std([0.8, 0.9, 1.0])
    assert (mean, std) == (pytest.approx(0.9), pytest.approx(0.1))
    mean, std = mean_std([0.8])
    assert mean == 0.8
    assert math.isnan(std)
    with pytest.raises(DataError, match="no results"):
        mean_std([])


def test_wilson_interval_against_published_and_solved_values():
    # Newcombe, Statistics in Medicine 1998, table I: 81 of 263, and 0 of 20.
    assert wilson_interval(81, 263) == (
        pytest.approx(0.2553, abs=5e-5),
        pytest.approx(0.3662, abs=5e-5),
    )
    assert wilson_interval(0, 20) == (0.0, pytest.approx(0.1611, abs=5e-5))
    low, high = wilson_interval(90, 100)
    for p in (low, high):  # the score test is exactly at its limit there
        z = (0.9 - p) / (p * (1 - p) / 100) ** 0.5
        assert abs(z) == pytest.approx(1.959964, rel=1e-5)
    with pytest.raises(DataError, match="3 correct of 2"):
        wilson_interval(3, 2)


def test_the_interval_of_the_mean_per_class_covers_it_as_often_as_it_says():
    rng = np.random.default_rng(0)
    for low, n_classes, most in ((0.3, 5, 60), (0.6, 40, 8), (0.9, 100, 50)):
        p, n = rng.uniform(low, 1, n_classes), rng.integers(2, most, n_classes)
        n_covered = 0
        for _ in range(1000):
            found = rng.binomial(n, p) / n
            least, most_likely = mean_per_class_interval(found, n)
            n_covered += least <= p.mean() <= most_likely
        # Two standard errors of 1,000 trials are 1.4 points.
        assert 0.93 < n_covered / 1000 < 0.975


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 200), st.integers(0, 200))
def test_with_one_class_or_none_wrong_the_interval_is_wilsons(n, n_correct):
    n_correct = min(n, n_correct)
    one = mean_per_class_interval(np.array([n_correct / n]), np.array([n]))
    if n_correct in (0, n):
        assert one == pytest.approx(wilson_interval(n_correct, n))
    counts = np.array([n, 0, n])
    both = mean_per_class_interval(np.array([1.0, np.nan, 1.0]), counts)
    assert both == pytest.approx(wilson_interval(2 * n, 2 * n))
    low, high = one
    assert 0 <= low <= n_correct / n + 1e-9 and n_correct / n - 1e-9 <= high <= 1


def test_an_interval_of_no_rows_is_refused():
    with pytest.raises(DataError, match="no class has rows"):
        mean_per_class_interval(np.array([np.nan]), np.array([0]))
