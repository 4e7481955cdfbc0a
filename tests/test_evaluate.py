"""Which rows `evaluate` scores, what it calls them, and what it says of the others."""

import numpy as np
import pytest
from test_seen import warnings_of

from cnnfeat.errors import DataError
from cnnfeat.evaluate import evaluate_head
from cnnfeat.image_table import ImageTable
from cnnfeat.layer_spec import LayerSpec
from cnnfeat.store import Contents, FeatureWriter
from cnnfeat.train import TrainOptions, train_head

NAMES = ("ant", "bee", "cat")
N = 8  # images a class
OPTIONS = TrainOptions(C=(1.0,), train_per_class=4, test_per_class=2)


def write_features(path, root="/a", digest="a", classes=NAMES, ok=None, **changes):
    """Write easy features; an image's content is `digest` and its number."""
    labels = np.repeat(np.arange(len(classes)), N)
    labels = changes.get("labels", labels)
    X = np.random.default_rng(0).normal(size=(len(labels), 4)) + 5 * labels[:, None]
    names = [f"{classes[k // N]}/{k % N}.png" for k in range(len(labels))]
    table = ImageTable(root, names, labels, classes)
    # Sizes, which this digest stands for, are equal too.
    told = {"model": "made", "images_sha256": changes.get("listed", "same")}
    contents = Contents(table, [LayerSpec("fc", "fc", (4,))], told, "")
    ok = np.ones(len(labels), bool) if ok is None else ok
    digests = [f"{digest}{k}" if digest else "" for k in range(len(labels))]
    with FeatureWriter(path, contents, fingerprint={}) as writer:
        writer.write(0, {"fc": X}, ok, ["" if good else "lost" for good in ok], digests)
        writer.finish()
    return str(path)


@pytest.fixture
def head(tmp_path):
    """A head of `a.h5`: four of eight images a class trained on, two held out."""
    path = str(tmp_path / "head.h5")
    train_head(write_features(tmp_path / "a.h5"), path, OPTIONS)
    return path


def test_on_its_own_file_the_drawn_rows_are_scored(head, tmp_path):
    report = evaluate_head(head, str(tmp_path / "a.h5"))
    assert (report.n_images, report.rows) == (6, "heldout")
    assert report.left_out == {"trained_on": 12, "not_drawn": 6}
    assert report.n_left_out == 18


def test_other_images_of_equal_names_and_sizes_are_all_scored(head, tmp_path):
    other = write_features(tmp_path / "b.h5", root="/b", digest="b")
    report = evaluate_head(head, other)  # a warning is an error here
    assert (report.n_images, report.rows, report.left_out) == (24, "all", {})


def test_other_images_are_scored_though_the_head_was_trained_on_all(tmp_path):
    head = str(tmp_path / "head.h5")
    train_head(write_features(tmp_path / "a.h5"), head, TrainOptions(C=(1.0,)))
    other = write_features(tmp_path / "b.h5", digest="b")
    assert evaluate_head(head, other).n_images == 24


def test_a_copy_is_the_file_that_the_head_was_trained_from(head, tmp_path):
    report = evaluate_head(head, write_features(tmp_path / "b.h5", root="/copy"))
    assert (report.n_images, report.rows) == (6, "heldout")


def test_copies_in_another_list_are_told(head, tmp_path):
    other = write_features(tmp_path / "b.h5", root="/b", listed="other")
    told = warnings_of(evaluate_head, head, other)
    assert "12 of the scored images are training images of the head" in told


def test_edited_training_images_are_other_images(head, tmp_path):
    listed = {"root": "/b", "listed": "other"}
    other = write_features(tmp_path / "b.h5", digest="edited", **listed)
    assert warnings_of(evaluate_head, head, other) == ""


def test_files_without_digests_go_by_their_lists(head, tmp_path):
    report = evaluate_head(head, write_features(tmp_path / "b.h5", digest=""))
    assert (report.n_images, report.rows) == (6, "heldout")


def test_why_images_are_left_out_is_counted_once_each(head, tmp_path):
    classes = ("ant", "bee", "elk")
    labels = np.repeat([0, 1, 2], N)
    labels[:3] = -1
    ok = np.ones(3 * N, bool)
    ok[[2, 5, 20]] = False
    other = write_features(
        tmp_path / "b.h5", digest="b", classes=classes, ok=ok, labels=labels
    )
    report = evaluate_head(head, other)
    assert report.left_out == {"unreadable": 3, "unlabelled": 2, "of_unknown_class": 7}
    assert report.n_images == 24 - report.n_left_out == 12


def test_classes_are_counted_that_are_scored(head, tmp_path):
    other = write_features(tmp_path / "b.h5", digest="b", classes=("bee", "elk"))
    report = evaluate_head(head, other)
    assert (report.n_classes, report.n_known_classes) == (1, 3)
    assert list(report.per_class_accuracy) == ["bee"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"classes": ("elk", "fox")},
            "none of its 16 .*: 16 of unknown class; the head knows a",
        ),
        (
            {"ok": np.zeros(24, bool)},
            "none of its 24 images .*: 24 unreadable; the head knows",
        ),
        (
            {"labels": np.full(8, -1)},
            "none of its 8 images .*: 8 unlabelled; the head knows",
        ),
    ],
)
def test_nothing_to_score_says_what_is_there(head, tmp_path, changes, told):
    other = write_features(tmp_path / "b.h5", digest="b", listed="other", **changes)
    with pytest.raises(DataError, match=told):
        evaluate_head(head, other)


def test_nothing_held_out_says_what_to_do(tmp_path):
    features, head = write_features(tmp_path / "a.h5"), str(tmp_path / "head.h5")
    train_head(features, head, TrainOptions(C=(1.0,), test_share=0.0))
    with pytest.raises(DataError, match="24 trained on; train with `train_per_class`"):
        evaluate_head(head, features)


def test_training_says_why_images_take_no_part(tmp_path):
    ok = np.ones(24, bool)
    ok[0] = False
    features = write_features(tmp_path / "a.h5", ok=ok)
    options = TrainOptions(
        C=(1.0,), train_per_class=4, test_per_class=2, exclude_classes=("cat",)
    )
    report = train_head(features, str(tmp_path / "head.h5"), options)
    assert report.left_out == {
        "unreadable": 1,
        "of_excluded_class": 8,
        "not_drawn": 3,
    }
    assert report.n_left_out == 12
