"""A benchmark's page: its name, the answer in three sentences, where it comes from."""

import dataclasses
import json

import numpy as np
import pytest
from made_features import options, write_features

from cnnfeat.benchmark import (
    BenchmarkOptions,
    Cell,
    DrawOptions,
    SplitResult,
    printed_tables,
    run_benchmark,
)
from cnnfeat.benchmark._answer import answer
from cnnfeat.benchmark._figures import report_figures
from cnnfeat.store import open_features
from cnnfeat.suffixes import PICTURES


@pytest.fixture(scope="module")
def features_path(tmp_path_factory):
    return write_features(tmp_path_factory.mktemp("my photos") / "f.h5")


@pytest.fixture(scope="module")
def report(features_path):
    return run_benchmark(features_path, options(C=(1.0,), heads=("svm", "softmax")))


def cell(like, features, layer, head, values, confusion=None):
    """Return a row of the table with these accuracies over the splits of `like`."""
    splits = [
        dataclasses.replace(
            split, mean_per_class_accuracy=value, accuracy=value, top_5_accuracy=1.0
        )
        for split, value in zip(like.splits, values, strict=True)
    ]
    assert isinstance(splits[0], SplitResult)
    confusion = like.confusion if confusion is None else np.array(confusion)
    return Cell(features, layer, head, like.train_per_class, tuple(splits), confusion)


def with_cells(report, *cells):
    return dataclasses.replace(report, cells=cells)


OURS = ("made", "fc7", "svm", (0.9, 0.92, 0.94))
PIXELS = ("raw pixels", "pixels", "svm", (0.3, 0.32, 0.34))
RANDOM = ("random weights", "fc7", "softmax", (0.5, 0.52, 0.54))
CONFUSION = [[6, 0, 0, 0], [0, 6, 0, 0], [1, 2, 3, 0], [0, 0, 1, 5]]


def sentences(report):
    found = answer(report).split(". ")
    assert len(found) == 3
    return found


def test_the_answer_is_the_best_row_beside_the_baselines_and_the_hardest_class(report):
    like = report.cells[0]
    ours = cell(like, *OURS, confusion=CONFUSION)
    worse = cell(like, "made", "fc6", "svm", (0.1, 0.1, 0.1))
    rows = (worse, ours, cell(like, *RANDOM), cell(like, *PIXELS))
    best, beside, hardest = sentences(with_cells(report, *rows))
    assert best == (
        "The best of 4 rows is an SVM on fc7 of made, with mean per-class accuracy "
        "92.0 ± 2.0 % (mean ± standard deviation over 3 splits)"
    )
    assert beside.startswith("On the same splits the baselines reach at best: random")
    assert "random weights 52.0 ± 2.0 % (40.0 points less)" in beside
    assert "raw pixels 32.0 ± 2.0 % (60.0 points less)" in beside
    assert hardest == (
        "Hardest is class2 (50.0 % right), most often taken for class1; 2 of 4 classes "
        "are always right."
    )


def test_a_baseline_that_wins_is_the_answer(report):
    like = report.cells[0]
    pixels = cell(like, *PIXELS[:3], (0.95, 0.97, 0.99))
    best, beside, _ = sentences(with_cells(report, cell(like, *OURS), pixels))
    assert "is an SVM on raw pixels, with" in best
    assert beside == (
        "made itself comes to 92.0 ± 2.0 % with an SVM on fc7 of made, 5.0 "
        "points less: here its features do not pay"
    )


def test_without_baselines_the_next_row_is_named(report):
    like = report.cells[0]
    second = cell(like, "made", "fc6", "softmax", (0.7, 0.9, 0.86))
    third = cell(like, "made", "fc5", "softmax", (0.1, 0.1, 0.1))
    rows = (third, second, cell(like, *OURS))
    changed = with_cells(report, *rows)
    (found,) = (
        one
        for one in changed.comparisons()
        if {one.better, one.than} == {rows[1].name, rows[2].name}
    )
    low, high = 100 * found.low, 100 * found.high
    assert low < 0 < high  # three splits that differ as much tell little
    _, beside, _ = sentences(changed)
    assert beside == (
        "Next on the same splits is a softmax on fc6 of made, 10.0 points less, 95 % "
        f"interval {low:.1f} to {high:.1f}, which may be luck"
    )


