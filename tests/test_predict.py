"""Predicting with weights; the way of a fine-tuned network through every command."""

import csv
import io
import json
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import write_image
from safetensors.torch import load_file, save_file

from cnnfeat.cli.main import cli
from cnnfeat.errors import CnnfeatWarning, ProvenanceError, WeightsError
from cnnfeat.finetune import FinetuneOptions, finetune_network
from cnnfeat.heads import HEAD_KINDS
from cnnfeat.networks import load_network, save_weights
from cnnfeat.predict import PredictOptions, predict_images
from cnnfeat.seen import SeenImages

# Most images here were trained on, which is told.
pytestmark = pytest.mark.filterwarnings("ignore:.*trained on. how well it does on them")

OPTIONS = PredictOptions(device="cpu", workers=0, top=3)


@pytest.fixture(scope="module")
def tuned(colour_dir, tmp_path_factory):
    """A real architecture with random weights, its classifier fitted for an epoch."""
    path = tmp_path_factory.mktemp("tuned") / "tuned.safetensors"
    options = FinetuneOptions(
        model="squeezenet1_1",
        weights="random",
        train="head",
        epochs=30,
        lr=0.05,
        patience=0,
        train_per_class=4,
        device="cpu",
        workers=0,
        frozen=False,
    )
    finetune_network(str(colour_dir), str(path), options)
    return path


