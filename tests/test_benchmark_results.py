"""Each split by itself gives the same; the JSON alone is enough to redo a cell."""

import csv
import json
import math
import warnings

import h5py
import numpy as np
import pytest
from made_features import options, write_features

from cnnfeat.benchmark import BenchmarkOptions, Cell, DrawOptions, run_benchmark
from cnnfeat.benchmark._layer_rows import LayerRows, open_rows
from cnnfeat.benchmark._published import published_references, published_rows
from cnnfeat.errors import CnnfeatWarning, ConvergenceWarning, DataError, InputError
from cnnfeat.evaluate import evaluate_head
from cnnfeat.heads import (
    CGrid,
    FeatureTransform,
    FoldedProblem,
    HeadSettings,
    LinearSVM,
    TrainingProblem,
    select_C,
)
from cnnfeat.protocols import get_protocol
from cnnfeat.report import Column
from cnnfeat.splits import Split, split_seed
from cnnfeat.store import open_features
from cnnfeat.train import TrainOptions, train_head

# Of a few noisy rows the best C may be the largest that there is.
pytestmark = pytest.mark.filterwarnings("ignore:the largest C that was tried")

METRICS = ("mean_per_class_accuracy", "accuracy", "top_5_accuracy")


@pytest.fixture(scope="module")
def features_path(tmp_path_factory):
    return write_features(tmp_path_factory.mktemp("made") / "f.h5")


def assert_same_result(a, b):
    assert a.seed == b.seed
    assert a.C_grid == b.C_grid
    assert a.validation == b.validation
    assert a.C == b.C
    for metric in METRICS:
        assert getattr(a, metric) == pytest.approx(getattr(b, metric), abs=1e-12)


@pytest.mark.parametrize("scale", ["l2", "mean-norm", "none", "standard"])
@pytest.mark.parametrize("head", ["svm", "softmax"])
def test_a_split_among_several_equals_that_split_alone(features_path, scale, head):
    asked = {"scale": scale, "heads": (head,), "layers": ("layer2",)}
    together = run_benchmark(features_path, options(**asked)).cells[0]
    for split in together.splits:
        asked["seed"] = split.seed
        alone = run_benchmark(features_path, options(n_splits=1, **asked))
        assert_same_result(split, alone.cells[0].splits[0])


def test_dropout_masks_are_those_of_the_split_alone(features_path):
    asked = {"dropout": 0.5, "C": (1.0,), "layers": ("layer2",)}
    together = run_benchmark(features_path, options(**asked)).cells[0]
    last = together.splits[2]
    alone = run_benchmark(features_path, options(seed=last.seed, n_splits=1, **asked))
    assert_same_result(last, alone.cells[0].splits[0])


@pytest.mark.parametrize("scale", ["l2", "none"])
def test_a_split_equals_train_and_evaluate_with_its_seed(
    features_path, tmp_path, scale
):
    asked = options(scale=scale, layers=("layer2",))
    cell = run_benchmark(features_path, asked).cells[0]
    for split in cell.splits:
        head = str(tmp_path / f"head{split.seed}.h5")
        training = TrainOptions(
            layer="layer2", train_per_class=6, seed=split.seed, scale=scale
        )
        trained = train_head(str(features_path), head, training)
        scored = evaluate_head(head, str(features_path))
        assert trained.C == split.C
        for metric in METRICS:
            expected = pytest.approx(getattr(scored, metric), abs=1e-12)
            assert getattr(split, metric) == expected


def test_the_grid_of_C_follows_the_scale_of_the_training_rows(tmp_path):
    path = write_features(tmp_path / "f.h5", poison=lambda X: 100 * X)
    (first, *_) = run_benchmark(path, options(scale="none")).cells
    record = run_benchmark(path, options(scale="none")).to_dict()
    with open_features(path) as features:
        X = features.read(features.resolve(first.layer))
    for split, rows in zip(
        first.splits, record["split_sets"][0]["splits"], strict=True
    ):
        squares = np.sum(X[rows["train"]].astype(np.float64) ** 2, axis=1)
        unit = round(np.log10(squares.mean()))
        assert unit == 5
        assert {float(f"1e{e - unit}") for e in range(-3, 4)} <= set(split.C_grid)


