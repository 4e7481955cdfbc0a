"""FeatureTransform: what it learns, what it leaves alone, how it is stored."""

import numpy as np
import pytest
import torch
from row_source import ListSource
from sklearn.decomposition import PCA

from cnnfeat.errors import DataError, OptionError, ShapeError
from cnnfeat.heads import (
    FeatureTransform,
    HeadSettings,
    RowSource,
    TransformedRows,
)


@pytest.fixture
def X():
    return np.random.default_rng(0).gamma(2.0, size=(40, 12)).astype(np.float32)


def test_mean_norm_makes_the_mean_training_norm_20(X):
    transform = FeatureTransform("mean-norm").fit(X[:30])
    norms = np.linalg.norm(transform.transform(X[:30]), axis=1)
    assert norms.mean() == pytest.approx(20, rel=1e-5)
    np.testing.assert_allclose(transform.transform(X) / X, transform.factor_[0], 1e-5)


def test_l2_makes_unit_rows_and_keeps_zero_rows(X):
    X[3] = 0
    Z = FeatureTransform("l2").fit(X).transform(X)
    np.testing.assert_allclose(np.linalg.norm(np.delete(Z, 3, 0), axis=1), 1, rtol=1e-5)
    assert (Z[3] == 0).all()


def test_standard_gives_zero_mean_and_unit_deviation_but_for_constants(X):
    X[:, 2] = 7.3
    Z = FeatureTransform("standard").fit(X).transform(X)
    np.testing.assert_allclose(Z.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(np.delete(Z.std(0), 2), 1, rtol=1e-4)
    assert np.abs(Z[:, 2]).max() < 1e-5


def test_parts_are_scaled_each_by_itself(X):
    X[:, 5:] *= 1000
    for scale in ("mean-norm", "l2"):
        whole = FeatureTransform(scale, part_widths=(5, 7)).fit(X).transform(X)
        left = FeatureTransform(scale).fit(X[:, :5]).transform(X[:, :5])
        right = FeatureTransform(scale).fit(X[:, 5:]).transform(X[:, 5:])
        np.testing.assert_allclose(whole, np.hstack([left, right]), rtol=1e-5)


def test_signed_square_root_comes_first():
    X = np.array([[-4.0, 9.0, 0.0]], np.float32)
    Z = FeatureTransform(signed_sqrt=True).fit(X).transform(X)
    np.testing.assert_allclose(Z, [[-2, 3, 0]])


@pytest.mark.parametrize("d", [6, 90])
def test_pca_agrees_with_scikit_learn(d):
    X = np.random.default_rng(1).normal(size=(30, d)) @ np.diag(np.geomspace(1, 0.1, d))
    ours = FeatureTransform(n_components=4).fit(X).transform(X)
    peer = PCA(4, svd_solver="full").fit_transform(X)
    np.testing.assert_allclose(np.abs(ours), np.abs(peer), atol=1e-3)


@pytest.mark.parametrize("scale", ["none", "mean-norm", "l2", "standard"])
@pytest.mark.parametrize("n_components", [None, 3])
def test_arrays_blocks_and_storage_give_the_same(X, scale, n_components):
    transform = FeatureTransform(scale, n_components=n_components, signed_sqrt=True)
    expected = transform.fit(X).transform(X)
    stored = FeatureTransform.from_arrays(transform.to_arrays())
    np.testing.assert_array_equal(stored.transform(X), expected)
    np.testing.assert_array_equal(stored.transform(torch.from_numpy(X)), expected)
    fresh = FeatureTransform(scale, n_components=n_components, signed_sqrt=True)
    streamed = fresh.fit(ListSource(X)).transform(ListSource(X))
    assert isinstance(streamed, TransformedRows) and isinstance(streamed, RowSource)
    blocks = np.concatenate([block for _, block in streamed.blocks(4)])
    np.testing.assert_allclose(blocks, expected, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_fitted_is_named(X):
    with pytest.raises(DataError, match="scale must be one of mean-norm"):
        FeatureTransform("minmax")
    with pytest.raises(DataError, match="PCA with 40 components needs more than 40"):
        FeatureTransform(n_components=40).fit(X)
    with pytest.raises(ShapeError, match=r"parts are \[3, 3\] wide, 6 in all"):
        FeatureTransform(part_widths=(3, 3)).fit(X)
    with pytest.raises(ShapeError, match="fitted to 12 features, found 11"):
        FeatureTransform().fit(X).transform(X[:, :11])
    with pytest.raises(DataError, match="at least one training row"):
        FeatureTransform().fit(X[:0])


def test_the_input_is_left_as_it_was(X):
    before = X.copy()
    for scale in ("none", "mean-norm", "l2", "standard"):
        FeatureTransform(scale, n_components=2).fit(X).transform(X)
        Z = FeatureTransform(scale).fit(X).transform(X)
        assert not np.shares_memory(X, Z)
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize("power", [0.5, 2.0, 3.0])
def test_a_signed_power_keeps_signs_and_comes_back_from_a_head_file(power):
    X = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    transform = FeatureTransform("l2", power=power).fit(X)
    expected = np.sign(X) * np.abs(X) ** power
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(transform.transform(X), expected, rtol=1e-5)
    again = FeatureTransform.from_arrays(transform.to_arrays())
    np.testing.assert_array_equal(again.transform(X), transform.transform(X))


def test_the_signed_square_root_is_the_power_of_one_half():
    X = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    root = FeatureTransform(signed_sqrt=True).fit(X)
    half = FeatureTransform(power=0.5).fit(X)
    np.testing.assert_allclose(root.transform(X), half.transform(X), rtol=1e-6)
    stored = root.to_arrays()
    del stored["power"]  # as heads of earlier versions are
    earlier = FeatureTransform.from_arrays(stored)
    np.testing.assert_array_equal(earlier.transform(X), root.transform(X))


@pytest.mark.parametrize("power", [0.0, -1.0, float("inf"), float("nan")])
def test_a_power_that_is_none_is_refused(power):
    with pytest.raises(OptionError, match="finite number above 0"):
        HeadSettings(power=power)


def test_a_power_beside_the_square_root_is_refused():
    with pytest.raises(OptionError, match="`signed_sqrt` is `power="):
        HeadSettings(power=2.0, signed_sqrt=True)
