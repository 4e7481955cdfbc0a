"""Several feature files in one benchmark, folds, and what the report says of images."""

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner
from made_features import options, write_features

from cnnfeat.benchmark import run_benchmark
from cnnfeat.cli.main import cli
from cnnfeat.errors import CnnfeatWarning, InputError, LayerError, ProvenanceError
from cnnfeat.image_table import ImageTable
from cnnfeat.layer_spec import LayerSpec
from cnnfeat.store import Contents, FeatureWriter, open_features

QUICK = {"C": (1.0,), "n_splits": 2}


def rewrite(
    source, path, order, model="other", names=None, layer="layer10", digests=()
):
    """Write the features of some rows of a file, in another order, as of a network."""
    with open_features(source) as features:
        X = features.read("layer10")[order]
        table = features.stored_table.take(np.asarray(order))
    if names:
        table = ImageTable(table.root, table.paths, table.labels, names)
    contents = Contents(
        table,
        [LayerSpec(layer, layer, X.shape[1:])],
        {"model": model, "images_sha256": "1" * 64},
        "",
    )
    with FeatureWriter(path, contents, fingerprint={}) as writer:
        known = [*digests, *[""] * (len(X) - len(digests))]
        writer.write(0, {layer: X}, np.ones(len(X), bool), [""] * len(X), known)
        writer.finish()
    return path


@pytest.fixture
def a(tmp_path):
    return str(write_features(tmp_path / "a.h5"))


def accuracies(report):
    return {cell.name: cell.values("accuracy") for cell in report.cells}


def test_files_are_measured_on_the_same_rows_whatever_their_order(a, tmp_path):
    b = rewrite(a, str(tmp_path / "b.h5"), range(47, -1, -1))
    asked = options(**QUICK)
    both = run_benchmark([a, b], asked)
    alone = run_benchmark(a, asked)
    found = accuracies(both)
    assert [cell.name for cell in both.cells] == [
        "made layer2, svm, 6 a class",
        "made layer10, svm, 6 a class",
        "other layer10, svm, 6 a class",
    ]
    # The same features in another order are the same row of the table.
    assert found["other layer10, svm, 6 a class"] == found[both.cells[1].name]
    assert accuracies(alone).items() <= found.items()
    assert both.sources == {"made": a, "other": b}
    assert both.to_dict()["other_provenances"]["other"]["model"] == "other"
    (pair,) = [
        one
        for one in both.comparisons()
        if {one.better, one.than} == {both.cells[1].name, both.cells[2].name}
    ]
    assert (pair.difference, pair.same_test_rows) == (0.0, True)


def test_images_that_a_file_lacks_are_left_out_of_all(a, tmp_path):
    b = rewrite(a, str(tmp_path / "b.h5"), range(2, 48))
    with pytest.warns(CnnfeatWarning, match="2 images have no features for other"):
        report = run_benchmark([a, b], options(**QUICK))
    rows = {
        int(row) for s in report.split_sets[0].splits for row in (*s.train, *s.test)
    }
    assert not rows & {0, 1}


def test_two_files_of_one_network_are_told_apart(a, tmp_path):
    b = rewrite(a, str(tmp_path / "b.h5"), range(48), model="made")
    report = run_benchmark([a, b], options(**QUICK, layers=("layer10",)))
    assert [cell.features for cell in report.cells] == ["made (a)", "made (b)"]


def test_a_layer_need_be_in_one_file_alone(a, tmp_path):
    b = rewrite(a, str(tmp_path / "b.h5"), range(48), layer="fc7")
    report = run_benchmark([a, b], options(**QUICK, layers=("fc7", "layer2")))
    assert [cell.layer for cell in report.cells] == ["layer2", "fc7"]
    with pytest.raises(LayerError, match="fc6"):
        run_benchmark([a, b], options(**QUICK, layers=("fc6",)))


