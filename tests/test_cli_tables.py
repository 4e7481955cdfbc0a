"""From tables of images to heads, as a shell user goes: columns, groups, labels."""

import csv
import json

import click
import pytest
from click.testing import CliRunner
from conftest import FIRST_BLOCK

from cnnfeat.cli.extract import extract
from cnnfeat.cli.main import cli
from cnnfeat.cli.output import command_line
from cnnfeat.store import load_head, open_features

QUICK = ("--C", "1")


def run(*arguments, **more):
    return CliRunner().invoke(cli, list(map(str, arguments)), **more)


def succeed(*arguments, **more):
    result = run(*arguments, "--json", **more)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(*arguments):
    result = run(*arguments)
    assert result.exit_code in (1, 2), result.output
    return result.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def wells(colour_dir, tmp_path_factory):
    """A table of the colour images: two images a class of each of four plates."""
    path = tmp_path_factory.mktemp("wells") / "wells.csv"
    lines = ["File;Colour;Plate/No"]
    for image in sorted(colour_dir.glob("*/*.png")):
        lines.append(f"{image};{image.parent.name};p{int(image.stem) // 2}")
    path.write_text("\n".join(lines) + "\n")
    return path


NAMED = ("--path-column", "File", "--label-column", "Colour")


@pytest.fixture(scope="module")
def features(wells, tmp_path_factory):
    path = tmp_path_factory.mktemp("features") / "wells.h5"
    told = succeed("extract", wells, "-o", path, *NAMED, *FIRST_BLOCK)
    assert (told["n_ok"], told["n_classes"]) == (24, 3)
    return path


def test_other_columns_are_kept_in_the_file_and_told_by_info(features):
    with open_features(features) as opened:
        plates = opened.table.own_columns["Plate/No"].tolist()
    assert plates == [f"p{k // 2}" for _ in range(3) for k in range(8)]
    assert succeed("info", features)["columns"] == ["Plate/No"]


def test_what_is_trained_can_be_evaluated_without_a_word_on_rows(features, tmp_path):
    head = tmp_path / "h.h5"
    trained = succeed("train-svm", features, "-o", head, *QUICK)
    # A fifth of eight is rounded to two, of each class.
    assert (trained["n_train"], trained["n_heldout"]) == (18, 6)
    assert succeed("evaluate", head, features)["n_images"] == 6
    trained = succeed(
        "train-svm", features, "-o", head, *QUICK, "--test-share", 0, "--overwrite"
    )
    assert (trained["n_train"], trained["n_heldout"]) == (24, 0)