def invoke(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_probabilities_are_the_networks_own(tuned, colour_dir):
    report = predict_images(str(tuned), str(colour_dir), OPTIONS)
    assert report.n_images == 24 and report.n_failed == 0
    network = load_network("squeezenet1_1", weights=tuned, device="cpu")
    assert network.weights.class_names == ("blue", "green", "red")
    for one in report.predictions:
        assert sum(one.scores) == pytest.approx(1, abs=1e-5)
        assert list(one.scores) == sorted(one.scores, reverse=True)
        assert set(one.labels) == {"blue", "green", "red"}


def test_batch_size_changes_nothing(tuned, colour_dir):
    first, second = (
        predict_images(
            str(tuned),
            str(colour_dir),
            PredictOptions(device="cpu", workers=0, batch_size=size),
        )
        for size in (1, 24)
    )
    for one, two in zip(first.predictions, second.predictions, strict=True):
        assert one.scores == pytest.approx(two.scores, abs=1e-5)


def test_images_that_were_trained_on_are_told(tuned, colour_dir):
    with pytest.warns(CnnfeatWarning, match="12 of 24 images are among those that"):
        predict_images(str(tuned), str(colour_dir), OPTIONS)


def test_csv_lists_failed_images(tuned, tmp_path):
    write_image(tmp_path / "a.png", seed=1)
    (tmp_path / "b.png").write_bytes(b"broken")
    result = invoke("predict", tuned, tmp_path, "--device", "cpu", "--workers", 0)
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    named = [str(tmp_path / name) for name in ("a.png", "b.png")]
    assert [row["path"] for row in rows] == named
    assert list(rows[0]) == ["path", "label", "probability", "error"]
    assert rows[1]["label"] == "" and "not an image" in rows[1]["error"]
    assert "b.png" in result.stderr


@pytest.mark.parametrize("asked", ["here", "here/a.png"])
def test_bare_file_names_are_told_with_the_folder_that_was_named(
    tuned, tmp_path, monkeypatch, asked
):
    (tmp_path / "here").mkdir()
    write_image(tmp_path / "here" / "a.png", seed=1)
    monkeypatch.chdir(tmp_path)
    (one,) = predict_images(str(tuned), asked, OPTIONS).predictions
    assert one.path == "here/a.png"


def test_json_and_an_output_file(tuned, colour_dir, tmp_path):
    output = tmp_path / "p.csv"
    arguments = ("predict", tuned, colour_dir, "-o", output, "--top", 2, "--json")
    result = invoke(*arguments, "--device", "cpu", "--workers", 0, "--quiet")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["n_images"] == len(report["predictions"]) == 24
    rows = list(csv.DictReader(io.StringIO(output.read_text())))
    assert [row["rank"] for row in rows[:2]] == ["1", "2"]
    assert invoke(*arguments).exit_code == 1  # not overwritten


def test_heads_predict_as_they_are_evaluated(colour_dir, colour_features, tmp_path):
    for kind, told in HEAD_KINDS.items():
        score = told.score
        head, table = tmp_path / f"{kind}.h5", tmp_path / f"{kind}.csv"
        line = ("train", kind, colour_features, "-o", head, "--train-per-class", 4)
        trained = invoke(*line)
        assert trained.exit_code == 0, trained.output
        scored = invoke("evaluate", head, colour_features, "--predictions", table)
        assert scored.exit_code == 0, scored.output
        expected = {
            row["path"]: row["predicted"]
            for row in csv.DictReader(io.StringIO(table.read_text()))
        }
        report = predict_images(str(head), str(colour_dir), OPTIONS)
        assert report.score == score and len(expected) == 12
        for one in report.predictions:
            assert one.labels[0] == expected.get(one.path, one.labels[0])


def test_a_head_refuses_another_model(colour_dir, colour_features, tmp_path):
    invoke("train-svm", colour_features, "-o", tmp_path / "h.h5", "--C", 1)
    options = PredictOptions(model="alexnet", device="cpu", workers=0)
    with pytest.raises(ProvenanceError, match="leave `model` out"):
        predict_images(str(tmp_path / "h.h5"), str(colour_dir), options)


def test_weights_without_a_name_need_one(tuned, tmp_path, colour_dir):
    bare = tmp_path / "bare.safetensors"
    save_file(load_file(tuned), bare)
    with pytest.raises(WeightsError, match="give `model=NAME`"):
        predict_images(str(bare), str(colour_dir), OPTIONS)
    options = PredictOptions(model="squeezenet1_1", device="cpu", workers=0)
    with pytest.raises(WeightsError, match="does not name its 3 classes"):
        predict_images(str(bare), str(colour_dir), options)


def test_info_tells_where_weights_came_from(tuned):
    result = invoke("info", tuned, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["kind"] == "weights" and told["model"] == "squeezenet1_1"
    assert told["started_from"]["weights"] == "random"
    assert told["n_classes"] == 3 and told["n_training"] == 12
    assert "random" in invoke("info", tuned).stdout


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_both_kinds_of_file_come_back_whole(tuned, tmp_path, suffix):
    network = load_network("squeezenet1_1", weights=tuned, device="cpu")
    path = tmp_path / f"w{suffix}"
    save_weights(path, network.module.state_dict(), network.weights.metadata)
    again = load_network("squeezenet1_1", weights=path, device="cpu")
    assert again.weights.class_names == network.weights.class_names
    assert again.weights.preprocessing == network.weights.preprocessing
    for name, tensor in network.module.state_dict().items():
        assert torch.equal(tensor, again.module.state_dict()[name])


def test_features_of_tuned_weights_warn_of_training_images(tuned, colour_dir, tmp_path):
    output = tmp_path / "f.h5"
    where = ("--model", "squeezenet1_1", "--weights", tuned, "--device", "cpu")
    layer = ("--layer", "features.1", "--pool", "avg", "--workers", 0, "--quiet")
    result = invoke("extract", colour_dir, "-o", output, *where, *layer)
    assert result.exit_code == 0, result.output
    assert "12 of 24 images are among those that" in result.stderr
    network = load_network("squeezenet1_1", weights=tuned, device="cpu")
    assert len(SeenImages.of_weights(network.weights.metadata)) == 12


def test_finetune_command(colour_dir, tmp_path):
    output, sheet = tmp_path / "w.safetensors", tmp_path / "sheet.png"
    result = invoke(
        *("finetune", colour_dir, "-o", output, "--model", "squeezenet1_1"),
        *("--weights", "random", "--train", "head", "--epochs", 2, "--json"),
        *("--train-per-class", 4, "--test-per-class", 2, "--device", "cpu"),
        *("--workers", 0, "--show-augment", sheet),
    )
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert [row["model"] for row in report["comparison"]] == [
        "frozen SVM",
        "frozen softmax",
        "fine-tuned head",
    ]
    assert "epoch 2 of 2" in result.stderr
    assert sheet.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to do: give --output or --show-augment"),
        (("-o", "w.pth", "--train", "tail"), "is not head, last:N or all"),
        (("-o", "w.pth", "--resume", "--overwrite"), "contradict"),
    ],
)
def test_wrong_usage(colour_dir, arguments, message):
    result = invoke("finetune", colour_dir, *arguments)
    assert result.exit_code == 2 and message in result.stderr


