"""The benchmark: statistics over splits, honest choice of C, results to redo."""

import csv
import json

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import FIRST_BLOCK
from made_features import options, write_features

from cnnfeat.benchmark import BenchmarkOptions, DrawOptions, run_benchmark
from cnnfeat.cli.main import cli
from cnnfeat.heads import FeatureTransform, LinearSVM
from cnnfeat.metrics import evaluate_scores
from cnnfeat.outputs import locked_output
from cnnfeat.splits import read_splits
from cnnfeat.store import open_features
from cnnfeat.suffixes import PICTURES


@pytest.fixture
def features_path(tmp_path):
    return write_features(tmp_path / "f.h5")


def test_a_cell_equals_an_independent_fit_of_its_split(features_path, tmp_path):
    folder = str(tmp_path / "report")
    report = run_benchmark(features_path, options(report_dir=folder, C=(1.0,)))
    with open_features(features_path) as features:
        splits = read_splits(f"{folder}/splits.csv", features.paths)
        X, y = features.read("layer2"), features.labels
    cell = next(one for one in report.cells if one.layer == "layer2")
    for split, found in zip(splits, cell.splits, strict=True):
        transform = FeatureTransform("l2").fit(X[split.train])
        head = LinearSVM(1.0).fit(transform.transform(X[split.train]), y[split.train])
        scores = head.decision_function(transform.transform(X[split.test]))
        alone = evaluate_scores(scores, y[split.test], 4)
        assert found.accuracy == alone.accuracy
        assert found.mean_per_class_accuracy == alone.mean_per_class_accuracy


def test_layers_stand_in_the_order_asked_for(features_path):
    report = run_benchmark(features_path, options(C=(1.0,)))
    assert [cell.layer for cell in report.cells] == ["layer2", "layer10"]
    assert report.best.layer == "layer10"


def test_test_rows_never_influence_the_choice_of_C(tmp_path):
    honest = run_benchmark(write_features(tmp_path / "a.h5"), options())
    with open_features(tmp_path / "a.h5") as features:
        table = features.table
    from cnnfeat.splits import draw_split

    # Spoil the rows that the first split tests on; the others may train on them.
    split = draw_split(
        table,
        usable=np.ones(len(table), bool),
        train_per_class=6,
        seed=0,
    )

    def poison(X):
        X[split.test] = 100.0
        return X

    spoilt = run_benchmark(write_features(tmp_path / "b.h5", poison=poison), options())
    for before, after in zip(honest.cells, spoilt.cells, strict=True):
        assert before.splits[0].C == after.splits[0].C
        assert before.splits[0].validation == after.splits[0].validation
        assert after.splits[0].accuracy < before.splits[0].accuracy


def test_splits_written_can_be_read_back_for_the_same_result(features_path, tmp_path):
    folder = str(tmp_path / "report")
    first = run_benchmark(features_path, options(report_dir=folder))
    draw = DrawOptions(splits_file=f"{folder}/splits.csv")
    again = run_benchmark(features_path, BenchmarkOptions(draw=draw))
    for a, b in zip(first.cells, again.cells, strict=True):
        assert a.values("accuracy") == b.values("accuracy")


def test_the_seed_draws_the_splits(features_path):
    runs = [
        run_benchmark(features_path, options(seed=seed, C=(1.0,))).cells[0]
        for seed in (0, 0, 7)
    ]
    assert runs[0].values("accuracy") == runs[1].values("accuracy")
    assert runs[0].values("accuracy") != runs[2].values("accuracy")


def test_a_learning_curve_has_a_cell_a_size_and_nested_rows(features_path, tmp_path):
    folder = tmp_path / "report"
    sizes = options(train_per_class=None, train_sizes=(8, 2), report_dir=str(folder))
    report = run_benchmark(features_path, sizes)
    assert [cell.train_per_class for cell in report.cells] == [2, 8, 2, 8]
    with open_features(features_path) as features:
        small, large = (
            read_splits(folder / f"splits-{size}.csv", features.paths)
            for size in (2, 8)
        )
    for few, many in zip(small, large, strict=True):
        assert set(few.train) < set(many.train)
    assert (folder / "learning_curve.png").exists()


def test_concatenated_layers_are_a_row_of_their_own(features_path):
    report = run_benchmark(features_path, options(layers=("layer2+layer10",), C=(1.0,)))
    (cell,) = report.cells
    assert cell.layer == "layer2+layer10"


def test_the_report_holds_what_the_page_shows(features_path, tmp_path):
    folder = tmp_path / "report"
    report = run_benchmark(
        features_path, options(report_dir=str(folder), heads=("svm", "softmax"))
    )
    assert {path.name for path in folder.iterdir()} == set(report.files)
    record = json.loads((folder / "results.json").read_text())
    with open(folder / "results.csv", newline="") as text:
        lines = list(csv.DictReader(text))
    assert len(lines) == len(record["rows"]) * 3
    first = record["rows"][0]["mean_per_class_accuracy"]
    assert first["mean"] == pytest.approx(np.mean(first["values"]))
    assert first["std"] == pytest.approx(np.std(first["values"], ddof=1))
    assert float(lines[0]["mean_per_class_accuracy"]) == pytest.approx(
        first["values"][0]
    )
    page = (folder / "index.html").read_text()
    assert "http" not in page.replace("http-equiv", "")
    assert "<table>" in page


