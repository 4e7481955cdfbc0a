"""Who has seen this image: the same answer however the images were listed."""

import functools
import itertools
import operator
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from cnnfeat.benchmark import BenchmarkOptions, DrawOptions, run_benchmark
from cnnfeat.errors import CnnfeatWarning
from cnnfeat.evaluate import evaluate_head
from cnnfeat.image_table import ImageTable
from cnnfeat.layer_spec import LayerSpec
from cnnfeat.networks import file_digest, save_weights
from cnnfeat.seen import SeenImages
from cnnfeat.store import Contents, FeatureWriter
from cnnfeat.train import TrainOptions, train_head

SEEN = SeenImages("/data", ("a/0.png", "b//1.png", "/other/x.png"))
NAMES = [f"{name}/{k}.png" for name in ("ant", "bee") for k in range(8)]
# The same sixteen images as four sources list them.
LISTINGS = {
    "folder": ("/data/images", NAMES),
    "folder above": ("/data", [f"images/{name}" for name in NAMES]),
    "slash behind": ("/data//images/", NAMES),
    "manifest": ("/lists", [f"/data/images/{name}" for name in NAMES]),
}


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


def digested(*images):
    """A table of (absolute path, digest) pairs."""
    return table("/", *(path for path, _ in images)).with_digests(
        [digest for _, digest in images]
    )


def test_contents_are_compared_where_both_sides_know_them():
    seen = SeenImages("/data", ("a", "b", "c"), ("1", "2", ""))
    images = digested(
        ("/copies/x", "1"),  # a copy
        ("/data/a", "9"),  # another image of that name
        ("/data/b", ""),  # its content is not known here
        ("/data/c", "9"),  # its content was not known there
        ("/copies/c", ""),
    )
    assert seen.among(images).tolist() == [0, 2, 3]


PATHS, DIGESTS = st.sampled_from("abcd"), st.sampled_from(["", "1", "2", "3"])
IMAGES = st.lists(st.tuples(PATHS, DIGESTS), max_size=5, unique_by=lambda pair: pair[0])


@given(IMAGES, IMAGES, IMAGES)
def test_an_image_is_seen_by_content_or_else_by_path(first, second, asked):
    def same(a, b):
        return a[1] == b[1] if a[1] and b[1] else a[0] == b[0]

    both = [SeenImages("/", *zip(*one, strict=True)) for one in (first, second) if one]
    seen = functools.reduce(operator.or_, both, SeenImages("", ()))
    expected = [
        k for k, a in enumerate(asked) if any(same(a, b) for b in first + second)
    ]
    images = digested(*((f"/{path}", digest) for path, digest in asked))
    assert seen.among(images).tolist() == expected


def test_weights_remember_what_they_had_been_trained_on_before():
    first = {"root": "/x", "training_paths": ["a"], "training_digests": ["1"]}
    second = {"root": "/y", "training_paths": ["b"], "training_before": [first]}
    seen = SeenImages.of_weights(second)
    images = digested(("/copy", "1"), ("/y/b", ""), ("/x/b", ""))
    assert seen.among(images).tolist() == [0, 1]


# The verbs.


def write_features(path, listing, n_lost=0, **provenance):
    """Write easy features of the images as one source lists them."""
    labels = np.repeat([0, 1], 8)
    X = np.random.default_rng(0).normal(size=(16, 4)) + 5 * labels[:, None]
    images = ImageTable(*LISTINGS[listing], labels, ("ant", "bee"))
    told = {"model": "made", "images_sha256": listing, **provenance}
    contents = Contents(images, [LayerSpec("fc", "fc", (4,))], told, "")
    with FeatureWriter(path, contents, fingerprint={}) as writer:
        ok = np.arange(16) >= n_lost
        writer.write(0, {"fc": X}, ok, ["" if good else "lost" for good in ok])
        writer.finish()
    return str(path)


def warnings_of(verb, *arguments, **options):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", CnnfeatWarning)
        verb(*arguments, **options)
    return " ".join(str(one.message) for one in told)


@pytest.mark.parametrize(
    ("trained_on", "scored"), list(itertools.permutations(LISTINGS, 2))
)
def test_evaluate_knows_training_images_from_another_listing(
    tmp_path, trained_on, scored
):
    features = write_features(tmp_path / "a.h5", trained_on)
    others = write_features(tmp_path / "b.h5", scored, n_lost=1)
    head = str(tmp_path / "head.h5")
    train_head(features, head, TrainOptions(C=(1.0,), test_share=0.0))
    told = warnings_of(evaluate_head, head, others)
    assert "15 of the scored images are training images of the head" in told


def test_evaluate_says_nothing_of_other_images_of_the_same_names(tmp_path, monkeypatch):
    head = str(tmp_path / "head.h5")
    train_head(write_features(tmp_path / "a.h5", "folder"), head)
    monkeypatch.setitem(LISTINGS, "elsewhere", ("/elsewhere/images", NAMES))
    others = write_features(tmp_path / "b.h5", "elsewhere")
    assert warnings_of(evaluate_head, head, others) == ""


@pytest.fixture(params=LISTINGS)
def tuned_features(request, tmp_path):
    """Features from weights that were fine-tuned on five images of each class."""
    root, names = LISTINGS["folder"]
    trained = [name for name in names if int(name[4]) < 5]
    weights = tmp_path / "w.safetensors"
    state = {"w": torch.zeros(1)}
    save_weights(weights, state, {"root": root, "training_paths": trained})
    told = {"weights": str(weights), "weights_sha256": file_digest(weights)}
    return write_features(tmp_path / "f.h5", request.param, **told)


def test_evaluate_and_benchmark_know_what_weights_were_tuned_on(
    tuned_features, tmp_path
):
    head = str(tmp_path / "head.h5")
    train_head(tuned_features, head, TrainOptions(C=(1.0,), train_per_class=3))
    told = warnings_of(evaluate_head, head, tuned_features, rows="all")
    assert "10 of the scored images are among those that the network was" in told
    draw = DrawOptions(train_per_class=3, n_splits=20)  # each image is tested somewhere
    told = warnings_of(
        run_benchmark, tuned_features, BenchmarkOptions(draw=draw, C=(1.0,))
    )
    assert "10 of 16 test images are among those that the network was" in told