def test_a_plate_is_never_on_both_sides(features, tmp_path):
    head = tmp_path / "h.h5"
    grouped = ("--group", "Plate/No")
    succeed("train-svm", features, "-o", head, *grouped, "--test-share", 0.25)
    with open_features(features) as opened:
        plate_of = dict(
            zip(opened.paths, opened.table.own_columns["Plate/No"], strict=True)
        )
    saved = load_head(head)
    train, test = (
        {plate_of[path] for path in paths}
        for paths in (saved.training_paths, saved.heldout_paths)
    )
    assert (len(train), len(test)) == (3, 1)
    assert not train & test
    told = succeed("benchmark", features, *grouped, "--folds", 4)
    (split_set,) = told["split_sets"]
    plates = [k // 2 for _ in range(3) for k in range(8)]
    tested = [
        sorted({plates[row] for row in one["test"]}) for one in split_set["splits"]
    ]
    assert sorted(tested) == [[0], [1], [2], [3]]
    for one in split_set["splits"]:
        assert not {plates[row] for row in one["train"]} & {
            plates[row] for row in one["test"]
        }
        for held in one["folds"]:
            rest = set(one["train"]) - set(held)
            assert not {plates[row] for row in held} & {plates[row] for row in rest}
    assert "no column 'plate'" in refused(
        "train-svm", features, "-o", head, *grouped[:1], "plate", "--overwrite"
    )


def test_splits_folds_and_files_of_them_go_everywhere(features, colour_dir, tmp_path):
    rows, head = tmp_path / "s.csv", tmp_path / "h.h5"
    told = succeed("splits", features, "-o", rows, "--folds", 4)
    assert (told["n_splits"], told["n_test"]) == (4, [6] * 4)
    asked = ("--splits-file", rows, "--split-index", 2)
    trained = succeed("train-svm", features, "-o", head, *QUICK, *asked)
    assert trained["n_heldout"] == 6
    held = load_head(head).heldout_paths
    with rows.open() as file:
        listed = [
            row["path"]
            for row in csv.DictReader(file)
            if (row["split_index"], row["split"]) == ("2", "test")
        ]
    assert sorted(held) == sorted(listed)
    names = tmp_path / "names.csv"
    names.write_text(
        "path\n" + "\n".join(str(p) for p in sorted(colour_dir.glob("*/*")))
    )
    found = succeed("predict", head, names, *asked, "--workers", 0, "--quiet")
    assert sorted(one["path"] for one in found["predictions"]) == sorted(held)
    assert "--splits-file" in refused(
        "train-svm", features, "-o", tmp_path / "x.h5", *asked, "--test-share", 0.5
    )


def test_a_class_too_small_is_skipped_by_name(colour_dir, tmp_path):
    table = tmp_path / "t.csv"
    images = sorted(colour_dir.glob("*/*.png"))[:17]  # one of red
    table.write_text("path,label\n" + "\n".join(f"{p},{p.parent.name}" for p in images))
    features, head = tmp_path / "f.h5", tmp_path / "h.h5"
    succeed("extract", table, "-o", features, *FIRST_BLOCK)
    assert "red (1)" in refused("train-svm", features, "-o", head)
    result = run("train-svm", features, "-o", head, "--skip-small", *QUICK)
    assert result.exit_code == 0
    assert "left out: red (1)" in result.stderr
    assert load_head(head).class_names == ("blue", "green")


def test_labels_that_come_later(features, wells, tmp_path):
    labels = tmp_path / "l.tsv"
    lines = [line.split(";") for line in wells.read_text().splitlines()[1:]]
    labels.write_text(
        "Image\tPhenotype\n"
        + "\n".join(f"{p}\t{'warm' if c == 'red' else 'cold'}" for p, c, _ in lines)
    )
    asked = (
        "--labels",
        labels,
        "--path-column",
        "Image",
        "--label-column",
        "Phenotype",
    )
    head = tmp_path / "h.h5"
    trained = succeed("train-svm", features, "-o", head, *asked, *QUICK)
    assert (trained["n_classes"], trained["n_heldout"]) == (2, 5)
    assert load_head(head).class_names == ("cold", "warm")
    told = succeed("evaluate", head, features, *asked)
    assert (told["n_images"], told["n_classes"]) == (5, 2)
    told = succeed("benchmark", features, *asked, *QUICK, "--splits", 1)
    assert told["n_classes"] == 2
    # A column that was kept does as well.
    plates = succeed(
        "train-svm",
        features,
        "-o",
        tmp_path / "p.h5",
        "--label-column",
        "Plate/No",
        *QUICK,
    )
    assert plates["n_classes"] == 4


def test_several_images_arguments_and_nul_on_stdin(colour_dir, tmp_path):
    out = tmp_path / "f.h5"
    several = [colour_dir / "red" / f"{k}.png" for k in range(3)]
    told = succeed("extract", *several, "-o", out, *FIRST_BLOCK)
    assert (told["n_ok"], told["n_classes"]) == (3, 0)
    given = "".join(f"{path}\0" for path in several)
    told = succeed("extract", "-", "-o", out, *FIRST_BLOCK, "--overwrite", input=given)
    assert told["n_ok"] == 3


def test_a_command_with_thousands_of_images_is_kept_in_part(monkeypatch):
    names = [f"{'é' * 30}{k}.png" for k in range(3000)]
    monkeypatch.setattr("sys.argv", ["cnnfeat", "extract", *names, "-o", "f.h5"])
    with click.Context(extract):
        kept = command_line()
    assert kept.startswith("cnnfeat extract")
    assert kept.endswith("2999.png' -o f.h5")
    assert len(kept.encode()) < 2**16
    monkeypatch.setattr("sys.argv", ["cnnfeat", "extract", "a b", "-o", "f.h5"])
    with click.Context(extract):
        assert command_line() == "cnnfeat extract 'a b' -o f.h5"
