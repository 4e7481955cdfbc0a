"""Ridge, nearest class mean and nearest neighbours, against independent routes."""

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.preprocessing import normalize

from cnnfeat.errors import DataError, ShapeError, StoreError
from cnnfeat.heads import (
    HEAD_KINDS,
    FeatureTransform,
    Head,
    HeadSettings,
    Neighbours,
    TrainingRows,
    fit_splits,
)
from cnnfeat.heads._nearest import nearest
from cnnfeat.heads._neighbours import K_GRID, TEMPERATURES
from cnnfeat.metrics import mean_per_class_accuracy
from cnnfeat.splits import Split
from cnnfeat.store import load_head, save_head

NAMES = ("ant", "bee", "cat")


def make_data(n=60, d=12, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    X = rng.gamma(2.0, size=(n, d)) + 0.8 * rng.normal(size=(n_classes, d))[y] + 3
    return X.astype(np.float32), y


def thirds(n):
    rows = np.arange(n)
    return tuple(Split(rows[rows % 3 != k], rows[rows % 3 == k]) for k in range(3))


def fit(kind, X, y, groups=None, **settings):
    rows = TrainingRows(np.arange(len(X)), thirds(len(X)), groups=groups)
    (found,) = fit_splits(X, y, [rows], HeadSettings(kind, device="cpu", **settings))
    return found


@pytest.mark.parametrize(("n", "d"), [(60, 12), (30, 50)])
def test_ridge_is_the_closed_form_of_scikit_learn(n, d):
    X, y = make_data(n, d)
    C = 0.3
    found = fit("ridge", X, y, scale="none", C=(C,)).to_head(NAMES)
    peer = RidgeClassifier(alpha=1 / (2 * C)).fit(X.astype(np.float64), y)
    np.testing.assert_allclose(found.coef, peer.coef_, rtol=1e-3, atol=1e-5)
    expected = peer.decision_function(X)
    np.testing.assert_allclose(found.scores(X), expected, rtol=1e-3, atol=1e-3)


def left_out(X, y, C, groups):
    """Return the classes predicted by a fit without each group, one fit a group."""
    Y = np.where(y[:, None] == np.unique(y), 1.0, -1.0)
    predicted = np.empty(len(y), int)
    for group in np.unique(groups):
        out = groups == group
        one = Ridge(alpha=1 / (2 * C)).fit(X[~out], Y[~out])
        predicted[out] = one.predict(X[out]).argmax(1)
    return predicted


@pytest.mark.parametrize(("n", "d"), [(36, 6), (24, 40)])
@pytest.mark.parametrize("size", [1, 4])
def test_ridge_chooses_C_as_a_fit_for_each_row_or_group_would(n, d, size):
    X, y = make_data(n, d)
    groups = np.arange(n) // size
    given = None if size == 1 else groups
    found = fit("ridge", X, y, given, scale="none", C=(0.001, 0.1, 10))
    for C, score in zip(found.choice.grid, found.choice.scores, strict=True):
        expected = left_out(X.astype(np.float64), y, C, groups)
        alone = mean_per_class_accuracy(y, expected == y, 3)
        assert score == pytest.approx(alone), C
    best = max(found.choice.scores)
    assert found.choice.scores[found.choice.grid.index(found.linear.C)] == best


def test_two_classes_have_a_row_of_weights_each():
    X, y = make_data(n_classes=2)
    for kind in HEAD_KINDS:
        head = fit(kind, X, y).to_head(NAMES[:2])
        assert head.scores(X).shape == (60, 2)
        assert (head.scores(X).argmax(1) == y).mean() > 0.8


def test_the_nearest_mean_is_simpleshot():
    """CL2N: centred by the training mean, unit rows, nearest centroid."""
    X, y = make_data(seed=3)
    test, _ = make_data(40, seed=4)
    head = fit("ncm", X, y).to_head(NAMES)
    mean = X.mean(0)
    peer = NearestCentroid().fit(normalize(X - mean), y)
    np.testing.assert_array_equal(
        head.scores(test).argmax(1), peer.predict(normalize(test - mean))
    )
    distance = ((normalize(test - mean)[:, None] - peer.centroids_) ** 2).sum(2)
    gap = 2 * head.scores(test) + distance  # ‖x‖², the same for all classes
    np.testing.assert_allclose(gap, np.broadcast_to(gap[:, :1], gap.shape), atol=1e-5)


@pytest.mark.parametrize("scale", ["l2", "none"])
def test_neighbours_vote_as_scikit_learn_s(scale):
    X, y = make_data()
    test, _ = make_data(40, seed=1)
    found = fit("knn", X, y, scale=scale)
    told, head = found.linear.neighbours, found.to_head(NAMES)
    transform = FeatureTransform(scale).fit(X)
    Z, T = transform.transform(X).astype(np.float64), told.temperature

    def weights(distance):  # exp(cos / T), but for what all neighbours have
        return np.exp(-(distance**2 - distance.min(1, keepdims=True) ** 2) / (2 * T))

    peer = KNeighborsClassifier(told.k, weights=weights, algorithm="brute").fit(Z, y)
    expected = peer.predict_proba(transform.transform(test).astype(np.float64))
    np.testing.assert_allclose(head.probabilities(test), expected, atol=2e-3)
    np.testing.assert_allclose(head.probabilities(test).sum(1), 1)


def test_k_and_temperature_are_chosen_as_brute_force_would():
    X, y = make_data(45, n_classes=3)
    found = fit("knn", X, y)
    Z = normalize(X.astype(np.float64))
    for (k, T), score in found.choice.scores.items():
        right = np.zeros(len(y), bool)
        for fold in thirds(len(y)):
            cosine = Z[fold.test] @ Z[fold.train].T
            order = np.argsort(-cosine, axis=1)[:, :k]
            weight = np.exp((np.take_along_axis(cosine, order, 1) - 1) / T)
            votes = [(weight * (y[fold.train][order] == c)).sum(1) for c in range(3)]
            right[fold.test] = np.argmax(votes, axis=0) == y[fold.test]
        assert score == pytest.approx(mean_per_class_accuracy(y, right, 3)), (k, T)
    ks = {k for k, _ in found.choice.scores}
    assert ks == {k for k in K_GRID if k <= 30}
    assert len(found.choice.scores) == 1 + (len(ks) - 1) * len(TEMPERATURES)
    told = found.linear.neighbours
    best = found.choice.scores[told.k, told.temperature]
    assert best == max(found.choice.scores.values())


def test_scaling_the_features_scales_the_temperature():
    X, y = make_data()
    for kind in ("knn", "ridge", "ncm"):
        small, large = (fit(kind, s * X, y, scale="none") for s in (1, 100))
        first, second = (one.to_head(NAMES) for one in (small, large))
        np.testing.assert_array_equal(
            first.scores(X).argmax(1), second.scores(100 * X).argmax(1)
        )
    ratio = large.linear.coef / small.linear.coef
    np.testing.assert_allclose(ratio, 100, rtol=1e-4)


@given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 60))
def test_blocks_change_no_neighbour(n, m, step):
    rng = np.random.default_rng(n)
    X, rows = torch.as_tensor(rng.normal(size=(m, 3))), rng.normal(size=(n, 3))
    offset = torch.as_tensor(-0.5 * (rows**2).sum(1))
    k = min(5, n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cnnfeat.heads._nearest.BLOCK_SCORES", step)
        values, found = nearest(X, torch.as_tensor(rows), offset, k)
    distance = ((X.numpy()[:, None] - rows) ** 2).sum(2)
    np.testing.assert_array_equal(found, np.argsort(distance, axis=1)[:, :k])
    assert (values.diff(dim=1) <= 0).all()


def test_each_fold_s_rows_are_strangers_to_its_neighbours():
    """Copies across folds are found, a row is never its own neighbour."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 400)).astype(np.float32), rng.permutation(60) % 2
    assert max(fit("knn", X, y).choice.scores.values()) < 0.75
    assert max(fit("ridge", X, y).choice.scores) < 0.75


@pytest.mark.parametrize("kind", ["ridge", "ncm", "knn"])
def test_what_a_kind_cannot_do_is_told(kind):
    X, y = make_data()
    with pytest.raises(DataError, match=f"a {kind} head has no `dropout`"):
        HeadSettings(kind, dropout=0.5)
    with pytest.raises(DataError, match="at least two classes"):
        fit(kind, X, np.zeros(len(X)))
    with pytest.raises(DataError, match="NaN or inf"):
        fit(kind, np.full_like(X, np.nan), y, scale="none")


def test_neighbours_need_rows_to_choose_on():
    X, y = make_data()
    with pytest.raises(DataError, match="to choose k and the temperature on"):
        fit_splits(X, y, [TrainingRows(np.arange(60))], HeadSettings("knn"))


def test_a_head_whose_neighbours_do_not_agree_is_refused():
    head = fit("knn", *make_data()).to_head(NAMES)
    with pytest.raises(DataError, match="k is 61, expected 1 to 60"):
        Neighbours(head.neighbours.labels, 3, 61, 0.1)
    fields = {"class_names": NAMES, "scaler": head.scaler}
    with pytest.raises(ShapeError, match="a svm head has neighbours"):
        Head("svm", head.coef, head.intercept, **fields, neighbours=head.neighbours)
    with pytest.raises(ShapeError, match="a head of 60 rows"):
        Head("knn", head.coef[1:], head.intercept, **fields, neighbours=head.neighbours)


def test_a_head_of_neighbours_is_read_as_it_was_saved(tmp_path):
    X, y = make_data()
    head = fit("knn", X, y).to_head(NAMES, provenance={"weights_sha256": "ab"})
    save_head(tmp_path / "h.h5", head)
    again = load_head(tmp_path / "h.h5")
    np.testing.assert_array_equal(again.scores(X), head.scores(X))
    assert again.neighbours.k == head.neighbours.k
    for name, spoil in (
        ("/k is missing", lambda file: file.attrs.pop("k")),
        (
            "/neighbours/class",
            lambda file: file["neighbours/class"].write_direct(y + 9),
        ),
        ("neighbours", lambda file: file.pop("neighbours")),
    ):
        save_head(tmp_path / "bad.h5", head, overwrite=True)
        with h5py.File(tmp_path / "bad.h5", "r+") as file:
            spoil(file)
        with pytest.raises(StoreError, match=name):
            load_head(tmp_path / "bad.h5")
