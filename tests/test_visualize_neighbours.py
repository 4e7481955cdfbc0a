"""Nearest images: against brute force, for rows and for images of one's own."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings, strategies as st
from made_features import write_features
from PIL import Image

from cnnfeat.cli.main import cli
from cnnfeat.errors import DataError
from cnnfeat.similarity import _nearest, nearest_rows
from cnnfeat.store import open_features
from cnnfeat.visualize import NeighboursOptions, find_neighbours


def brute(Q, X, distance):
    """Return how far each row is from each query, in double precision."""
    Q, X = Q.astype(float), X.astype(float)
    if distance == "euclidean":
        return np.linalg.norm(Q[:, None] - X[None], axis=2)
    norms = np.linalg.norm(Q, axis=1)[:, None] * np.linalg.norm(X, axis=1)
    return -(Q @ X.T) / np.where(norms > 0, norms, 1)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999),
    n=st.integers(12, 90),
    d=st.integers(1, 9),
    distance=st.sampled_from(["cosine", "euclidean"]),
    offset=st.sampled_from([0.0, 1000.0]),
)
def test_nearest_rows_are_those_of_brute_force(seed, n, d, distance, offset):
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(n, d)) + offset).astype(np.float32)
    X[3] = 0
    Q = X[[1, 5]] + np.float32(0.01)
    skipped = np.array([1, -1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_nearest, "BLOCK_ROWS", 7)
        patch.setattr(_nearest, "_SPARE", 40)
        found = nearest_rows(
            Q, X.__getitem__, n, k=5, distance=distance, skipped=skipped
        )
    far = brute(Q, X, distance)
    far[0, 1] = np.inf
    expected = np.sort(far, axis=1)[:, :5]
    sign = -1 if distance == "cosine" else 1
    np.testing.assert_allclose(sign * found.values, expected, rtol=1e-9, atol=1e-9)
    at = np.take_along_axis(far, found.rows, axis=1)
    np.testing.assert_allclose(at, expected, rtol=1e-9, atol=1e-9)
    assert all(len(set(row)) == 5 for row in found.rows.tolist())


def test_no_more_than_a_block_of_rows_is_held():
    X = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    asked = []

    def read(rows):
        asked.append(len(rows))
        return X[rows]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_nearest, "_BLOCK_BYTES", 4 * 4 * 32)
        nearest_rows(X[:2], read, len(X), k=3)
    assert max(asked) == 32
    assert sum(asked) == 300 + 2 * (3 + _nearest._SPARE)


def test_rows_of_a_file_have_neighbours_with_labels(tmp_path):
    path = write_features(tmp_path / "f.h5")
    options = NeighboursOptions(layer="layer10", top=4, distance="euclidean")
    told = find_neighbours(["class1/013.png", "class3/040.png"], str(path), options)
    with open_features(path) as features:
        X, paths = features.read("layer10"), features.paths
    far = brute(X[[13, 40]], X, "euclidean")
    far[[0, 1], [13, 40]] = np.inf
    for one, row in zip(told["queries"], far, strict=True):
        order = np.argsort(row)[:4]
        assert [near["path"] for near in one["neighbours"]] == [paths[k] for k in order]
        distances = [near["distance"] for near in one["neighbours"]]
        np.testing.assert_allclose(distances, row[order], rtol=1e-6)
    same = [near["label"] == "class1" for near in told["queries"][0]["neighbours"]]
    same += [near["label"] == "class3" for near in told["queries"][1]["neighbours"]]
    assert told["label_share"] == pytest.approx(np.mean(same))


def test_an_image_that_is_not_in_the_file_goes_through_its_network(
    colour_dir, colour_features, tmp_path
):
    shutil.copy(colour_dir / "red" / "3.png", tmp_path / "own.png")
    words = [tmp_path / "own.png", colour_dir / "red" / "3.png", colour_features]
    words += ["--top", 3, "--json", "-o", tmp_path / "near.png"]
    line = ["visualize", "neighbours", *map(str, words)]
    result = CliRunner().invoke(cli, line)
    assert result.exit_code == 0, result.output
    own, row = json.loads(result.stdout)["queries"]
    assert own["label"] is None and row["label"] == "red"
    assert own["neighbours"][0]["path"] == row["path"] == "red/3.png"
    assert own["neighbours"][0]["cosine"] == pytest.approx(1, abs=1e-5)
    others = [near["path"] for near in row["neighbours"]]
    assert [near["path"] for near in own["neighbours"][1:]] == others[:2]
    with Image.open(tmp_path / "near.png") as sheet:
        assert sheet.width > 300


def test_what_has_no_neighbours_is_one_line(colour_features, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    for query, told in (
        ("nowhere.png", "such as blue/0.png"),
        (tmp_path / "broken.png", "broken.png"),
    ):
        words = ["visualize", "neighbours", str(query), str(colour_features), "--quiet"]
        result = CliRunner().invoke(cli, words)
        assert result.exit_code == 1
        assert told in result.stderr and result.stderr.count("\n") == 1
    with pytest.raises(DataError, match="24 images have features"):
        find_neighbours(["red/0.png"], str(colour_features), NeighboursOptions(top=24))