def test_one_cell_can_be_redone_from_the_json_alone(features_path, tmp_path):
    folder = tmp_path / "report"
    run_benchmark(features_path, options(report_dir=str(folder), scale="mean-norm"))
    record = json.loads((folder / "results.json").read_text())
    row = record["rows"][1]
    (split_set,) = record["split_sets"]
    with open_features(record["sources"][row["features"]]) as features:
        X, y = features.read(features.resolve(row["layer"])), features.labels
    for index, rows in enumerate(split_set["splits"]):
        grid = row["C_grid"][index]
        choice, right = redo(X, y, rows, grid, record["settings"])
        assert row["C"][index] == choice.C
        assert row["validation"][index] == pytest.approx(choice.scores, abs=1e-12)
        assert row["accuracy"]["values"][index] == pytest.approx(
            right.mean(), abs=1e-12
        )
        assert row["n_train"][index] == len(rows["train"])
        assert row["n_test"][index] == len(right)


def redo(X, y, rows, grid, settings):
    """Return the choice of C, and which test rows are right, of one split."""
    train, test = np.array(rows["train"]), rows["test"]
    head = LinearSVM(**settings["heads"]["svm"], random_state=rows["seed"])

    def transform(own):
        told = {key: settings[key] for key in ("signed_sqrt", "n_components")}
        return FeatureTransform(settings["scale"], **told).fit(X[own])

    def folded(held_out):
        inside = np.setdiff1d(train, held_out)
        Z = transform(inside).transform(X[train])
        fold = Split(np.searchsorted(train, inside), np.searchsorted(train, held_out))
        problem = TrainingProblem.of(Z, y[train], head.formulation())
        return FoldedProblem(problem, (fold,))

    choice = select_C([folded(held) for held in rows["folds"]], CGrid(tuple(grid)))
    last = transform(train)
    head.set_params(C=choice.C).fit(last.transform(X[train]), y[train])
    return choice, head.predict(last.transform(X[test])) == y[test]


def test_folds_divide_the_training_rows(features_path):
    record = run_benchmark(features_path, options(layers=("layer2",))).to_dict()
    for split in record["split_sets"][0]["splits"]:
        assert len(split["folds"]) == 50
        for at in range(0, 25, 5):
            assert sorted(np.concatenate(split["folds"][at : at + 5])) == split["train"]
        assert not set(split["train"]) & set(split["test"])


def test_the_csv_holds_a_line_for_each_split_with_its_choice_of_C(
    features_path, tmp_path
):
    folder = tmp_path / "report"
    asked = options(report_dir=str(folder), layers=("layer2",), scale="none", seed=4)
    (cell,) = run_benchmark(features_path, asked).cells
    with open(folder / "results.csv", newline="") as text:
        lines = list(csv.DictReader(text))
    assert [int(line["seed"]) for line in lines] == [split_seed(4, i) for i in range(3)]
    for line, split in zip(lines, cell.splits, strict=True):
        assert tuple(map(float, line["C_grid"].split())) == split.C_grid
        assert tuple(map(float, line["validation"].split())) == split.validation
        assert float(line["C"]) == split.C
        assert line["scale"] == "none"


def test_mistakes_are_what_is_beside_the_confusions_diagonal(features_path):
    report = run_benchmark(features_path, options(layers=("layer2",), C=(1.0,)))
    (cell,) = report.cells
    counted = np.diag(np.diag(cell.confusion))
    for row, true, predicted in cell.mistakes:
        assert row // 12 == true
        counted[true, predicted] += 1
    np.testing.assert_array_equal(counted, cell.confusion)
    assert counted.sum() == sum(split.n_test for split in cell.splits)


# -- comparisons -----------------------------------------------------------------------


def test_any_two_rows_are_compared_over_their_splits(features_path):
    sizes = {"train_per_class": None, "train_sizes": (3, 6)}
    report = run_benchmark(
        features_path, options(**sizes, heads=("svm", "softmax"), C=(1.0,))
    )
    cells = {cell.name: cell for cell in report.cells}
    found = {(one.better, one.than): one for one in report.comparisons()}
    assert len(found) == len(cells) * (len(cells) - 1) // 2 == 28
    for (better, than), one in found.items():
        a, b = (
            np.array(cells[name].values("mean_per_class_accuracy"))
            for name in (better, than)
        )
        assert one.difference == pytest.approx((a - b).mean(), abs=1e-15)
        assert one.difference >= 0
        # Six of twelve images a class train, or three of these, and six are tested: the
        # larger share counts.
        share = (
            1.0
            if cells[better].train_per_class == cells[than].train_per_class == 6
            else 2.0
        )
        error = (a - b).std(ddof=1) * (1 / 3 + share) ** 0.5
        if math.isnan(one.standard_error):  # one and the same difference in each split
            assert error == pytest.approx(0, abs=1e-12)
        else:
            assert one.standard_error == pytest.approx(error, abs=1e-15)
            assert one.p_value <= one.p_holm <= 1
        assert one.n_splits == 3
        assert one.same_test_rows  # six images a class, whatever the training size


