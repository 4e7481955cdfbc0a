"""LinearSVM and Softmax against LIBLINEAR, LogisticRegression and their own algebra."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.special import log_softmax
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import check_estimator

from cnnfeat.errors import DataError, DeviceError, ShapeError
from cnnfeat.heads import HeadConvergenceWarning, LinearSVM, Softmax

# n, d, k, C, dtype: both sides, two classes and many, loose and tight.
SHAPES = [
    (60, 10, 2, 1.0, "f4"),
    (200, 30, 5, 1.0, "f4"),
    (100, 500, 4, 0.1, "f4"),
    (100, 500, 4, 10.0, "f8"),
    (500, 40, 10, 0.01, "f4"),
    (40, 2000, 3, 1.0, "f2"),
    (300, 300, 7, 1.0, "f4"),
    (30, 3, 12, 5.0, "f8"),
    (150, 1, 2, 0.5, "f4"),
    (400, 64, 20, 30.0, "f4"),
]


def make_data(n, d, k, dtype="f8", seed=0):
    """Return classes with means of their own, in features of unit scale."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    y[:k] = np.arange(k)
    X = rng.normal(size=(n, d)) + rng.normal(size=(k, d))[y]
    return (X / np.sqrt(d)).astype(dtype), y


def svm_objective(head, X, y, C):
    scores = X.astype(float) @ head.coef_.T + head.intercept_
    positives = head.classes_ if len(head.classes_) > 2 else head.classes_[1:]
    signs = np.where(y[:, None] == positives, 1, -1)
    norms = (head.coef_**2).sum() + (head.intercept_**2).sum()
    return 0.5 * norms + C * (np.maximum(0, 1 - signs * scores) ** 2).sum()


def softmax_objective(head, X, y, C):
    scores = X.astype(float) @ head.coef_.T + head.intercept_
    index = np.searchsorted(head.classes_, y)
    if scores.shape[1] == 1:
        loss = np.logaddexp(0, -(2 * index - 1) * scores[:, 0]).sum()
    else:
        loss = -log_softmax(scores, 1)[np.arange(len(y)), index].sum()
    return 0.5 * (head.coef_**2).sum() + C * loss


@pytest.mark.parametrize("head", [LinearSVM(), Softmax()])
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_check_estimator_passes(head):
    check_estimator(head, on_skip=None)


@pytest.mark.parametrize("shape", SHAPES)
def test_svm_reaches_the_optimum_of_liblinear(shape):
    n, d, k, C, dtype = shape
    X, y = make_data(n, d, k, dtype)
    ours = LinearSVM(C=C).fit(X, y)
    peer = LinearSVC(C=C, tol=1e-7, max_iter=500_000, random_state=0)
    peer.fit(X.astype(float), y)
    best = svm_objective(peer, X, y, C)
    assert svm_objective(ours, X, y, C) <= best * (1 + 1e-5)
    assert ours.objective_ == pytest.approx(svm_objective(ours, X, y, C), rel=1e-5)
    assert (ours.predict(X) == peer.predict(X)).mean() >= 0.999


