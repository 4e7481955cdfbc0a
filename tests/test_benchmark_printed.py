"""What a benchmark prints: layers × heads, the best marked, nothing said twice."""

from dataclasses import replace

import numpy as np
import pytest
from made_features import options, write_features

from cnnfeat.benchmark import Cell, SplitResult, printed_tables, run_benchmark
from cnnfeat.benchmark._printed import _published
from cnnfeat.benchmark._results import averaged
from cnnfeat.benchmark._summary import over_initialisations
from cnnfeat.protocols import get_protocol
from cnnfeat.report import format_percent


@pytest.fixture(scope="module")
def features_path(tmp_path_factory):
    return write_features(tmp_path_factory.mktemp("made") / "f.h5")


def printed(features_path, **asked):
    report = run_benchmark(features_path, options(**asked))
    return report, [table.to_text(80) for table in printed_tables(report)]


def cell(features="net", layer="a", head="svm", size=None, C=(1.0,)):
    splits = [
        SplitResult(k, 5, 5, 2, 2, value, (), (), 0.5, 0.5, 1.0, "primal", 1)
        for k, value in enumerate(C)
    ]
    return Cell(features, layer, head, size, tuple(splits), np.eye(2, dtype=int))


def test_layers_stand_against_heads_and_the_best_is_marked(features_path):
    report, texts = printed(features_path, heads=("svm", "softmax"), C=(1.0,))
    pivot = texts[0].splitlines()
    head = next(k for k, line in enumerate(pivot) if line.startswith("layer "))
    assert pivot[head].split() == ["layer", "svm", "softmax"]
    for one in report.cells:
        (line,) = [ln for ln in pivot[head + 2 :] if ln.split()[0] == one.layer]
        assert format_percent(one.mean_std(report.protocol.metric).mean) in line
    assert "\n".join(pivot[head:]).count("*") == 1
    best = report.best.mean_std(report.protocol.metric).percent()
    assert f"* {best}" in texts[0]


def test_both_accuracies_and_C_are_printed(features_path):
    _, texts = printed(features_path, heads=("svm", "softmax"), C=(1.0,))
    text = "\n".join(texts)
    for title in ("mean per class (%)", "accuracy (%)", "C, median"):
        assert title in text
    _, (alone, *_) = printed(features_path, C=(1.0,))
    for title in ("mean per class (%)", "accuracy (%)", " C"):
        assert title in alone


@pytest.mark.parametrize("heads", [("svm",), ("svm", "softmax")])
@pytest.mark.parametrize("sizes", [(), (2, 4)])
def test_tables_fit_80_columns_and_say_nothing_twice(features_path, heads, sizes):
    sized = {"train_sizes": sizes, "train_per_class": None} if sizes else {}
    report, texts = printed(features_path, heads=heads, C=(1000.0,), **sized)
    lines = "\n".join(texts).splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("e+" in line for line in lines)
    assert sum(report.cells[0].features in line for line in lines) <= 2


def test_the_papers_numbers_stand_layer_against_head(features_path):
    protocol = get_protocol("caltech101-zf")
    measured, _ = printed(features_path, C=(1000.0,))
    report = replace(measured, protocol=protocol, cells=(cell(size=30),))
    text = _published(report).to_text(80)
    assert "44.8 ± 0.7" in text and "as printed" in text
    for source in {result.source for result in protocol.published}:
        assert text.count(source) <= 1


def test_one_row_is_named_by_its_layer_alone(features_path):
    report = run_benchmark(features_path, options(layers=("layer2",), C=(1.0,)))
    (table,) = printed_tables(report)
    headings, (row,), _ = table.cells()
    assert headings[0] == "layer" and row[0] == "layer2"
    assert "features made" in table.caption and "train a class 6" in table.caption


def test_a_layer_that_its_features_are_named_after_is_named_once():
    assert cell("raw pixels", "pixels", size=5).name == "raw pixels, svm, 5 a class"
    assert cell("random weights", "fc6").name == "random weights fc6, svm"


def test_several_initialisations_are_one_row_with_their_own_deviation():
    def draw(C, *values):
        made = cell("random weights", C=(C, C))
        own = zip(made.splits, values, strict=True)
        return replace(made, splits=tuple(replace(s, accuracy=v) for s, v in own))

    draws = [draw(1.0, 0.2, 0.4), draw(100.0, 0.6, 0.4), draw(10.0, 0.4, 0.4)]
    alone, row = averaged([cell(), *draws])
    assert alone.initialisations == ()
    assert row.initialisations == tuple(draws)
    # By the means of the draws, 0.3, 0.5 and 0.4; the splits have no deviation left.
    assert row.mean_std("accuracy").mean == pytest.approx(0.4)
    assert row.mean_std("accuracy").std == pytest.approx(0.1)
    assert row.values("accuracy") == pytest.approx([0.4, 0.4])
    assert [split.C for split in row.splits] == [10.0, 10.0]
    assert row.confusion.sum() == 3 * draws[0].confusion.sum()
    assert [d["accuracy"]["values"] for d in row.to_dict()["initialisations"]] == [
        one.values("accuracy") for one in draws
    ]
    told = " (random weights: over 3 initialisations)"
    assert over_initialisations([alone, row]) == told