def test_files_that_do_not_go_together_are_refused(a, tmp_path):
    names = ("class1", "class0", "class2", "class3")
    b = rewrite(a, str(tmp_path / "b.h5"), range(48), names=names)
    with pytest.raises(ProvenanceError, match=r"class0/000.png is class1, and class0"):
        run_benchmark([a, b], options(**QUICK))
    c = rewrite(a, str(tmp_path / "c.h5"), range(48), digests=("x", "y"))
    d = rewrite(a, str(tmp_path / "d0.h5"), range(48), digests=("x", "z"))
    with pytest.raises(ProvenanceError, match=r"class0/001.png is another image than"):
        run_benchmark([c, d], options(**QUICK))
    with pytest.raises(InputError, match="named twice"):
        run_benchmark([a, a], options(**QUICK))
    (tmp_path / "sub").mkdir()
    other = write_features(tmp_path / "sub" / "c.h5", n_per_class=12, n_classes=3)
    with open_features(other) as features:
        table = features.stored_table
    moved = ImageTable(
        "", [f"x{p}" for p in table.paths], table.labels, table.class_names
    )
    contents = Contents(
        moved, [LayerSpec("f", "f", (2,))], {"model": "m", "images_sha256": ""}, ""
    )
    with FeatureWriter(tmp_path / "d.h5", contents, fingerprint={}) as writer:
        X = np.zeros((36, 2), np.float32)
        writer.write(0, {"f": X}, np.ones(36, bool), [""] * 36)
        writer.finish()
    with pytest.raises(ProvenanceError, match="no image of the first feature file"):
        run_benchmark([a, str(tmp_path / "d.h5")], options(**QUICK))


# -- folds, and the default ------------------------------------------------------------


def test_folds_test_each_row_once(a):
    asked = options(C=(1.0,), train_per_class=None, n_splits=None, n_folds=4)
    report = run_benchmark(a, asked)
    tested = np.concatenate([s.test for s in report.split_sets[0].splits])
    assert sorted(tested.tolist()) == list(range(48))
    assert report.cells[0].confusion.sum() == 48


def test_a_folder_without_sizes_holds_out_a_fifth_five_times(a):
    asked = options(C=(1.0,), train_per_class=None, n_splits=None)
    splits = run_benchmark(a, asked).split_sets[0].splits
    assert [len(split.test) for split in splits] == [8] * 5  # two of twelve


@pytest.mark.parametrize(
    "arguments",
    [
        ("--folds", "3", "--splits", "2"),
        ("--folds", "3", "--train-per-class", "2"),
        ("--folds", "3", "--test-share", "0.2"),
        ("--test-share", "0.2", "--train-sizes", "2,3"),
        ("--test-share", "0"),
        ("--test-per-class", "2"),
    ],
)
def test_sizes_that_exclude_each_other_are_one_line(a, arguments):
    result = CliRunner().invoke(cli, ["benchmark", a, *arguments])
    assert result.exit_code in (1, 2)
    assert "Traceback" not in result.output
    assert arguments[0].lstrip("-") in result.stderr.splitlines()[-1].replace("_", "-")


# -- classes and images in the report --------------------------------------------------


@pytest.fixture
def reported(a, tmp_path):
    folder = tmp_path / "report"
    asked = options(**QUICK, heads=("svm", "softmax"), report_dir=str(folder))
    return folder, run_benchmark(a, asked)


def lines_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_per_class_and_confusion_tables_add_up(reported):
    folder, report = reported
    per_class = lines_of(folder / "per_class.csv")
    pairs = lines_of(folder / "confusion.csv")
    for cell in report.cells:
        own = [
            r for r in per_class if (r["layer"], r["head"]) == (cell.layer, cell.head)
        ]
        assert [int(r["n_correct"]) for r in own] == np.diag(cell.confusion).tolist()
        assert [float(r["accuracy"]) for r in own] == pytest.approx(
            np.diag(cell.confusion) / cell.confusion.sum(1)
        )
        counted = [
            r for r in pairs if (r["layer"], r["head"]) == (cell.layer, cell.head)
        ]
        assert sum(int(r["count"]) for r in counted) == cell.confusion.sum()
        wrong = sum(int(r["count"]) for r in counted if r["label"] != r["predicted"])
        assert wrong == cell.confusion.sum() - np.trace(cell.confusion)


def test_predictions_of_the_best_row_are_listed_image_by_image(reported):
    folder, report = reported
    lines = lines_of(folder / "predictions.csv")
    best = report.best
    assert {(r["layer"], r["head"]) for r in lines} == {(best.layer, best.head)}
    assert len(lines) == best.confusion.sum()
    for index, split in enumerate(best.splits):
        own = [r for r in lines if r["split_index"] == str(index)]
        right = np.mean([int(r["correct"]) for r in own])
        assert right == pytest.approx(split.accuracy)
    for r in lines:
        assert (r["label"] == r["predicted"]) == (r["correct"] == "1")
        assert r["runner_up"] != r["predicted"]
        name = "probability" if best.head == "softmax" else "score"
        assert float(r[name]) >= float(r[f"runner_up_{name}"])
    told = json.loads((folder / "results.json").read_text())["files"]
    assert {"per_class.csv", "confusion.csv", "predictions.csv"} <= set(told)
