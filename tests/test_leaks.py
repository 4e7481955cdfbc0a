"""Copies of images: found by features, confirmed by what the images show."""

import csv
import io
import shutil

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image, ImageFilter

from cnnfeat.errors import CnnfeatWarning, DataError, OptionError, ProvenanceError
from cnnfeat.evaluate import EvaluationOutputs, evaluate_head
from cnnfeat.extract import ExtractOptions, extract_features
from cnnfeat.images import likeness
from cnnfeat.leaks import LeaksOptions, find_leaks
from cnnfeat.similarity import near_pairs
from cnnfeat.train import TrainOptions, train_head

PIXELS = ExtractOptions(model="pixels", workers=0)


def blobs(seed, size=96):
    """Return a smooth image that no other seed gives."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    image = Image.fromarray(values).resize((size, size), Image.Resampling.BICUBIC)
    return image.filter(ImageFilter.GaussianBlur(2))


@given(st.integers(0, 40), st.integers(0, 30), st.integers(1, 9), st.booleans())
def test_pairs_are_those_of_the_whole_matrix(n, m, block, is_one):
    rng = np.random.default_rng(n)
    X, Y = rng.normal(size=(n, 3)), rng.normal(size=(m, 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cnnfeat.similarity._pairs.BLOCK_ROWS", block)
        sets = () if is_one else (lambda a, b: Y[a:b], m)
        found = near_pairs(lambda a, b: X[a:b], n, *sets, threshold=0.7)
    Y = X if is_one else Y
    cosine = X @ Y.T / np.linalg.norm(X, axis=1)[:, None]
    cosine = cosine / np.linalg.norm(Y, axis=1)
    near = np.triu(cosine >= 0.7, 1) if is_one else cosine >= 0.7
    assert {(i, j) for i, j in found.rows.tolist()} == set(
        map(tuple, np.argwhere(near).tolist())
    )
    np.testing.assert_allclose(found.cosines, cosine[tuple(found.rows.T)], rtol=1e-5)
    assert (np.diff(found.cosines) <= 0).all() and found.threshold == 0.7


def test_of_too_many_pairs_the_nearest_are_kept(monkeypatch):
    monkeypatch.setattr("cnnfeat.similarity._pairs.BLOCK_ROWS", 7)
    monkeypatch.setattr("cnnfeat.similarity._pairs.MOST_PAIRS", 20)
    X = np.random.default_rng(0).random((50, 4))
    found = near_pairs(lambda a, b: X[a:b], 50, threshold=0.5)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    cosines = (unit @ unit.T)[np.triu_indices(50, 1)]
    assert 0 < len(found.rows) <= 20
    assert len(found.rows) == (cosines >= found.threshold).sum()
    assert found.cosines.min() >= found.threshold > 0.5


def test_the_hash_is_of_the_lowest_frequencies():
    """Against a cosine transform written out; odd sizes and grey images as well."""
    image = blobs(3, size=64)
    grey = image.convert("L").resize((32, 32), Image.Resampling.BOX)
    values = np.asarray(grey, float)
    k, x = np.arange(8)[:, None], np.arange(32)[None]
    basis = np.cos(np.pi * k * (2 * x + 1) / 64) * np.where(k == 0, 0.5**0.5, 1)
    low = (basis @ values @ basis.T).ravel()
    np.testing.assert_array_equal(likeness(image).bits, low > np.median(low))


@given(st.integers(0, 1000))
def test_a_hash_outlasts_size_compression_brightness_and_mirror(seed):
    image, other = blobs(seed), blobs(seed + 1)
    data = io.BytesIO()
    image.resize((150, 150)).point(lambda v: int(0.9 * v) + 10).save(data, "JPEG")
    copy = Image.open(data).convert("RGB")
    bits, mirrored = likeness(image).distance(likeness(copy))
    assert bits <= 6 and not mirrored
    turned = likeness(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    bits, mirrored = likeness(image).distance(turned)
    assert bits == 0 and mirrored
    assert likeness(image).distance(likeness(other))[0] > 6
    assert likeness(image).pixels != likeness(copy).pixels


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """Three classes of six images, with one copy of each kind."""
    root = tmp_path_factory.mktemp("copied") / "images"
    for label, name in enumerate(("ant", "bee", "cat")):
        (root / name).mkdir(parents=True)
        for k in range(6):
            blobs(10 * label + k).save(root / name / f"{k}.png")
    shutil.copy(root / "ant" / "0.png", root / "ant" / "copy.png")
    blobs(1).save(root / "ant" / "again.png", compress_level=1)
    blobs(10).save(root / "cat" / "bee.jpg", quality=90)
    features = root.parent / "f.h5"
    extract_features(str(root), str(features), PIXELS)
    return features


def test_each_kind_of_copy_is_found_and_nothing_else(copied):
    report = find_leaks(str(copied), options=LeaksOptions(cosine=0.8))
    found = {(one.path, one.other_path): one.copy for one in report.pairs}
    assert found == {
        ("ant/0.png", "ant/copy.png"): "bytes",
        ("ant/1.png", "ant/again.png"): "pixels",
        ("bee/0.png", "cat/bee.jpg"): "near",
    }
    assert report.n_copies == {"bytes": 1, "pixels": 1, "near": 1}
    assert (report.n_across_classes, report.n_images_with_copies) == (1, 6)
    assert report.pairs[0].other_label == "cat"  # across classes come first
    assert report.n_train_test is None and report.n_candidates > 3


def test_two_files_are_held_against_each_other(copied, tmp_path):
    (tmp_path / "new").mkdir()
    blobs(12).save(tmp_path / "new" / "x.png", compress_level=1)
    blobs(777).save(tmp_path / "new" / "y.png")
    other = str(tmp_path / "g.h5")
    extract_features(str(tmp_path / "new"), other, PIXELS)
    (pair,) = find_leaks(str(copied), other, LeaksOptions(cosine=0.8)).pairs
    told = (pair.path, pair.other_path, pair.copy, pair.sides, pair.is_across)
    assert told == ("bee/2.png", "x.png", "pixels", "files", False)


def test_features_of_another_network_are_refused(copied, colour_features):
    with pytest.raises(ProvenanceError, match="cosines of different features"):
        find_leaks(str(copied), str(colour_features))


def test_copies_across_a_split_and_what_they_do_to_an_accuracy(copied, tmp_path):
    head, table = str(tmp_path / "h.h5"), tmp_path / "p.csv"
    rows = [("ant/0.png", "train"), ("ant/copy.png", "test"), ("bee/0.png", "train")]
    rows += [("cat/bee.jpg", "test"), ("cat/1.png", "train"), ("cat/2.png", "test")]
    rows += [("ant/1.png", "test"), ("ant/again.png", "test"), ("bee/3.png", "test")]
    splits = tmp_path / "s.csv"
    lines = ["path,split,split_index", *(f"{path},{side},0" for path, side in rows)]
    splits.write_text("\n".join(lines))
    train_head(str(copied), head, TrainOptions(C=(1.0,), splits_file=str(splits)))
    report = find_leaks(str(copied), options=LeaksOptions(cosine=0.8, head_path=head))
    assert {one.other_path: one.sides for one in report.pairs} == {
        "ant/copy.png": "train-test",
        "cat/bee.jpg": "train-test",
        "ant/again.png": "test",
    }
    assert (report.n_train_test, report.n_test_with_copies) == (2, 2)
    outputs = EvaluationOutputs(predictions_path=str(table))
    with pytest.warns(CnnfeatWarning, match="1 of the scored images"):
        whole = evaluate_head(head, str(copied), outputs=outputs)
    found = report.accuracy
    assert (found.n_images, found.n_copies) == (6, 2)
    assert found.accuracy == whole.accuracy
    with table.open() as text:
        right = {one["path"]: int(one["correct"]) for one in csv.DictReader(text)}
    del right["ant/copy.png"], right["cat/bee.jpg"]
    assert found.accuracy_without == np.mean(list(right.values()))
    by_file = LeaksOptions(cosine=0.8, splits_file=str(splits))
    assert find_leaks(str(copied), options=by_file).n_train_test == 2


def test_without_the_images_pairs_are_unconfirmed(copied, tmp_path):
    moved = tmp_path / "f.h5"
    shutil.copy(copied, moved)
    hidden = copied.parent / "images"
    hidden.rename(tmp_path / "elsewhere")
    try:
        report = find_leaks(str(moved), options=LeaksOptions(cosine=0.999))
    finally:
        (tmp_path / "elsewhere").rename(hidden)
    assert report.n_copies["bytes"] == 1 and report.n_copies["unconfirmed"] >= 1
    assert report.n_across_classes == 0  # of what is confirmed


def test_what_does_not_go_together_is_refused(copied, colour_features, tmp_path):
    head = str(tmp_path / "h.h5")
    train_head(str(colour_features), head, TrainOptions(C=(1.0,)))
    with pytest.raises(DataError, match="was not trained from"):
        find_leaks(str(copied), options=LeaksOptions(head_path=head))
    both = LeaksOptions(head_path=head, splits_file="s.csv")
    with pytest.raises(OptionError, match="says which rows"):
        find_leaks(str(copied), options=both)
    with pytest.raises(OptionError, match="two sides"):
        find_leaks(str(copied), "g.h5", LeaksOptions(head_path=head))


def test_many_alike_are_told(copied, monkeypatch):
    monkeypatch.setattr("cnnfeat.similarity._pairs.MOST_PAIRS", 5)
    with pytest.warns(CnnfeatWarning, match="only the nearest"):
        report = find_leaks(str(copied), options=LeaksOptions(cosine=0.1))
    assert report.cosine > 0.1 and report.n_copies["bytes"] == 1
