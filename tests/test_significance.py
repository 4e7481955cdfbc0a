"""Tests of difference keep their level and coverage, by simulation and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.stats import binomtest, ttest_rel

from cnnfeat.errors import DataError, ShapeError
from cnnfeat.significance import holm, image_difference, split_difference

N_SETS, N_SPLITS, N_TRAIN, N_TEST = 400, 5, 60, 120


def simulated_accuracies(n_features, seed):
    """Return the accuracies of nearest class means, (sets, splits, heads).

    Each set of images is drawn once, and split several times over, as a benchmark does.
    `n_features` are those that each head sees; no two heads see the same.
    """
    rng = np.random.default_rng(seed)
    n_images, total = N_TRAIN + N_TEST, sum(n_features)
    y = np.arange(n_images) % 2
    found = np.empty((N_SETS, N_SPLITS, len(n_features)))
    for one in range(N_SETS):
        X = rng.normal(size=(n_images, total)) + 0.25 * (2 * y[:, None] - 1)
        for split in range(N_SPLITS):
            order = rng.permutation(n_images)
            train, test = order[:N_TRAIN], order[N_TRAIN:]
            means = [X[train][y[train] == k].mean(axis=0) for k in (0, 1)]
            stop = 0
            for head, width in enumerate(n_features):
                own = slice(stop, stop := stop + width)
                far = [((X[test, own] - mean[own]) ** 2).sum(1) for mean in means]
                found[one, split, head] = ((far[1] < far[0]) == y[test]).mean()
    return found


def test_equal_heads_are_called_different_as_rarely_as_promised():
    accuracies = simulated_accuracies((6, 6), seed=0)
    naive, corrected = 0, 0
    for a, b in accuracies.transpose(0, 2, 1):
        naive += ttest_rel(a, b).pvalue < 0.05
        corrected += split_difference(a, b, N_TEST / N_TRAIN).p_value < 0.05
    # 400 tries at 5 % give 20 ± 4.4; three of these above is the line.
    assert corrected <= 33
    assert naive > 80  # what the correction is for: the simulation shows the fault


def test_the_interval_holds_the_true_difference_as_often_as_promised():
    accuracies = simulated_accuracies((12, 4), seed=1)
    truth = (accuracies[..., 0] - accuracies[..., 1]).mean()
    assert truth > 0.05
    held = 0
    for a, b in accuracies.transpose(0, 2, 1):
        found = split_difference(a, b, N_TEST / N_TRAIN)
        held += found.low <= truth <= found.high
    assert held >= 0.92 * N_SETS


@pytest.mark.parametrize("per_class", [False, True])
def test_on_one_split_equal_heads_are_rarely_called_different(per_class):
    rng = np.random.default_rng(3)
    n_images = np.array([10, 40, 100])
    p_values, held = [], 0
    for trial in range(400):
        # Right by both, by a alone, by b alone, by none: a and b equally good.
        drawn = [rng.multinomial(n, [0.6, 0.1, 0.1, 0.2]) for n in n_images]
        _, only_a, only_b, _ = np.array(drawn).T
        found = image_difference(
            n_images, only_a, only_b, per_class=per_class, seed=trial
        )
        p_values.append(found.p_value)
        held += found.low <= 0 <= found.high
    assert np.mean(np.array(p_values) < 0.05) <= 0.08
    assert held >= 0.88 * 400  # percentiles are somewhat narrow with ten images


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_equals_scipys_exact_binomial_test(n_a, n_b):
    found = image_difference([100], [n_a], [n_b], per_class=False)
    expected = binomtest(n_a, n_a + n_b, 0.5).pvalue if n_a + n_b else 1.0
    assert found.p_value == pytest.approx(expected, abs=1e-12)
    assert found.mean == pytest.approx((n_a - n_b) / 100)


def test_with_one_class_the_test_of_signs_is_mcnemars():
    mcnemar = image_difference([500], [40], [20], per_class=False)
    signs = image_difference([500], [40], [20], per_class=True)
    assert signs.p_value == pytest.approx(mcnemar.p_value, abs=0.004)
    assert (signs.low, signs.high) == (mcnemar.low, mcnemar.high)


def test_the_mean_over_classes_weighs_classes_alike():
    found = image_difference([10, 1000], [5, 0], [0, 100], per_class=True)
    assert found.mean == pytest.approx((0.5 - 0.1) / 2)
    # Deviation of a share p of n: sqrt(p (1 - p) / n), halved twice by the mean.
    expected = (0.5 * 0.5 / 10 + 0.1 * 0.9 / 1000) ** 0.5 / 2
    assert found.standard_error == pytest.approx(expected, rel=0.03)


def test_the_variance_of_splits_is_nadeau_and_bengios():
    a, b = [0.9, 0.8, 0.7, 0.9, 0.8], [0.8, 0.75, 0.7, 0.85, 0.7]
    found = split_difference(a, b, 2.0)
    differences = np.subtract(a, b)
    expected = differences.std(ddof=1) * math.sqrt(1 / 5 + 2.0)
    assert found.standard_error == pytest.approx(expected, rel=1e-12)
    # A t of 4 degrees of freedom: 2.776 is its 97.5 % point in every table.
    assert found.high - found.mean == pytest.approx(2.7764 * expected, rel=1e-4)
    assert found.high > found.mean > found.low


def test_without_test_rows_to_share_it_is_the_plain_paired_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 6))
    found = split_difference(a, b, 1e-12)
    assert found.p_value == pytest.approx(ttest_rel(a, b).pvalue, rel=1e-6)


def test_swapping_turns_the_sign_alone():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5))
    one, other = split_difference(a, b, 1.0), split_difference(b, a, 1.0)
    assert (other.mean, other.low, other.high) == (-one.mean, -one.high, -one.low)
    assert (one.p_value, one.standard_error) == (other.p_value, other.standard_error)


def test_what_cannot_be_tested_says_so():
    for a, b in (([1.0], [0.5]), ([0.75, 0.875], [0.5, 0.625])):
        found = split_difference(a, b, 1.0)
        assert math.isnan(found.p_value)
        assert math.isnan(found.low)
        assert found.test == ""
    same = split_difference([0.5, 0.6], [0.5, 0.6], 1.0)
    assert (same.mean, same.p_value) == (0.0, 1.0)
    with pytest.raises(ShapeError, match="not pairs"):
        split_difference([1.0], [0.5, 0.5], 1.0)
    with pytest.raises(DataError, match="cannot be"):
        split_difference([], [], 1.0)
    with pytest.raises(DataError, match="disagreements"):
        image_difference([3], [2], [2], per_class=False)


def test_holms_example():
    # Sorted 0.005, 0.01, 0.03, 0.04: times 4, 3, 2, 1, never falling.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.randoms())
def test_holm_orders_like_its_input_and_lies_between_bonferroni_and_none(p, random):
    adjusted = holm(p)
    for given_p, one in zip(p, adjusted, strict=True):
        assert given_p <= one <= min(1.0, len(p) * given_p) + 1e-15
    order = list(range(len(p)))
    random.shuffle(order)
    again = holm([p[k] for k in order])
    assert again == pytest.approx([adjusted[k] for k in order])


def test_holm_passes_over_what_was_not_tested():
    assert holm([0.02, float("nan"), 0.03])[::2] == pytest.approx([0.04, 0.04])
    assert math.isnan(holm([0.02, float("nan")])[1])