@pytest.mark.parametrize("shape", SHAPES)
def test_softmax_reaches_the_optimum_of_logistic_regression(shape):
    n, d, k, C, dtype = shape
    X, y = make_data(n, d, k, dtype)
    ours = Softmax(C=C).fit(X, y)
    peer = LogisticRegression(C=C, tol=1e-7, max_iter=20_000).fit(X.astype(float), y)
    best = softmax_objective(peer, X, y, C)
    assert softmax_objective(ours, X, y, C) <= best * (1 + 1e-5)
    assert (ours.predict(X) == peer.predict(X)).mean() >= 0.999
    np.testing.assert_allclose(ours.predict_proba(X).sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("head", [LinearSVM(tol=1e-12), Softmax(tol=1e-12)])
@pytest.mark.parametrize("shape", [(50, 8, 3), (20, 60, 4), (30, 30, 2)])
def test_both_sides_agree(head, shape):
    X, y = make_data(*shape)
    primal = clone(head).set_params(solver="primal").fit(X, y)
    gram = clone(head).set_params(solver="gram").fit(X, y)
    assert (primal.solver_, gram.solver_) == ("primal", "gram")
    np.testing.assert_allclose(gram.coef_, primal.coef_, atol=1e-5)
    np.testing.assert_allclose(gram.intercept_, primal.intercept_, atol=1e-5)


@pytest.mark.parametrize("kind", [LinearSVM, Softmax])
@given(seed=st.integers(0, 2**16), C=st.sampled_from([0.01, 0.3, 5.0]))
@settings(max_examples=10, deadline=None)
def test_a_doubled_row_equals_a_doubled_weight(kind, seed, C):
    X, y = make_data(25, 6, 3, seed=seed)
    weights = np.random.default_rng(seed).integers(1, 4, 25)
    by_weight = kind(C=C, tol=1e-13).fit(X, y, sample_weight=weights)
    by_rows = kind(C=C, tol=1e-13).fit(np.repeat(X, weights, 0), np.repeat(y, weights))
    np.testing.assert_allclose(by_weight.coef_, by_rows.coef_, atol=1e-5)


@pytest.mark.parametrize("kind", [LinearSVM, Softmax])
@given(seed=st.integers(0, 2**16))
@settings(max_examples=10, deadline=None)
def test_the_order_of_rows_and_classes_does_not_matter(kind, seed):
    X, y = make_data(30, 5, 4, seed=seed)
    rng = np.random.default_rng(seed)
    rows, names = rng.permutation(30), rng.permutation(4)
    plain = kind(tol=1e-13).fit(X, y)
    moved = kind(tol=1e-13).fit(X[rows], names[y][rows])
    np.testing.assert_allclose(moved.coef_[names], plain.coef_, atol=1e-5)


@pytest.mark.parametrize("s", [0.01, 3.0, 1000.0])
def test_scaling_features_by_s_and_C_by_its_square_changes_nothing(s):
    X, y = make_data(40, 70, 4)
    plain = LinearSVM(C=2, tol=1e-12).fit(X, y)
    scaled = LinearSVM(C=2 / s**2, tol=1e-12, intercept_scaling=s).fit(X * s, y)
    np.testing.assert_allclose(
        scaled.decision_function(X * s), plain.decision_function(X), atol=1e-5
    )
    soft = Softmax(C=2, tol=1e-12).fit(X, y).decision_function(X)
    again = Softmax(C=2 / s**2, tol=1e-12).fit(X * s, y).decision_function(X * s)
    np.testing.assert_allclose(again, soft, atol=1e-4)


@pytest.mark.parametrize("weights", ["balanced", {0: 5.0, 2: 0.5}])
def test_class_weight_follows_liblinear(weights):
    X, y = make_data(90, 12, 3)
    ours = LinearSVM(C=0.5, class_weight=weights, tol=1e-12).fit(X, y)
    peer = LinearSVC(C=0.5, class_weight=weights, tol=1e-8, max_iter=100_000)
    np.testing.assert_allclose(ours.coef_, peer.fit(X, y).coef_, atol=1e-5)


@pytest.mark.parametrize("kind", [LinearSVM, Softmax])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_tensors_and_arrays_give_the_same_head(kind, dtype):
    X, y = make_data(40, 9, 3)
    tensor = torch.from_numpy(X).to(dtype)
    of_tensor = kind().fit(tensor, torch.from_numpy(y))
    of_array = kind().fit(tensor.numpy(), y)
    np.testing.assert_array_equal(of_tensor.coef_, of_array.coef_)


@pytest.mark.parametrize("kind", [LinearSVM, Softmax])
def test_dropout_follows_its_seed_and_zero_changes_nothing(kind):
    X, y = make_data(40, 9, 3)
    first = kind(dropout=0.5, random_state=1).fit(X, y).coef_
    np.testing.assert_array_equal(
        kind(dropout=0.5, random_state=1).fit(X, y).coef_, first
    )
    assert (
        np.abs(kind(dropout=0.5, random_state=2).fit(X, y).coef_ - first).max() > 1e-3
    )
    with pytest.raises(DataError, match="dropout must be at least 0 and below 1"):
        kind(dropout=1.0).fit(X, y)


@pytest.mark.parametrize("kind", [LinearSVM, Softmax])
@pytest.mark.parametrize("C", [0, -1, np.nan, np.inf, "much"])
def test_C_must_be_a_finite_number_above_zero(kind, C):
    X, y = make_data(10, 3, 2)
    with pytest.raises(DataError, match="C must be a finite number above 0"):
        kind(C=C).fit(X, y)


@pytest.mark.parametrize("kind", [LinearSVM, Softmax])
def test_bad_rows_and_labels_are_named(kind):
    X, y = make_data(20, 3, 2)
    with pytest.raises(DataError, match="at least two classes"):
        kind().fit(X, np.zeros(20))
    with pytest.raises(ShapeError, match="20 rows but y has 19"):
        kind().fit(X, y[:19])
    X[7, 1] = np.nan
    with pytest.raises(DataError, match="row 7 is the first"):
        kind().fit(X, y)
    with pytest.raises(DataError, match="row 7 is the first"):
        kind().fit(torch.from_numpy(X), y)


@pytest.mark.parametrize("kind", [LinearSVM, Softmax])
def test_features_that_are_all_equal_give_the_prior(kind):
    y = np.array([0] * 5 + [1] * 3 + [2])
    for X in (np.ones((9, 4)), np.zeros((9, 50)), np.ones((9, 50), "f4")):
        assert (kind().fit(X, y).predict(X) == 0).all()


@pytest.mark.parametrize("kind", [LinearSVM, Softmax])
def test_half_precision_features_do_not_overflow(kind):
    X, y = make_data(30, 400, 3)
    large = (X * 30_000 / np.abs(X).max()).astype(np.float16)
    head = kind(C=1e-8).fit(large, y)
    assert np.isfinite(head.coef_).all()
    assert head.score(large, y) > 0.9


def test_a_gram_matrix_over_the_budget_takes_another_way_or_says_what_it_needs():
    X, y = make_data(200, 300, 3)
    assert LinearSVM().fit(X, y).solver_ == "gram"
    small = 2 * 4 * 300**2 + 1
    with pytest.raises(DataError, match="needs 1 MiB"):
        LinearSVM(solver="gram", memory_budget=10_000).fit(X, y)
    X, y = make_data(600, 300, 3)
    assert LinearSVM(memory_budget=small).fit(X, y).solver_ == "primal"


def test_too_few_steps_are_a_warning():
    X, y = make_data(300, 20, 5)
    with pytest.warns(HeadConvergenceWarning, match="raise max_iter"):
        LinearSVM(C=100, max_iter=1).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LinearSVM(C=100).fit(X, y)


def test_unknown_settings_are_named():
    X, y = make_data(10, 3, 2)
    with pytest.raises(DataError, match="solver must be one of auto, primal, gram"):
        LinearSVM(solver="newton").fit(X, y)
    with pytest.raises(DeviceError, match="unknown device 'gpu'"):
        Softmax(device="gpu").fit(X, y)
    with pytest.raises(DataError, match="intercept_scaling must be above 0"):
        LinearSVM(intercept_scaling=0).fit(X, y)