def test_on_one_split_the_images_are_counted(features_path):
    report = run_benchmark(
        features_path, options(n_splits=1, heads=("svm", "softmax"), C=(1.0,))
    )
    cells = {cell.name: cell for cell in report.cells}
    found = report.comparisons()
    assert len(found) == 6
    for one in found:
        # The counts of disagreements add up to the difference of the two results.
        a, b = (
            cells[name].values("mean_per_class_accuracy")[0]
            for name in (one.better, one.than)
        )
        assert one.difference == pytest.approx(a - b, abs=1e-12)
        assert one.low <= one.difference <= one.high
        assert one.test == "signs of images"
        assert one.n_family == 6
    assert any(one.difference > 0.2 and one.p_value < 0.1 for one in found)


def test_the_rows_asked_for_are_compared_and_shown(features_path):
    asked = options(
        heads=("svm", "softmax"), C=(1.0,), compare=(("layer2 svm", "layer2 softmax"),)
    )
    report = run_benchmark(features_path, asked)
    (row,) = report.asked_table().rows
    assert {row["better"], row["than"]} == {
        "made layer2, svm, 6 a class",
        "made layer2, softmax, 6 a class",
    }
    assert row["n_splits"] == 3
    assert report.asked_table() in report.tables()


@pytest.mark.parametrize(
    ("pair", "match"),
    [
        (("layer2", "layer3"), "'layer3' fits no row; there are: made layer2"),
        (("layer2", "svm"), "'svm' fits 2 rows: add a word"),
        (("layer2", "made layer2, svm, 6 a class"), "both name the row 'made layer2"),
        (("layer2", " "), "fits no row"),
    ],
)
def test_a_row_that_is_not_clear_is_refused(features_path, pair, match):
    with pytest.raises(InputError, match=match):
        run_benchmark(features_path, options(C=(1.0,), compare=(pair,)))


# -- what is warned of -----------------------------------------------------------------


def test_convergence_warnings_reach_the_json_and_the_page(
    features_path, tmp_path, monkeypatch
):
    estimator = HeadSettings._estimator

    def hurried(*arguments):
        return estimator(*arguments).set_params(max_iter=1, tol=1e-14)

    monkeypatch.setattr(HeadSettings, "_estimator", hurried)
    folder = tmp_path / "report"
    asked = options(report_dir=str(folder), layers=("layer2",), C=(100.0,))
    with pytest.warns(ConvergenceWarning, match="made layer2, svm, 6 a class: "):
        run_benchmark(features_path, asked)
    (told,) = json.loads((folder / "results.json").read_text())["warnings"]
    assert "did not converge; the first: LinearSVM stopped after" in told
    assert "did not converge" in (folder / "index.html").read_text()


def test_a_protocol_that_cannot_be_met_is_said_in_the_json_and_the_page(tmp_path):
    path = write_features(tmp_path / "f.h5", n_classes=12, n_per_class=6)
    folder = tmp_path / "report"
    draw = DrawOptions(protocol="scene15", train_per_class=3, n_splits=2)
    asked = BenchmarkOptions(draw=draw, C=(1.0,), report_dir=str(folder))
    with pytest.warns(CnnfeatWarning):
        run_benchmark(path, asked)
    told = json.loads((folder / "results.json").read_text())["warnings"]
    assert told == [
        "scene15 has 15 classes; here are 12",
        "scene15 has 4,485 images; here are 72 that can be read",
    ]
    assert "here are 12" in (folder / "index.html").read_text()