def run(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


DRAWN = ("--train-per-class", "5", "--splits", "2", "--C", "1")


def test_the_command_prints_json(features_path):
    result = run("benchmark", features_path, *DRAWN, "--quiet", "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["n_splits"] == 2
    assert len(record["rows"]) == 2
    assert len(record["comparisons"]) == 1
    assert record["comparisons"][0]["difference"] >= 0


@pytest.mark.parametrize("name", ["table.md", "splits.csv", "confusion.png"])
def test_a_report_is_not_replaced_unasked(features_path, tmp_path, name):
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / name).write_text("mine")
    (folder / "notes.txt").write_text("mine too")
    arguments = ("benchmark", features_path, *DRAWN, "--quiet", "--report", folder)
    result = run(*arguments)
    assert result.exit_code == 1
    assert name in result.stderr
    assert (folder / name).read_text() == "mine"
    assert run(*arguments, "--overwrite").exit_code == 0
    assert (folder / "notes.txt").read_text() == "mine too"


@pytest.mark.parametrize("more", [(), ("--overwrite",)])
def test_one_benchmark_at_a_time_writes_a_report(features_path, tmp_path, more):
    folder = tmp_path / "report"
    folder.mkdir()
    arguments = ("benchmark", features_path, *DRAWN, "--quiet", "--report", folder)
    with locked_output(folder / "results.json"):
        result = run(*arguments, *more)
        assert result.exit_code == 1
        assert "another process is writing results.json" in result.stderr
        assert [path.name for path in folder.iterdir()] == ["results.json.lock"]
    assert run(*arguments, *more).exit_code == 0
    assert not (folder / "results.json.lock").exists()


def test_only_what_the_earlier_report_made_is_removed(features_path, tmp_path):
    folder = tmp_path / "report"
    first = options(train_per_class=None, train_sizes=(2, 8), report_dir=str(folder))
    before = set(run_benchmark(features_path, first).files)
    mine = {
        folder / name for name in ("splits-7.csv", "splits_old.csv", "splits.csv.1")
    }
    for path in mine:
        path.write_text("mine")
    again = options(report_dir=str(folder), overwrite=True, C=(1.0,))
    after = set(run_benchmark(features_path, again).files)
    assert before - after == {
        *("splits-2.csv", "splits-8.csv"),
        *(
            f"{name}{suffix}"
            for name in ("learning_curve", "c_curve")
            for suffix in PICTURES
        ),
    }
    assert {path.name for path in folder.iterdir()} == after | {p.name for p in mine}
    assert {path.read_text() for path in mine} == {"mine"}


@pytest.mark.parametrize(
    "record",
    [
        '{"files": ["splits-7.csv"]',
        '["splits-7.csv"]',
        '{"files": ["splits-7.csv"], "rows": []}',
        "[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_a_record_that_is_not_a_reports_removes_nothing(
    features_path, tmp_path, record
):
    mine = tmp_path / "splits-7.csv"
    mine.write_text("mine")
    data = record if isinstance(record, bytes) else record.encode()
    (tmp_path / "results.json").write_bytes(data)
    asked = options(report_dir=str(tmp_path), overwrite=True, C=(1.0,))
    run_benchmark(features_path, asked)
    assert mine.read_text() == "mine"


def test_a_record_names_no_file_that_is_not_a_reports(features_path, tmp_path):
    folder = tmp_path / "report"
    run_benchmark(features_path, options(report_dir=str(folder), C=(1.0,)))
    record = json.loads((folder / "results.json").read_text())
    record["files"] += ["notes.txt", "../f.h5", "splits-1.csv", "splits-2.csv", 3]
    (folder / "results.json").write_text(json.dumps(record))
    (folder / "notes.txt").write_text("mine")
    (folder / "splits-1.csv").symlink_to("notes.txt")
    (folder / "splits-2.csv").mkdir()
    run_benchmark(
        features_path, options(report_dir=str(folder), C=(1.0,), overwrite=True)
    )
    assert features_path.exists()
    assert (folder / "splits-1.csv").read_text() == "mine"
    assert (folder / "splits-2.csv").is_dir()


def test_the_file_of_splits_is_neither_removed_nor_replaced(features_path, tmp_path):
    first = options(
        train_per_class=None, train_sizes=(2, 8), report_dir=str(tmp_path), C=(1.0,)
    )
    run_benchmark(features_path, first)
    given = tmp_path / "splits-8.csv"
    text = given.read_bytes()
    copy = tmp_path / "splits_mine.csv"
    copy.write_bytes(text)
    arguments = ("benchmark", features_path, "--C", "1", "--quiet", "--overwrite")
    arguments = (*arguments, "--report", tmp_path, "--splits-file")
    for path in (given, copy):
        assert run(*arguments, path).exit_code == 0
        assert given.read_bytes() == copy.read_bytes() == text
    ours = tmp_path / "splits.csv"
    ours.write_bytes(before := ours.read_bytes() + b"\n")
    (tmp_path / "link.csv").symlink_to(ours)
    for path in (ours, tmp_path / "link.csv"):
        result = run(*arguments, path)
        assert result.exit_code == 1
        assert len(result.stderr.splitlines()) == 1
        assert "is read by this command: give another output" in result.stderr
        assert ours.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--protocol", "caltech101-zf"), ("caltech101-zf",)),
        (("--protocol", "mit67"), ("mit67", "--protocol folder")),
        (("--train-per-class", "50"), ("class0", "12")),
        (("--layer", "layer3", "--train-per-class", "5"), ("layer3", "layer2")),
        (("--splits-file", "none.csv"), ("none.csv",)),
        (("--train-per-class", "5", "--baseline", "random"), ("images",)),
    ],
)
def test_what_cannot_be_done_is_one_line(features_path, arguments, words):
    told = refusal(1, features_path, *arguments)
    assert all(word in told for word in words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--protocol", "caltech"), ("caltech", "caltech101")),
        (("--train-per-class", "5", "--train-sizes", "2,3"), ("exclude each other",)),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(
    features_path, arguments, words
):
    told = refusal(2, features_path, *arguments)
    assert all(word in told for word in words)


def refusal(status, features_path, *arguments):
    """Return the one line of a benchmark that is refused."""
    result = run("benchmark", features_path, "--quiet", *arguments)
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    (told,) = [one for one in result.stderr.splitlines() if "warning" not in one]
    return told


@pytest.mark.parametrize(
    "arguments",
    [("--train-sizes", "2,x"), ("--baseline", "noise"), ("--head", "tree")],
)
def test_wrong_usage_is_status_2(features_path, arguments):
    assert run("benchmark", features_path, *arguments).exit_code == 2


def test_baselines_are_extracted_once_and_join_the_table(colour_dir, tmp_path):
    features = tmp_path / "f.h5"
    assert run("extract", colour_dir, "-o", features, *FIRST_BLOCK).exit_code == 0
    arguments = ("benchmark", features, *DRAWN, "--quiet", "--json")
    arguments = (*arguments, "--baseline", "pixels,random", "--device", "cpu")
    record = json.loads(run(*arguments).stdout)
    named = {row["features"]: row["layer"] for row in record["rows"]}
    assert named == {
        "squeezenet1_1": "features.1",
        "raw pixels": "pixels",
        "random weights": "features.1",
    }
    (random,) = (r for r in record["rows"] if r["features"] == "random weights")
    assert len(random["initialisations"]) == 3
    seeds = set()
    for path in {p for name, p in record["sources"].items() if "random" in name}:
        with h5py.File(path) as file:
            seeds.add(file["provenance"].attrs["weights_seed"])
    assert seeds == {"0", "1", "2"}
    baseline = tmp_path / "f.baseline-pixels.h5"
    written = baseline.stat().st_mtime_ns
    assert run(*arguments).exit_code == 0
    assert baseline.stat().st_mtime_ns == written
    with h5py.File(baseline) as file:
        assert file["features/pixels"].shape == (24, 3 * 32 * 32)
        assert file["features/pixels"][:].min() >= 0
        assert file["features/pixels"][:].max() <= 1


def test_splits_writes_the_rows_of_a_feature_file_and_of_images(colour_dir, tmp_path):
    features = tmp_path / "f.h5"
    run("extract", colour_dir, "-o", features, *FIRST_BLOCK)
    drawn = ("--train-per-class", "3", "--splits", "2")
    texts = []
    for name, source in (("a.csv", features), ("b.csv", colour_dir)):
        result = run("splits", source, "-o", tmp_path / name, *drawn, "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["n_train"] == [9, 9]
        texts.append((tmp_path / name).read_text())
    assert texts[0] == texts[1]
    result = run("splits", features, "-o", tmp_path / "a.csv", *drawn)
    assert result.exit_code == 1
    assert "exists" in result.stderr


def test_one_image_a_class_needs_no_choice_of_C(features_path):
    report = run_benchmark(features_path, options(train_per_class=1, C=(1.0,)))
    assert report.cells[0].splits[0].n_train == 4


def test_the_old_name_of_baseline_still_stands_for_it(features_path):
    refused = run("benchmark", features_path, "--control", "noise")
    assert refused.exit_code == 2
    assert "'noise' is neither pixels nor random" in refused.stderr
    assert "--control" not in run("benchmark", "--help").stdout


def test_a_baseline_of_another_network_is_refused(colour_dir, tmp_path):
    features = tmp_path / "f.h5"
    run("extract", colour_dir, "-o", features, *FIRST_BLOCK)
    arguments = ("benchmark", features, *DRAWN, "--quiet", "--baseline", "random")
    assert run(*arguments).exit_code == 0
    other = ("--model", "squeezenet1_0", "--overwrite")
    run("extract", colour_dir, "-o", features, *FIRST_BLOCK, *other)
    result = run(*arguments)
    assert result.exit_code == 1
    assert "model is 'squeezenet1_1'" in result.stderr
