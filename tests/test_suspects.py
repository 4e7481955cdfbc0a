"""Doubtful labels: found by folds that do not know them, ranked, and counted."""

import csv

import numpy as np
import pytest
from made_features import write_features
from sklearn.model_selection import PredefinedSplit
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import normalize

from cnnfeat.errors import CnnfeatWarning, OutputError, SplitError
from cnnfeat.splits import draw_folds
from cnnfeat.store import open_features
from cnnfeat.suspects import SuspectsOptions, find_suspects

LAYER = SuspectsOptions(layer="layer10")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return str(write_features(tmp_path_factory.mktemp("made") / "f.h5"))


def by_hand(path):
    """Return paths, labels, out-of-fold scores and distances, by scikit-learn."""
    with open_features(path) as features:
        X, y = features.read("layer10").astype(float), features.labels
        usable = np.ones(len(y), bool)
        folds = draw_folds(features.table, usable=usable, n_folds=5)
        paths = features.paths
    of_fold = np.empty(len(y), int)
    for number, fold in enumerate(folds):
        of_fold[fold.test] = number
    scores, distance = np.empty((len(y), 4)), np.empty(len(y))
    for train, test in PredefinedSplit(of_fold).split():
        mean = X[train].mean(0)
        Z, T = normalize(X[train] - mean), normalize(X[test] - mean)
        M = NearestCentroid().fit(Z, y[train]).centroids_
        scores[test] = T @ M.T - 0.5 * (M**2).sum(1)
        distance[test] = 1 - np.sort(T @ Z.T)[:, -10:].mean(1)
    return paths, y, scores, distance


def test_margins_and_distances_are_those_of_the_other_folds(path):
    report = find_suspects(path, LAYER)
    paths, y, scores, distance = by_hand(path)
    own = scores[np.arange(48), y]
    others = np.where(np.arange(4) == y[:, None], -np.inf, scores)
    usual = np.array([own[y == k].mean() for k in range(4)])
    found = {one["path"]: one for one in report.images}
    for row, name in enumerate(paths):
        one = found[name]
        assert one["margin"] == pytest.approx(others[row].max() - own[row], abs=1e-5)
        assert one["distance"] == pytest.approx(distance[row], abs=1e-5)
        assert one["suggested"] == f"class{others[row].argmax()}"
        is_suspect = (others[row] >= usual).any() and own[row] < usual[y[row]]
        assert one["suspect"] == int(is_suspect and one["margin"] > 0)
    assert report.n_suspects == sum(one["suspect"] for one in report.images)


def test_images_stand_with_the_most_doubtful_first(path):
    images = find_suspects(path, SuspectsOptions(layer="layer2")).images
    keys = [(-one["suspect"], -one["margin"]) for one in images]
    assert keys == sorted(keys) and len(images) == 48


def test_changed_labels_are_found_again(tmp_path):
    made = str(write_features(tmp_path / "f.h5", n_per_class=40))
    options = SuspectsOptions(layer="layer10", flip=0.05)
    trial = find_suspects(made, options).trial
    assert trial.n_flipped == 8
    assert trial.precision_at_n == trial.precision == 1.0
    assert trial.recall >= 0.5
    noise = SuspectsOptions(layer="layer2", flip=0.5)
    assert find_suspects(made, noise).trial.precision_at_n < 1
    assert find_suspects(made, LAYER).trial is None


def test_an_image_like_no_other_of_its_class_is_an_outlier(tmp_path):
    def poison(X):
        X[5] = -8 * X[:40].mean(0)
        return X

    made = str(write_features(tmp_path / "f.h5", n_per_class=40, poison=poison))
    images = find_suspects(made, LAYER).images
    outliers = [one["path"] for one in images if one["outlier"]]
    assert "class0/005.png" in outliers and len(outliers) < 6


def test_classes_too_small_to_judge_are_left_out(tmp_path):
    made = str(write_features(tmp_path / "f.h5", n_per_class=4))
    with pytest.raises(SplitError, match="class"), pytest.warns(CnnfeatWarning):
        find_suspects(made, LAYER)


def test_without_the_images_the_sheet_has_empty_places(path, tmp_path):
    table, sheet = tmp_path / "p.csv", tmp_path / "s.png"
    options = SuspectsOptions(
        layer="layer2", output_path=str(table), sheet_path=str(sheet)
    )
    report = find_suspects(path, options)
    with table.open() as text:
        rows = list(csv.DictReader(text))
    assert [one["path"] for one in rows] == [one["path"] for one in report.images]
    assert sheet.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(OutputError, match="exists"):
        find_suspects(path, options)
