"""How alike sets of features are: known answers, invariances, intervals."""

import csv

import numpy as np
import pytest
from hypothesis import given, strategies as st
from made_features import write_features
from scipy.spatial import procrustes
from scipy.spatial.distance import pdist
from scipy.stats import ortho_group, spearmanr

from cnnfeat.compare import CompareOptions, compare_features
from cnnfeat.errors import DataError, OptionError
from cnnfeat.report import plot_likeness_matrix
from cnnfeat.similarity import MEASURES, half_sample_intervals, likeness_matrix


def make_sets(n=40, d=6, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    return X, X @ rng.normal(size=(d, 4)) + 0.5 * rng.normal(size=(n, 4))


def one(X, Y, measure):
    return likeness_matrix([X, Y], measure)[0, 1]


def hsic(K, L):
    """Song et al. 2012, equation 5, written out."""
    n = len(K)
    K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
    ones = np.ones(n)
    first = np.trace(K @ L)
    second = ones @ K @ ones * (ones @ L @ ones) / ((n - 1) * (n - 2))
    third = 2 / (n - 2) * (ones @ K @ L @ ones)
    return (first + second - third) / (n * (n - 3))


def test_cka_is_the_unbiased_estimate_written_out():
    X, Y = make_sets()
    K, L = X @ X.T, Y @ Y.T
    expected = hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L))
    assert one(X, Y, "cka") == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["correlation", "euclidean", "cosine"])
def test_rsa_is_spearman_s_correlation_of_distances(kind):
    X, Y = make_sets(seed=1)
    expected = spearmanr(pdist(X, kind), pdist(Y, kind)).statistic
    assert one(X, Y, f"rsa-{kind}") == pytest.approx(expected, rel=1e-5)


def test_procrustes_is_scipy_s():
    X, Y = make_sets(d=4, seed=2)
    *_, disparity = procrustes(X, Y)  # 1 - (sum of singular values)²
    assert one(X, Y, "procrustes") == pytest.approx(np.sqrt(1 - disparity), rel=1e-6)


def test_neighbours_are_counted_one_by_one():
    X, Y = make_sets(seed=3)
    near = []
    for Z in (X, Y):
        Z = Z / np.linalg.norm(Z, axis=1, keepdims=True)
        order = np.argsort(-Z @ Z.T, axis=1)
        near.append([[j for j in row if j != i][:10] for i, row in enumerate(order)])
    shared = [len(set(a) & set(b)) / 10 for a, b in zip(*near, strict=True)]
    assert one(X, Y, "neighbours") == pytest.approx(np.mean(shared), rel=1e-5)


@given(st.sampled_from(MEASURES), st.integers(0, 99), st.floats(0.01, 100))
def test_a_set_is_like_itself_turned_and_scaled(measure, seed, scale):
    X, Y = make_sets(seed=seed)
    turned = scale * X @ ortho_group.rvs(6, random_state=seed)
    if measure == "rsa-correlation":  # centring features is no rotation
        turned = scale * X
    found = likeness_matrix([X, turned, Y], measure)
    assert found[0, 1] == pytest.approx(1, abs=1e-3)
    assert found[0, 2] == pytest.approx(found[1, 2], abs=5e-3)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_array_equal(np.diag(found), 1)
    assert found.max() <= 1


def test_unrelated_sets_have_no_cka_however_wide():
    """The biased estimate is near 1 where features outnumber images."""
    rng = np.random.default_rng(0)
    sets = [rng.normal(size=(60, 2000)) for _ in range(3)]
    found = likeness_matrix(sets, "cka")
    assert np.abs(found[np.triu_indices(3, 1)]).max() < 0.1


def test_a_set_without_variation_is_like_none():
    X, _ = make_sets()
    for measure in ("cka", "procrustes"):
        found = likeness_matrix([X, np.ones_like(X)], measure)
        np.testing.assert_array_equal(found, [[1, 0], [0, 0]])


def test_intervals_cover_the_truth_as_often_as_they_say():
    """The truth is the likeness on very many images."""
    rng = np.random.default_rng(1)
    A, noise = rng.normal(size=(5, 5)), 1.0

    def draw(n):
        X = rng.normal(size=(n, 5))
        return [X, X @ A + noise * rng.normal(size=(n, 5))]

    truth = likeness_matrix(draw(3000), "cka")[0, 1]
    inside = 0
    for trial in range(60):
        sets = draw(80)
        value = likeness_matrix(sets, "cka")
        low, high = half_sample_intervals(sets, value, "cka", n_draws=40, seed=trial)
        inside += low[0, 1] <= truth <= high[0, 1]
    assert 49 <= inside <= 60  # 54 or more of 60 in 95 % of cases; percentiles of 40


def test_layers_of_files_are_matched_by_path(tmp_path):
    one = write_features(tmp_path / "a.h5", n_per_class=20)
    other = write_features(tmp_path / "b.h5", n_per_class=18)
    table = tmp_path / "o.csv"
    report = compare_features(
        [str(one), str(other)],
        CompareOptions(n_draws=0, measures=MEASURES, output_path=str(table)),
    )
    assert report.sets == (
        "made (a) layer2",
        "made (a) layer10",
        "made (b) layer2",
        "made (b) layer10",
    )
    # Rows of a class begin at other numbers in the two: some paths are in one alone.
    assert report.n_common == report.n_images == 60 and report.n_unmatched == 32
    assert len(report.pairs) == 6 * len(MEASURES)
    with table.open() as text:
        rows = list(csv.DictReader(text))
    assert [row["measure"] for row in rows[::6]] == list(MEASURES)
    assert report.matrix("cka")[2, 0] == report.pairs[1].likeness


def test_what_cannot_be_compared_is_told(tmp_path):
    path = str(write_features(tmp_path / "a.h5"))
    with pytest.raises(DataError, match="there are 1 sets"):
        compare_features([path], CompareOptions(layers=("layer2",)))
    small = str(write_features(tmp_path / "b.h5", n_per_class=4))
    with pytest.raises(DataError, match="of 16 images that all have"):
        compare_features([small])
    with pytest.raises(OptionError, match="is none of cka"):
        compare_features([path], CompareOptions(measures=("angle",)))
    with pytest.raises(ValueError, match="for 2 names"):
        plot_likeness_matrix(np.eye(3), ["a", "b"])
