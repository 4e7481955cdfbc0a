"""Who has seen this image: the same answer however the images were listed."""

import itertools
import warnings

import numpy as np
import pytest
import torch

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
    train_head(features, head, TrainOptions(C=(1.0,)))
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