def test_where_no_image_can_be_read_nothing_is_written(tuned, tmp_path):
    for k in range(3):
        (tmp_path / f"{k}.png").write_bytes(b"not an image")
    output = tmp_path / "p.csv"
    result = invoke("predict", tuned, tmp_path, "-o", output, "--workers", 0, "--quiet")
    assert result.exit_code == 1 and result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert f"none of the 3 images under {tmp_path} can be read" in line
    assert not output.exists()


def test_predictions_have_finite_scores(tuned, colour_dir):
    report = predict_images(str(tuned), str(colour_dir), OPTIONS)
    assert np.isfinite([one.scores for one in report.predictions]).all()


def test_copies_of_training_images_are_told_under_any_name(tuned, colour_dir, tmp_path):
    metadata = load_network("squeezenet1_1", weights=tuned).weights.metadata
    trained, heldout = metadata["training_paths"], metadata["heldout_paths"]
    for k, name in enumerate([*trained[:3], heldout[0]]):
        shutil.copy(colour_dir / name, tmp_path / f"{k}.png")
    with pytest.warns(CnnfeatWarning, match="3 of 4 images are among those that"):
        predict_images(str(tuned), str(tmp_path), OPTIONS)


def test_other_images_of_the_same_names_are_not_told(tuned, tmp_path, recwarn):
    metadata = load_network("squeezenet1_1", weights=tuned).weights.metadata
    path = tmp_path / metadata["training_paths"][0]
    path.parent.mkdir()
    write_image(path, seed=99)
    predict_images(str(tuned), str(tmp_path), OPTIONS)
    assert [str(one.message) for one in recwarn] == []


@pytest.fixture
def head_of_tuned(tuned, colour_dir, tmp_path, monkeypatch):
    """A head on features of weights that were named from their own folder."""
    monkeypatch.chdir(tuned.parent)
    features, head = tmp_path / "f.h5", tmp_path / "h.h5"
    where = ("--model", "squeezenet1_1", "--weights", tuned.name, "--device", "cpu")
    layer = ("--layer", "features.1", "--pool", "avg", "--workers", 0, "--quiet")
    invoke("extract", colour_dir, "-o", features, *where, *layer)
    draw = ("--train-per-class", 2, "--test-per-class", 1, "--seed", 5, "--C", 1)
    assert invoke("train-svm", features, "-o", head, *draw).exit_code == 0
    monkeypatch.chdir(tmp_path)
    return features, head


def test_relative_weights_keep_their_warnings_from_another_folder(
    head_of_tuned, colour_dir
):
    features, head = head_of_tuned
    scored = invoke("evaluate", head, features, "--rows", "all")
    assert "12 of the scored images are among those that the network" in scored.stderr
    drawn = ("--train-per-class", 2, "--splits", 20, "--C", 1, "--quiet")
    measured = invoke("benchmark", features, *drawn)
    assert "12 of 24 test images are among those that the network" in measured.stderr
    with pytest.warns(CnnfeatWarning, match=r"1[2-8] of 24 images are among those"):
        predict_images(str(head), str(colour_dir), OPTIONS)


def test_feature_files_know_what_their_network_was_tuned_on(head_of_tuned, tuned):
    features, head = head_of_tuned
    hidden = tuned.rename(tuned.with_suffix(".hidden"))
    try:
        scored = invoke("evaluate", head, features, "--rows", "all")
    finally:
        hidden.rename(tuned)
    assert "12 of the scored images are among those that the network" in scored.stderr


def test_weights_that_are_gone_start_no_download(
    head_of_tuned, tuned, colour_dir, monkeypatch
):
    _, head = head_of_tuned
    monkeypatch.setattr(
        "cnnfeat.networks._downloads.fetch_url", lambda *_: pytest.fail("download")
    )
    hidden = tuned.rename(tuned.with_suffix(".hidden"))
    try:
        with pytest.raises(WeightsError, match=r"tuned\.safetensors.: no such file"):
            predict_images(str(head), str(colour_dir), OPTIONS)
    finally:
        hidden.rename(tuned)
