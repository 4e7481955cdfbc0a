"""Head: its shapes, its scores, and how light it is."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.special import softmax

from cnnfeat.errors import DataError, ShapeError
from cnnfeat.heads import FeatureTransform, Head, to_probabilities
from cnnfeat.layer_spec import LayerSpec

SPEC = LayerSpec("fc7", "classifier.5", (8,))


@pytest.fixture
def X():
    return np.random.default_rng(0).gamma(2.0, size=(30, 8)).astype(np.float32)


def make_head(X, kind="softmax", n_components=None, **changes):
    transform = FeatureTransform("l2", n_components=n_components).fit(X)
    rng = np.random.default_rng(1)
    fields = {
        "kind": kind,
        "coef": rng.normal(size=(3, n_components or 8)).astype(np.float32),
        "intercept": rng.normal(size=3).astype(np.float32),
        "class_names": ("ant", "bee", "cat"),
        "scaler": transform.to_arrays(),
        "layer_specs": (SPEC,),
    }
    return Head(**{**fields, **changes})


@pytest.mark.parametrize("n_components", [None, 4])
def test_scores_are_weights_on_transformed_features(X, n_components):
    head = make_head(X, n_components=n_components)
    Z = FeatureTransform("l2", n_components=n_components).fit(X).transform(X)
    np.testing.assert_array_equal(head.scores(X), Z @ head.coef.T + head.intercept)
    np.testing.assert_allclose(head.scores(X[5:9]), head.scores(X)[5:9], rtol=1e-4)
    assert head.n_features == 8


def test_probabilities_are_the_softmax_of_the_scores(X):
    head = make_head(X)
    expected = softmax(head.scores(X), axis=1)
    np.testing.assert_allclose(head.probabilities(X), expected, rtol=1e-5)
    with pytest.raises(DataError, match="no probabilities"):
        make_head(X, kind="svm").probabilities(X)


def test_large_scores_do_not_overflow():
    found = to_probabilities(np.array([[1000.0, 999.0], [-1000.0, -1000.0]]))
    np.testing.assert_allclose(
        found, [[1 / (1 + np.exp(-1)), 1 / (1 + np.e)], [0.5, 0.5]]
    )


def test_a_head_without_layers_is_as_wide_as_its_arrays(X):
    assert make_head(X, layer_specs=()).n_features == 8
    assert make_head(X, layer_specs=(), n_components=4).n_features == 8


def test_arrays_that_do_not_agree_are_refused(X):
    with pytest.raises(ShapeError, match="4 components of 8 features has coef"):
        make_head(X, n_components=4, coef=np.zeros((3, 8)))
    with pytest.raises(ShapeError, match="components are of 5 features"):
        scaler = FeatureTransform(n_components=4).fit(X[:, :5]).to_arrays()
        make_head(X, n_components=4, scaler=scaler)
    with pytest.raises(ShapeError, match="fitted to 8 features, found 5"):
        make_head(X).scores(X[:, :5])


def test_a_head_is_read_and_described_without_torch():
    script = (
        "import sys; from cnnfeat.heads import Head; from cnnfeat.store import "
        "load_head; assert not {'torch', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
