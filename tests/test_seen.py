"""Who has seen this image: the same answer however the images were listed."""

import numpy as np
import pytest

from cnnfeat.image_table import ImageTable
from cnnfeat.seen import SeenImages

SEEN = SeenImages("/data", ("a/0.png", "b//1.png", "/other/x.png"))


def table(root, *paths):
    return ImageTable(root, paths, np.full(len(paths), -1), ())


@pytest.mark.parametrize(
    ("root", "paths", "expected"),
    [
        ("/data", ("a/0.png", "a/1.png", "b/1.png"), [0, 2]),
        ("/data/", ("./a/0.png",), [0]),
        ("/data/a", ("0.png", "1.png"), [0]),  # listed from a folder below
        ("/", ("data/a/0.png", "a/0.png"), [0]),  # from one above
        ("/lists", ("/data/a/0.png", "/other/x.png", "a/0.png"), [0, 1]),
        ("/data/x/..", ("a/0.png",), [0]),
        ("/elsewhere", ("a/0.png", "b/1.png"), []),  # equal names alone are nothing
    ],
)
def test_absolute_paths_are_compared(root, paths, expected):
    assert SEEN.among(table(root, *paths)).tolist() == expected


def test_only_the_rows_asked_for_are_looked_at_in_their_order():
    images = table("/data", "a/0.png", "a/1.png", "b/1.png")
    assert SEEN.among(images, np.array([2, 1, 0])).tolist() == [2, 0]
    assert SEEN.among(images, np.array([1])).tolist() == []


def test_weights_tell_what_they_were_trained_on():
    metadata = {"root": "/data", "training_paths": ["a/0.png"], "heldout_paths": ["b"]}
    seen = SeenImages.of_weights(metadata)
    assert (len(seen), len(SeenImages.of_weights({}))) == (1, 0)
    assert seen.among(table("/data", "b", "a/0.png")).tolist() == [1]
