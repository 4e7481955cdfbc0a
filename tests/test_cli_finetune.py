"""A fine-tuned file on its way through the commands, and what refuses to go there."""

import csv
import io
import json
import os

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from cnnfeat.cli.main import cli

TINY_RUN = (
    *("--model", "squeezenet1_1", "--device", "cpu", "--workers", "0"),
    *("--train-per-class", "5", "--no-frozen", "--quiet"),
)
RANDOM = ("--weights", "random")
HEAD_ONLY = (*RANDOM, "--train", "head", "--epochs", "3")


def invoke(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def done(*arguments):
    """Run a command that has to succeed; return its JSON and what it told."""
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout), result.stderr


def refused(*arguments, status=1):
    """Run a command that has to fail with one line; return the line."""
    result = invoke(*arguments)
    assert result.exit_code == status and result.stdout == "", result.output
    (line,) = result.stderr.splitlines()
    return line


@pytest.fixture(scope="module")
def tuned(colour_dir, tmp_path_factory):
    """Weights fine-tuned by the command on 15 of 24 images."""
    path = tmp_path_factory.mktemp("tuned") / "tuned.safetensors"
    report, _ = done("finetune", colour_dir, "-o", path, *TINY_RUN, *HEAD_ONLY)
    assert report["n_train"] + report["n_validation"] == 15 and report["n_test"] == 9
    return path


@pytest.fixture(scope="module")
def tuned_features(tuned, colour_dir):
    """Features of all 24 images, tapped from the fine-tuned network."""
    path = tuned.with_name("tuned.h5")
    where = ("--model", "squeezenet1_1", "--weights", tuned, "--device", "cpu")
    layer = ("--layer", "features.12", "--pool", "avg", "--workers", 0, "--quiet")
    _, told = done("extract", colour_dir, "-o", path, *where, *layer)
    assert "15 of 24 images are among those that" in told
    return path


def test_features_tell_the_fine_tuned_file(tuned, tuned_features):
    weights, _ = done("info", tuned)
    features, _ = done("info", tuned_features)
    assert features["provenance"]["weights_sha256"] == weights["sha256"]
    assert features["provenance"]["model"] == weights["model"] == "squeezenet1_1"
    assert weights["started_from"]["weights"] == "random"
    assert weights["n_classes"] == 3 and weights["class_names"] == [
        *("blue", "green", "red")
    ]
    assert (weights["n_training"], weights["n_heldout"]) == (15, 9)


def test_heads_on_tuned_features_score_heldout_rows(tuned_features, tmp_path):
    head = tmp_path / "svm.h5"
    rows = ("--train-per-class", 5)  # the fine-tuning's own rows, by the same seed
    done("train-svm", tuned_features, "-o", head, *rows)
    report, told = done("evaluate", head, tuned_features)
    assert report["n_images"] == 9 and report["accuracy"] > 0.5
    assert told == ""
    report, told = done("evaluate", head, tuned_features, "--rows", "all")
    assert report["n_images"] == 24
    assert "15 of the scored images are among those that the network was" in told


def test_weights_named_from_one_folder_are_found_from_another(
    tuned, colour_dir, tmp_path, monkeypatch
):
    features, head = tmp_path / "f.h5", tmp_path / "svm.h5"
    monkeypatch.chdir(tuned.parent)
    where = ("--model", "squeezenet1_1", "--weights", tuned.name, "--device", "cpu")
    layer = ("--layer", "features.1", "--pool", "avg", "--workers", 0, "--quiet")
    done("extract", colour_dir, "-o", features, *where, *layer)
    monkeypatch.chdir(tmp_path)
    done("train-svm", features, "-o", head, "--train-per-class", 5, "--C", 1)
    _, told = done("evaluate", head, features, "--rows", "all")
    assert "15 of the scored images are among those that the network was" in told


def test_other_rows_than_the_fine_tunings_are_warned_of(tuned_features, tmp_path):
    head = tmp_path / "svm.h5"
    rows = ("--train-per-class", 5, "--seed", 4)
    done("train-svm", tuned_features, "-o", head, *rows)
    _, told = done("evaluate", head, tuned_features)
    assert "fine-tuned on: this is not a test accuracy" in told


def test_predictions_of_weights_and_of_a_head_on_them(
    tuned, tuned_features, colour_dir, tmp_path
):
    head = tmp_path / "softmax.h5"
    done("train-softmax", tuned_features, "-o", head, "--train-per-class", 5)
    for model in (tuned, head):
        where = ("--device", "cpu", "--workers", 0, "--quiet", "--top", 3)
        result = invoke("predict", model, colour_dir, *where)
        assert result.exit_code == 0, result.output
        table = list(csv.DictReader(io.StringIO(result.stdout)))
        assert len(table) == 24 * 3
        assert {row["label"] for row in table} == {"blue", "green", "red"}
        shares = [float(row["probability"]) for row in table]
        sums = [sum(shares[k : k + 3]) for k in range(0, len(shares), 3)]
        assert sums == pytest.approx([1.0] * 24, abs=1e-4)
    best = [row for row in table if row["rank"] == "1"]  # the head's
    assert sum(row["label"] in row["path"] for row in best) > 12


