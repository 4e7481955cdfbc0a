"""`evaluate` on images: a fine-tuned network, or a head, and what was left out."""

import csv
import io
import json

import numpy as np
import pytest
from test_predict import OPTIONS, invoke

from cnnfeat.finetune import FinetuneOptions, finetune_network
from cnnfeat.networks import load_network
from cnnfeat.predict import predict_images

# Most images here were trained on, which is told.
pytestmark = pytest.mark.filterwarnings("ignore:.*trained on. how well it does on them")


@pytest.fixture(scope="module")
def tuned(colour_dir, tmp_path_factory):
    """A network whose classifier is the frozen head of half of the images."""
    path = tmp_path_factory.mktemp("tuned") / "tuned.safetensors"
    options = FinetuneOptions(
        model="squeezenet1_1",
        weights="random",
        train="head",
        epochs=1,
        train_per_class=4,
        device="cpu",
        workers=0,
        frozen=False,
    )
    finetune_network(str(colour_dir), str(path), options)
    return path


def scored(*arguments):
    result = invoke(
        "evaluate", *arguments, "--device", "cpu", "--workers", 0, "--quiet"
    )
    return result


def test_a_network_is_scored_on_the_images_that_it_has_not_seen(
    tuned, colour_dir, tmp_path
):
    table, plot = tmp_path / "p.csv", tmp_path / "c.png"
    result = scored(
        *(tuned, colour_dir, "--json", "--predictions", table, "--confusion", plot)
    )
    assert (result.exit_code, result.stderr) == (0, "")
    report = json.loads(result.stdout)
    expected = {
        one.path: one.labels[0]
        for one in predict_images(str(tuned), str(colour_dir), OPTIONS).predictions
    }
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert report["n_images"] == report["n_left_out"] == len(rows) == 12
    assert all(row["predicted"] == expected[row["path"]] for row in rows)
    right = [row["path"].startswith(row["predicted"] + "/") for row in rows]
    assert report["accuracy"] == pytest.approx(np.mean(right))
    assert (report["kind"], report["C"], report["rows"]) == ("weights", None, "heldout")
    assert report["left_out"] == {"trained_on": 12}
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_all_rows_are_scored_when_asked_for(tuned, colour_dir):
    result = scored(tuned, colour_dir, "--rows", "all", "--json")
    assert json.loads(result.stdout)["n_images"] == 24
    assert "12 of the scored images are among those that" in result.stderr


def test_a_head_on_images_scores_as_on_their_features(
    colour_features, colour_dir, tmp_path
):
    head = tmp_path / "head.h5"
    invoke("train-softmax", colour_features, "-o", head, "--train-per-class", 4)
    on_features, on_images = (
        json.loads(scored(head, where, "--json").stdout)
        for where in (colour_features, colour_dir)
    )
    assert on_features == on_images
    assert on_images["n_images"] == 12 and on_images["kind"] == "softmax"


def test_images_that_cannot_be_scored_are_left_out(tuned, colour_dir, tmp_path):
    manifest = tmp_path / "list.csv"
    (tmp_path / "bad.png").write_bytes(b"no image")
    good = sorted((colour_dir / "red").iterdir())[-1]
    lines = [f"{good},red", "bad.png,red", f"{good.parent}/../red/{good.name},violet"]
    manifest.write_text("path,label\n" + "\n".join(lines) + "\n")
    result = scored(tuned, manifest, "--rows", "all", "--json")
    report = json.loads(result.stdout)
    assert report["n_images"] == 1
    assert report["left_out"] == {"unreadable": 1, "of_unknown_class": 1}


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("features", "is scored on images"),
        ("other classes", "1 of unknown class; known are blue, green, red"),
        ("nothing new", "1 trained on; give other images"),
    ],
)
def test_what_cannot_be_scored_is_told(
    tuned, colour_dir, colour_features, tmp_path, what, words
):
    where = colour_features
    if what != "features":
        table = load_network("squeezenet1_1", weights=tuned, device="cpu").weights
        path = table.metadata["training_paths"][0]
        where = tmp_path / "list.csv"
        label = "violet" if what == "other classes" else path.partition("/")[0]
        where.write_text(f"path,label\n{colour_dir / path},{label}\n")
    result = scored(tuned, where)
    assert result.exit_code == 1 and result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert words in line
