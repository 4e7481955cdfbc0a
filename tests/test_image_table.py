"""The table of images: checked once, taken by rows, told apart by its fingerprint."""

import hashlib
import pickle

import numpy as np
import pytest

from cnnfeat import ImageTable
from cnnfeat.errors import DataError
from cnnfeat.images import fingerprint_images, list_images

BOXES = np.arange(12).reshape(3, 4)


def table(**changes):
    fields = {
        "root": "/data",
        "paths": ("a/0.png", "a/1.png", "b/0.png"),
        "labels": np.array([0, 0, 1]),
        "class_names": ("a", "b"),
        "columns": {"box": BOXES},
    }
    return ImageTable(**{**fields, **changes})


def test_rows_are_taken_in_their_order_with_all_that_is_known_of_them():
    taken = table(ok=[True, False, True]).take(np.array([2, 0, 2]))
    assert taken.paths == ("b/0.png", "a/0.png", "b/0.png")
    assert taken.labels.tolist() == [1, 0, 1]
    assert taken.ok.tolist() == [True, True, True]
    assert taken.columns["box"].tolist() == BOXES[[2, 0, 2]].tolist()
    assert (taken.root, taken.class_names) == ("/data", ("a", "b"))
    chosen = table().take(np.array([False, True, False]))
    assert (chosen.paths, len(chosen)) == (("a/1.png",), 1)
    assert len(table().take(np.array([], dtype=np.int64))) == 0


def test_what_is_not_said_is_filled_in_and_types_are_as_documented():
    made = table(paths=["x", "y", "z"], labels=[0, -1, 1], class_names=["a", "b"])
    assert (made.paths, made.class_names) == (("x", "y", "z"), ("a", "b"))
    assert (made.labels.dtype, made.ok.dtype) == (np.int32, bool)
    assert made.ok.all()
    again = pickle.loads(pickle.dumps(made))
    assert again.fingerprint() == made.fingerprint()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"labels": [0, 1]}, "3 paths, 2 labels"),
        ({"ok": [True]}, "3 paths, 1 ok"),
        ({"columns": {"box": BOXES[:2]}}, "3 paths, 2 box"),
        ({"labels": [0, 1, 2]}, "labels go from 0 to 2, but there are 2 class names"),
        ({"labels": [0, 1, -2]}, "labels go from -2 to 1"),
    ],
)
def test_a_table_that_does_not_hold_together_is_refused(changes, match):
    with pytest.raises(DataError, match=match):
        table(**changes)


@pytest.mark.parametrize(
    ("root", "path", "expected"),
    [
        ("/data", "a/0.png", "/data/a/0.png"),
        ("/data/", "./a/../0.png", "/data/0.png"),
        ("/data", "/other//x.png", "/other/x.png"),
        ("/data/t.tar", "a/0.png", "/data/t.tar/a/0.png"),
    ],
)
def test_absolute_paths(root, path, expected):
    assert table(root=root, paths=(path, "y", "z")).absolute_path(0) == expected


def test_the_fingerprint_is_the_one_that_files_keep(tmp_path):
    for name, size in (("a/0.png", 3), ("b/1.png", 5)):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(bytes(size))
    told = b"a\0b\0\0a/0.png\0b/1.png\0"
    told += np.array([0, 1], "<i4").tobytes()
    images = list_images(tmp_path)
    assert images.fingerprint() == hashlib.sha256(told).hexdigest()
    told += np.array([3, 5], "<i8").tobytes()
    assert fingerprint_images(images) == hashlib.sha256(told).hexdigest()


@pytest.mark.parametrize(
    "changes",
    [
        {"paths": ("a/0.png", "a/1.png", "b/9.png")},
        {"labels": [0, 0, -1]},
        {"class_names": ("a", "c")},
    ],
)
def test_the_fingerprint_tells_tables_apart(changes):
    assert table(**changes).fingerprint() != table().fingerprint()


def test_a_table_of_labels_alone():
    made = ImageTable.from_labels(np.array([7, 3, 7, 5]))
    assert made.class_names == ("3", "5", "7")
    assert made.labels.tolist() == [2, 0, 2, 1]
    assert len(set(made.paths)) == 4