def test_a_head_file_starts_the_classifier(colour_dir, tmp_path):
    features, head = tmp_path / "f.h5", tmp_path / "h.h5"
    where = ("--model", "squeezenet1_1", *RANDOM, "--device", "cpu", "--workers", 0)
    pooled = ("--layer", "features.12", "--pool", "avg", "--quiet")
    done("extract", colour_dir, "-o", features, *where, *pooled)
    scaled = ("--scale", "mean-norm", "--train-per-class", 5, "--C", 1)
    done("train-softmax", features, "-o", head, *scaled)
    score, _ = done("evaluate", head, features)
    # A rate of next to nothing: what is scored is the head itself.
    still = ("--train", "head", "--epochs", 1, "--lr", 1e-9, "--validation", 0)
    weights = tmp_path / "w.safetensors"
    report, told = done(
        *("finetune", colour_dir, "-o", weights, *TINY_RUN, *RANDOM, *still),
        *("--init", head),
    )
    assert told == ""
    (row,) = report["comparison"]
    assert row["accuracy"] == pytest.approx(score["accuracy"])
    _, told = done(
        *("finetune", colour_dir, "-o", weights, "--overwrite", *TINY_RUN, *RANDOM),
        *(*still[:-1], 0.17, "--init", head, "--seed", 5),
    )
    assert "test images, so that accuracy on them is too good" in told
    assert "validation images" in told


def test_a_head_on_unit_rows_goes_through_the_file_to_every_reader(
    colour_dir, tmp_path
):
    features, head = tmp_path / "f.h5", tmp_path / "h.h5"
    where = ("--model", "squeezenet1_1", "--device", "cpu", "--workers", 0, "--quiet")
    pooled = ("--layer", "features.12", "--pool", "avg")
    done("extract", colour_dir, "-o", features, *where, *RANDOM, *pooled)
    scaled = ("--scale", "l2", "--train-per-class", 5, "--C", 1)
    done("train-softmax", features, "-o", head, *scaled)
    still = ("--train", "head", "--epochs", 1, "--lr", 1e-9, "--validation", 0)
    weights = tmp_path / "w.safetensors"
    done(
        *("finetune", colour_dir, "-o", weights, *TINY_RUN, *RANDOM, *still),
        *("--init", head),
    )
    # The classifier's output by each engine, and what `predict` makes of it.
    scores = {}
    for engine in ("eager", "openvino"):
        if engine == "openvino":
            pytest.importorskip("openvino")
        output = tmp_path / f"{engine}.h5"
        tapped = ("--weights", weights, "--layer", "classifier", "--engine", engine)
        done("extract", colour_dir, "-o", output, *where, *tapped)
        with h5py.File(output) as file:
            stored = file["features/classifier"][:]
            paths = [path.decode() for path in file["images/path"][:]]
        scores[engine] = stored.reshape(len(paths), -1, 3).mean(axis=1)
    np.testing.assert_allclose(scores["openvino"], scores["eager"], atol=1e-3)
    told = ("--device", "cpu", "--workers", 0, "--quiet", "--json")
    found = json.loads(invoke("predict", weights, colour_dir, *told).stdout)
    predicted = {row["path"]: row["labels"][0] for row in found["predictions"]}
    best = scores["eager"].argmax(axis=1)
    assert predicted == {
        path: ("blue", "green", "red")[k] for path, k in zip(paths, best, strict=True)
    }
    by_head = json.loads(invoke("predict", head, colour_dir, *told).stdout)
    assert predicted == {
        row["path"]: row["labels"][0] for row in by_head["predictions"]
    }


def test_an_output_that_cannot_be_written_is_one_line(colour_dir, tmp_path):
    where = tmp_path / "missing" / "w.safetensors"
    line = refused("finetune", colour_dir, "-o", where, *TINY_RUN, *RANDOM)
    assert "missing" in line
    wrong = (colour_dir, "-o", tmp_path / "w.onnx")
    line = refused("finetune", *wrong, *TINY_RUN, status=2)
    assert ".pth or .safetensors" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_one_line(colour_dir, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    line = refused("finetune", colour_dir, "-o", closed / "w.pth", *TINY_RUN, *RANDOM)
    assert "cannot be written" in line


def test_weights_of_another_architecture_are_one_line(colour_dir, tmp_path):
    other = tmp_path / "other.safetensors"
    save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, other)
    output = tmp_path / "w.safetensors"
    line = refused("finetune", colour_dir, "-o", output, *TINY_RUN, "--weights", other)
    assert "other.safetensors" in line and "squeezenet1_1" in line
    assert not output.exists()


def test_last_99_counts_the_stages(colour_dir, tmp_path):
    output = tmp_path / "w.safetensors"
    line = refused(
        *("finetune", colour_dir, "-o", output, *TINY_RUN, *RANDOM),
        *("--train", "last:99"),
    )
    assert "has 10 stages (features.0, " in line and "cnnfeat layers" in line


@pytest.mark.parametrize("name", ["--interpolate", "--start-share"])
def test_interpolation_needs_a_start_by_its_old_name_too(colour_dir, tmp_path, name):
    output = tmp_path / "w.safetensors"
    start = (*TINY_RUN, "--init", "noise")
    line = refused("finetune", colour_dir, "-o", output, *start, name, 0.5, status=2)
    assert "--interpolate 0.5 with --init noise" in line


def test_the_old_name_is_not_in_the_help():
    text = invoke("finetune", "--help").output
    assert "--interpolate" in text and "--start-share" not in text
