"""The tolerance holds for the weights that come out, by NumPy in float64 alone."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from cnnfeat.heads import LinearSVM, Softmax


def problem(seed, n, d, k, dtype=np.float64):
    """Rows of unit length around class means, labels partly wrong."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k
    X = rng.normal(size=(n, d)) + 2 * rng.normal(size=(k, d))[y]
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    y[: n // 10] = rng.permutation(y[: n // 10])
    return X.astype(dtype), y


def svm_gap(X, y, model):
    """Return the largest ½‖gradient‖² as a part of its objective, over the classes."""
    X, parts = X.astype(np.float64), []
    for number, w in enumerate(model.coef_.astype(np.float64)):
        b = float(model.intercept_[number])
        positive = (
            model.classes_[1] if len(model.coef_) == 1 else model.classes_[number]
        )
        signs = np.where(y == positive, 1.0, -1.0)
        slack = np.maximum(0, 1 - signs * (X @ w + b))
        residual = -2 * model.C * signs * slack
        gradient = np.append(w + X.T @ residual, b + residual.sum())
        value = 0.5 * (w @ w + b * b) + model.C * slack @ slack
        parts.append(0.5 * gradient @ gradient / value)
    return max(parts)


def softmax_gap(X, y, model):
    """Return ½‖gradient‖² of the weights as a part of the objective (k > 2)."""
    X, W = X.astype(np.float64), model.coef_.astype(np.float64)
    F = X @ W.T + model.intercept_
    log_p = F - F.max(axis=1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    Y = (y[:, None] == model.classes_).astype(np.float64)
    residual = model.C * (np.exp(log_p) - Y)
    gradient = np.hstack([W + residual.T @ X, residual.sum(axis=0)[:, None]])
    value = 0.5 * (W**2).sum() - model.C * (log_p * Y).sum()
    return 0.5 * (gradient**2).sum() / value


SHAPES = st.sampled_from([(60, 8), (60, 200), (150, 40)])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), SHAPES, st.integers(2, 5), st.floats(-2, 5))
def test_an_svms_weights_are_within_the_tolerance(seed, shape, k, log_C):
    X, y = problem(seed, *shape, k)
    model = LinearSVM(C=10**log_C).fit(X, y)
    assert svm_gap(X, y, model) <= model.tol


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), SHAPES, st.integers(3, 5), st.floats(-2, 3))
def test_a_softmaxs_weights_are_within_the_tolerance(seed, shape, k, log_C):
    X, y = problem(seed, *shape, k)
    model = Softmax(C=10**log_C).fit(X, y)
    assert softmax_gap(X, y, model) <= model.tol


@pytest.mark.parametrize("d", [40, 400])
@pytest.mark.parametrize("C", [0.1, 1.0, 10.0, 100.0])
def test_rounding_to_float32_adds_less_than_the_tolerance(d, C):
    X, y = problem(0, 200, d, 4, np.float32)
    model = LinearSVM(C=C).fit(X, y)
    assert model.coef_.dtype == np.float32
    assert svm_gap(X, y, model) <= 2 * model.tol