def test_warnings_of_other_libraries_pass_through_and_are_not_kept():
    from cnnfeat.benchmark._notices import keep_warnings

    told = []
    with pytest.warns(UserWarning) as seen, keep_warnings(told):
        warnings.warn("ours", CnnfeatWarning, stacklevel=1)
        warnings.simplefilter("always")
        warnings.warn("theirs", UserWarning, stacklevel=1)
    assert [str(one.message) for one in seen] == ["ours", "theirs"]
    assert told == ["ours"]


# -- the papers' numbers ---------------------------------------------------------------


def cell(head, train_per_class=30):
    return Cell("alexnet", "fc6", head, train_per_class, (), np.zeros((1, 1)))


def test_published_numbers_stand_below_ours_as_printed():
    protocol = get_protocol("caltech101-decaf")
    rows = published_rows(protocol, [cell("svm")])
    column = Column("mean_per_class_accuracy", percent=True)
    shown = {(row["head"], row["layer"]): column.show(row[column.key]) for row in rows}
    assert len(rows) == len(protocol.published)
    assert shown["svm with dropout", "6"] == "86.91 ± 0.7"
    assert shown["softmax", "6"] == "84.30 ± 1.6"
    assert published_rows(protocol, [cell("svm", 15)]) == []


def test_the_best_published_number_of_each_measured_head_is_drawn():
    protocol = get_protocol("caltech101-decaf")
    found = published_references(protocol, [cell("svm")])
    assert [(one.mean, one.at) for one in found] == [(0.8691, 30), (0.8477, 30)]
    assert found[0].label == "DeCAF, svm with dropout, layer 6: 86.91 ± 0.7"
    both = published_references(protocol, [cell("svm"), cell("softmax")])
    assert [one.mean for one in both] == sorted(
        (one.mean for one in both), reverse=True
    )
    assert len(both) == 4
    (best, *_) = published_references(get_protocol("caltech101-zf"), [cell("softmax")])
    assert best.label == "ZF, softmax, whole network: 86.5 ± 0.5"


# -- layers larger than the memory budget ----------------------------------------------


@pytest.mark.parametrize(
    ("d", "n_train", "scale", "side"),
    [
        (700, 20, "l2", "gram"),
        (700, 20, "mean-norm", "gram"),
        (700, 20, "standard", "gram"),
        (100, 300, "l2", "primal"),
    ],
)
def test_a_layer_over_the_budget_is_read_in_blocks_for_the_same_result(
    tmp_path, monkeypatch, d, n_train, scale, side
):
    path = write_features(tmp_path / "f.h5", n_per_class=n_train + 60, n_features=d)
    asked = {"layers": ("layer2",), "scale": scale, "train_per_class": n_train}
    asked |= {"n_splits": 2, "test_per_class": 60, "C": (0.1, 1.0)}
    (plain,) = run_benchmark(path, options(**asked)).cells

    opened = []

    def watched(*arguments):
        opened.append(open_rows(*arguments))
        return opened[-1]

    monkeypatch.setattr("cnnfeat.benchmark._measure.open_rows", watched)
    (streamed,) = run_benchmark(path, options(**asked, memory_mib=1)).cells
    assert [type(X) for X in opened] == [LayerRows]
    assert {split.solver for split in streamed.splits} == {side}
    for a, b in zip(plain.splits, streamed.splits, strict=True):
        assert_same_result(a, b)


@pytest.mark.parametrize(
    ("change", "flag"),
    [({"n_components": 3}, "`n_components`"), ({"dropout": 0.5}, "`dropout`")],
)
def test_what_needs_a_large_layer_in_memory_says_how_much(tmp_path, change, flag):
    path = write_features(tmp_path / "f.h5", n_per_class=50, n_features=1000)
    asked = options(layers=("layer2",), C=(1.0,), memory_mib=1, **change)
    expected = f"{flag} needs the 200 x 1,000 features of layer2 in memory, 2 MiB"
    with pytest.raises(DataError, match=expected):
        run_benchmark(path, asked)


def test_features_that_are_not_finite_are_refused_while_streamed(tmp_path):
    path = write_features(tmp_path / "f.h5", n_per_class=50, n_features=1000)
    with h5py.File(path, "r+") as file:
        file["features/layer2"][130] = np.nan
    with pytest.raises(DataError, match=r"class2/130\.png \(row 130\) are not finite"):
        run_benchmark(path, options(C=(1.0,), memory_mib=1, test_per_class=44))