def test_one_row_without_mistakes(report):
    only = cell(report.cells[0], *OURS, confusion=6 * np.eye(4, dtype=int))
    best, beside, hardest = sentences(with_cells(report, only))
    assert best.startswith("An SVM on fc7 of made has mean per-class accuracy 92.0")
    assert beside == "Plain accuracy is 92.0 ± 2.0 %"
    assert hardest == "No test image was given a wrong class."


def test_a_level_baseline_is_a_line_across(report, features_path):
    like = report.cells[0]
    rows = [
        cell(like, "made", "fc6", "svm", (0.8, 0.8, 0.8)),
        cell(like, *OURS),
        cell(like, "random weights", "fc6", "svm", (0.4, 0.4, 0.4)),
        cell(like, *PIXELS),
    ]
    with open_features(features_path) as features:
        drawn = report_figures(with_cells(report, *rows), features)
    axes = drawn["accuracy_by_layer"].figure.axes[0]
    assert [one.get_label() for one in axes.containers] == [
        "made, svm",
        "random weights, svm",
    ]
    (across,) = (
        one for one in axes.lines if str(one.get_label()).startswith("raw pixels, svm")
    )
    np.testing.assert_allclose(across.get_ydata(), [32, 32])


def test_the_page_is_named_after_the_data_and_says_how_it_was_made(
    features_path, tmp_path
):
    asked = options(C=(1.0,), report_dir=str(tmp_path))
    report = run_benchmark(features_path, asked, command="cnnfeat benchmark f.h5 '&'")
    page = (tmp_path / "index.html").read_text()
    assert "<title>my photos" in page
    assert answer(report).split(". ")[2] in page
    for heading in ("Settings", "Run", "Features"):
        assert f"<h3>{heading}</h3>" in page
    assert "<dd>cnnfeat benchmark f.h5 &#x27;&amp;&#x27;</dd>" in page
    made = json.loads((tmp_path / "results.json").read_text())["made"]
    assert made["command"] == "cnnfeat benchmark f.h5 '&'"
    for name in ("date", "cnnfeat", "python", "torch", "scikit-learn", "numpy"):
        assert f"<dt>{name}</dt><dd>{made[name]}</dd>" in page


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("folder", "the splits of mine.csv: "),
        ("caltech101", "caltech101, the splits of mine.csv: "),
    ],
)
def test_splits_of_a_file_are_said_to_be_its_own(
    features_path, tmp_path, protocol, expected
):
    drawn, given = tmp_path / "drawn", tmp_path / "given"
    run_benchmark(features_path, options(C=(1.0,), report_dir=str(drawn)))
    mine = (drawn / "splits.csv").rename(tmp_path / "mine.csv")
    draw = DrawOptions(protocol=protocol, splits_file=str(mine))
    asked = BenchmarkOptions(C=(1.0,), draw=draw, report_dir=str(given))
    report = run_benchmark(features_path, asked)
    for table in (report.table(), printed_tables(report)[0]):
        assert table.caption.startswith(expected)
    page = (given / "index.html").read_text()
    assert expected in page and str(mine) in page
    assert json.loads((given / "results.json").read_text())["splits_file"] == str(mine)
    assert (
        "Any folder" not in page
        and "the splits of" not in (drawn / "index.html").read_text()
    )


def test_every_figure_is_there_in_three_formats_and_the_page_names_them(
    features_path, tmp_path
):
    report = run_benchmark(features_path, options(C=(1.0,), report_dir=str(tmp_path)))
    page = (tmp_path / "index.html").read_text()
    stems = {path.stem for path in tmp_path.glob("*.png")}
    assert {"accuracy_by_layer", "confusion", "per_class_accuracy"} <= stems
    for stem in stems:
        for suffix in PICTURES:
            assert f'href="{stem}{suffix}"' in page
            assert f"{stem}{suffix}" in report.files
            assert (tmp_path / f"{stem}{suffix}").stat().st_size > 500
    # The confusion matrix is drawn in the page itself.
    assert page.count("<img") == len(stems) - 1
    assert page.count('<svg class="confusion"') == 1
