"""`train`, its namesakes and `evaluate` on a feature file, end to end."""

import csv
import json
import shutil

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import FIRST_BLOCK

from cnnfeat.cli.main import cli
from cnnfeat.store import load_head

DRAW = ("--train-per-class", "5", "--seed", "1")


def run(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def succeed(*arguments):
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return json.loads(result.stdout)


def fail(*arguments):
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    return result.stderr


@pytest.fixture(params=["svm", "softmax", "ridge", "ncm", "knn"])
def kind(request):
    return request.param


@pytest.fixture
def head(colour_features, tmp_path, kind):
    path = tmp_path / f"{kind}.h5"
    succeed("train", kind, colour_features, "-o", path, *DRAW)
    return path


def test_easy_classes_are_told_apart(head, colour_features):
    record = succeed("evaluate", head, colour_features)
    assert (record["n_images"], record["n_classes"]) == (9, 3)
    assert record["accuracy"] == 1.0
    assert record["mean_per_class_accuracy"] == 1.0
    assert record["top_5_accuracy"] == 1.0


def test_heldout_rows_are_those_not_trained_on(head, colour_features):
    with h5py.File(head) as file:
        trained = set(file["training/path"].asstr()[:])
        heldout = set(file["heldout/path"].asstr()[:])
    with h5py.File(colour_features) as file:
        paths = set(file["images/path"].asstr()[:])
    assert len(trained) == 15
    assert trained | heldout == paths
    assert not trained & heldout


def test_all_rows_are_scored_on_request_with_a_warning(head, colour_features):
    result = run("evaluate", head, colour_features, "--rows", "all", "--json")
    assert json.loads(result.stdout)["n_images"] == 24
    assert "training images" in result.stderr


def test_stored_head_scores_as_the_file_says(head, colour_features, tmp_path):
    """coef and intercept apply to the stored features once the scaler has been."""
    predictions = tmp_path / "p.csv"
    succeed("evaluate", head, colour_features, "--predictions", predictions)
    with h5py.File(head) as file, h5py.File(colour_features) as features:
        coef, intercept = file["coef"][:], file["intercept"][:]
        X = features["features/features.1"][:]
        paths = features["images/path"].asstr()[:].tolist()
        classes, votes = file["classes"].asstr()[:], np.arange(3)
        shift = file["scaler/shift"][:]
        if "neighbours" in file:
            votes, (k, T) = (
                file["neighbours/class"][:],
                (file.attrs["k"], file.attrs["temperature"]),
            )
    X = X - shift
    X = X / np.linalg.norm(X, axis=1, keepdims=True)
    scores = X @ coef.T + intercept
    if len(votes) > 3:  # the k nearest rows count
        weights = np.exp(scores / T) * (scores >= np.sort(scores)[:, [-k]])
        scores = np.stack([weights[:, votes == c].sum(1) for c in range(3)], 1)
    predicted = dict(zip(paths, classes[scores.argmax(1)], strict=True))
    with open(predictions, newline="") as text:
        for row in csv.DictReader(text):
            assert row["predicted"] == predicted[row["path"]]


@pytest.mark.parametrize("name", ["train-svm", "train-softmax", "train ridge"])
def test_C_is_chosen_inside_the_training_rows(colour_features, tmp_path, name):
    options = ("-o", tmp_path / "h.h5", *DRAW, "--C", "0.001,1,100")
    record = succeed(*name.split(), colour_features, *options)
    assert set(record["validation_accuracy"]) == {"0.001", "1", "100"}
    best = max(record["validation_accuracy"].values())
    assert record["validation_accuracy"][f"{record['C']:g}"] == best


def test_kinds_without_C_or_dropout_refuse_them(colour_features, tmp_path):
    path = tmp_path / "h.h5"
    for kind, option in (("knn", "--C"), ("ncm", "--C"), ("ridge", "--dropout")):
        line = ("train", kind, colour_features, "-o", path, option, "0.5")
        result = run(*line)
        assert result.exit_code == 2
        assert f"a {kind} head has no {option}: leave it out" in result.stderr
        result = run("benchmark", colour_features, "--head", kind, option, "0.5")
        assert result.exit_code == 2 and option in result.stderr
    assert not path.exists()


def test_train_is_train_svm_under_another_name(colour_features, tmp_path):
    one, other = tmp_path / "one.h5", tmp_path / "other.h5"
    first = succeed("train", "svm", colour_features, "-o", one, *DRAW)
    second = succeed("train-svm", colour_features, "-o", other, *DRAW)
    assert first | {"output": "", "seconds": 0} == second | {"output": "", "seconds": 0}
    np.testing.assert_array_equal(load_head(one).coef, load_head(other).coef)


def test_a_head_of_nan_is_not_saved(colour_features, tmp_path):
    path = tmp_path / "h.h5"
    result = run("train-softmax", colour_features, "-o", path, "--C", "1e39")
    assert result.exit_code == 1
    *warned, told = result.stderr.splitlines()
    assert "Softmax has no finite weights at C = 1e+39: lower --C" in told
    assert all(line.startswith("cnnfeat: warning:") for line in warned)
    assert not path.exists()


def test_the_seed_draws_the_rows(colour_features, tmp_path):
    drawn = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        path = tmp_path / f"{name}.h5"
        options = ("-o", path, "--train-per-class", 5, "--seed", seed, "--C", 1)
        succeed("train-svm", colour_features, *options)
        with h5py.File(path) as file:
            drawn.append(file["training/path"].asstr()[:].tolist())
    assert drawn[0] == drawn[1] != drawn[2]


def test_another_feature_file_is_scored_whole(head, colour_dir, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(colour_dir, copy)
    shutil.rmtree(copy / "green")
    other = tmp_path / "other.h5"
    succeed("extract", copy, "-o", other, *FIRST_BLOCK)
    result = run("evaluate", head, other, "--json")
    record = json.loads(result.stdout)
    assert (record["n_images"], record["n_classes"]) == (16, 2)
    assert (record["accuracy"], record["rows"]) == (1.0, "all")
    assert "10 of the scored images are training images" in result.stderr  # copies


def test_features_of_other_provenance_are_refused(head, colour_dir, tmp_path):
    other = tmp_path / "other.h5"
    options = list(FIRST_BLOCK)
    succeed("extract", colour_dir, "-o", other, *options, "--weights-seed", "7")
    message = fail("evaluate", head, other)
    assert "weights_sha256" in message
    options[options.index("avg")] = "max"
    pooled = tmp_path / "pooled.h5"
    succeed("extract", colour_dir, "-o", pooled, *options)
    assert "pool" in fail("evaluate", head, pooled)


def test_the_confusion_matrix_is_a_png(head, colour_features, tmp_path):
    path = tmp_path / "c.png"
    succeed("evaluate", head, colour_features, "--confusion", path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_outputs_are_not_overwritten_unasked(head, colour_features, tmp_path, kind):
    assert "exists" in fail("train", kind, colour_features, "-o", head, *DRAW)
    taken = tmp_path / "p.csv"
    taken.write_text("mine")
    message = fail("evaluate", head, colour_features, "--predictions", taken)
    assert "p.csv" in message
    assert taken.read_text() == "mine"


def test_too_few_images_names_the_classes(colour_features, tmp_path, kind):
    options = ("-o", tmp_path / "h.h5", "--train-per-class", 9)
    message = fail("train", kind, colour_features, *options)
    assert "blue" in message and "8" in message
    assert not (tmp_path / "h.h5").exists()


def test_one_class_is_refused(colour_features, tmp_path, kind):
    options = ("--exclude", "red", "--exclude", "green", "-o", tmp_path / "h.h5")
    assert "class" in fail("train", kind, colour_features, *options)


def test_an_excluded_class_that_is_not_there_is_named(colour_features, tmp_path, kind):
    options = ("--exclude", "rd", "-o", tmp_path / "h.h5")
    message = fail("train", kind, colour_features, *options)
    assert "rd" in message and "red" in message


def test_no_labels_are_refused(colour_dir, tmp_path, kind):
    flat = tmp_path / "flat.h5"
    succeed("extract", colour_dir / "red", "-o", flat, *FIRST_BLOCK)
    message = fail("train", kind, flat, "-o", tmp_path / "h.h5")
    assert "label" in message


def test_training_on_everything_leaves_nothing_to_score(
    colour_features, tmp_path, kind
):
    head = tmp_path / "h.h5"
    all_rows = ("--test-share", 0)
    succeed("train", kind, colour_features, "-o", head, *all_rows)
    assert "--train-per-class" in fail("evaluate", head, colour_features)


@pytest.mark.parametrize("damage", ["missing", "text", "truncated", "head", "newer"])
def test_damaged_feature_files_are_named(colour_features, tmp_path, damage, head):
    path = tmp_path / "damaged.h5"
    if damage == "text":
        path.write_text("not HDF5")
    elif damage == "truncated":
        path.write_bytes(colour_features.read_bytes()[:4000])
    elif damage == "head":
        path = head
    elif damage == "newer":
        shutil.copy(colour_features, path)
        with h5py.File(path, "r+") as file:
            file.attrs["format_version"] = 99
    for command in (("evaluate", head), ("train-svm",)):
        options = ("-o", tmp_path / "h.h5") if command[0] == "train-svm" else ()
        assert path.name in fail(*command, path, *options)


def test_info_tells_of_both_kinds_of_file(head, colour_features):
    features = succeed("info", colour_features)
    assert features["n_images"] == 24
    assert succeed("info", head)["n_training"] == 15


def test_failed_images_are_neither_trained_on_nor_scored(colour_dir, tmp_path):
    copy = tmp_path / "images"
    shutil.copytree(colour_dir, copy)
    for name in ("blue/0.png", "red/3.png"):
        (copy / name).write_bytes(b"")
    features = tmp_path / "f.h5"
    run("extract", copy, "-o", features, *FIRST_BLOCK)
    head = tmp_path / "h.h5"
    assert succeed("train-svm", features, "-o", head, *DRAW)["n_train"] == 15
    assert succeed("evaluate", head, features)["n_images"] == 7


def test_features_that_are_not_finite_are_refused_by_name(
    head, colour_features, tmp_path
):
    spoilt = tmp_path / "spoilt.h5"
    shutil.copy(colour_features, spoilt)
    with h5py.File(spoilt, "r+") as file:
        file["features/features.1"][:, 3] = np.nan
    for command in (
        ("train-svm", spoilt, "-o", tmp_path / "h.h5"),
        ("evaluate", head, spoilt),
        ("benchmark", spoilt, "--train-per-class", "3", "--splits", "2", "--quiet"),
    ):
        message = fail(*command)
        assert "not finite" in message
        assert ".png" in message
    assert not (tmp_path / "h.h5").exists()


@pytest.mark.parametrize("scale", ["l2", "standard"])
def test_a_head_on_principal_components_is_trained_evaluated_and_predicts(
    colour_features, colour_dir, tmp_path, kind, scale
):
    path, listed = tmp_path / "h.h5", tmp_path / "p.csv"
    options = (*DRAW, "--pca", 3, "--scale", scale)
    trained = succeed("train", kind, colour_features, "-o", path, *options)
    head = load_head(path)
    assert head.coef.shape == (15 if kind == "knn" else 3, 3)
    assert trained["n_features"] == succeed("info", path)["n_features"] == 64
    record = succeed("evaluate", path, colour_features, "--predictions", listed)
    assert record["n_images"] == 9 and record["accuracy"] == 1.0
    with h5py.File(colour_features) as file:
        X, paths = file["features/features.1"][:], file["images/path"].asstr()[:]
    name, scores = head.score, head.answers(X)
    best = {
        path: (row.argmax(), row.max()) for path, row in zip(paths, scores, strict=True)
    }
    with open(listed, newline="") as text:
        for row in csv.DictReader(text):
            k, score = best[row["path"]]
            assert row["predicted"] == head.class_names[k]
            assert float(row[name]) == pytest.approx(score, rel=1e-4)
            assert row["correct"] == str(int(row["label"] == row["predicted"]))
            assert float(row[f"runner_up_{name}"]) <= score
    asked = run("predict", path, colour_dir, "--json", "--quiet")
    for one, row in zip(json.loads(asked.stdout)["predictions"], scores, strict=True):
        assert one["labels"] == [head.class_names[row.argmax()]]
        assert one["scores"] == pytest.approx([row.max()], abs=1e-4)


def test_more_components_than_training_rows_are_refused(
    colour_features, tmp_path, kind
):
    options = ("-o", tmp_path / "h.h5", *DRAW, "--pca", 15)
    message = fail("train", kind, colour_features, *options)
    assert "PCA with 15 components needs more than 15 training rows" in message
