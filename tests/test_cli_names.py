"""Names of every kind pass through the commands as text, and as nothing else."""

import csv
import io
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import FIRST_BLOCK, write_image

from cnnfeat.cli.main import cli
from cnnfeat.shown import from_csv_cell

CLASSES = (
    "=cmd|' C calc'!A0",
    "<script>alert(1)<!--",
    "two\nlines\tand a tab",
    "$x^2$ costs $5",
    "\x1b[31mred\x07",
    "\"double\" 'single' `tick` |bar| [link](x)",
    "-5 | 6",
    "\u202egnp",
)


def run(*arguments, status=0):
    # Wide enough that no list of names is cut.
    result = CliRunner(env={"COLUMNS": "500"}).invoke(cli, list(map(str, arguments)))
    where = (arguments, result.output, result.exception)
    assert isinstance(result.exception, SystemExit | None), where
    assert result.exit_code == status, where
    for line in (result.stdout + result.stderr).splitlines():
        assert "\x1b" not in line
        assert "\u202e" not in line
    return result


def read_csv(text):
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    for row in rows:
        for cell in row.values():
            is_number = re.fullmatch(r"[+-]?\d+(\.\d*)?(e[+-]?\d+)?", cell)
            assert is_number or cell[:1] not in tuple("=+-@\t\r"), cell
    return rows


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Eight classes of four images, features, a head."""
    folder = tmp_path_factory.mktemp("names")
    for label, name in enumerate(CLASSES):
        (folder / "images" / name).mkdir(parents=True)
        for k in range(4):
            write_image(folder / "images" / name / f"{k}.png", 10 * label + k)
    run("extract", folder / "images", "-o", folder / "f.h5", *FIRST_BLOCK)
    rows = ("--train-per-class", "2", "--C", "1", "--device", "cpu")
    run("train-softmax", folder / "f.h5", "-o", folder / "head.h5", *rows)
    return folder


def test_an_extraction_names_classes_as_text(made, tmp_path):
    images = made / "images"
    loud = [option for option in FIRST_BLOCK if option != "--quiet"]
    result = run("extract", images, "-o", tmp_path / "f.h5", *loud)
    assert r"\x1b[31mred\x07 4" in result.stdout
    assert len(result.stdout.splitlines()) == 1


def test_info_and_evaluate_print_no_control_characters(made):
    text = run("info", made / "f.h5").stdout
    assert r"\x1b[31mred\x07" in text
    assert r"two\nlines\tand a tab" in text
    told = json.loads(run("info", made / "f.h5", "--json").stdout)
    assert sorted(told["classes"]) == sorted(CLASSES)
    run("evaluate", made / "head.h5", made / "f.h5")
    told = json.loads(run("evaluate", made / "head.h5", made / "f.h5", "--json").stdout)
    assert sorted(told["per_class_accuracy"]) == sorted(CLASSES)


def test_predictions_hold_no_formula_and_the_true_names(made, tmp_path):
    files = ("--predictions", tmp_path / "p.csv", "--confusion", tmp_path / "c.png")
    run("evaluate", made / "head.h5", made / "f.h5", *files)
    rows = read_csv((tmp_path / "p.csv").read_text())
    assert {from_csv_cell(row["label"]) for row in rows} == set(CLASSES)
    assert len(rows) == 2 * len(CLASSES)
    assert (tmp_path / "c.png").read_bytes()[:4] == b"\x89PNG"
    printed = run(
        *("predict", made / "head.h5", made / "images", "--device", "cpu"),
        *("--workers", "0", "--quiet", "-o", tmp_path / "q.csv"),
    )
    assert "=cmd" not in printed.stdout
    rows = read_csv((tmp_path / "q.csv").read_text())
    paths = {from_csv_cell(row["path"]) for row in rows}
    assert paths == {f"{name}/{k}.png" for name in CLASSES for k in range(4)}


def test_splits_come_back_by_the_names_they_were_given(made, tmp_path):
    draw = ("--train-per-class", "2", "--protocol", "folder", "--splits", "2")
    run("splits", made / "f.h5", "-o", tmp_path / "s.csv", *draw)
    read_csv((tmp_path / "s.csv").read_text())
    again = ("--splits-file", tmp_path / "s.csv", "--head", "svm", "--C", "1")
    given = run("benchmark", made / "f.h5", *again, "--json", "--quiet")
    drawn = run("benchmark", made / "f.h5", *draw, *again[2:], "--json", "--quiet")
    given, drawn = (json.loads(result.stdout)["rows"] for result in (given, drawn))
    for one, other in zip(given, drawn, strict=True):
        assert {**one, "name": ""} == {**other, "name": ""}


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.text = [], []

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)

    def handle_data(self, data):
        self.text.append(data)


def test_a_report_shows_names_as_text(made, tmp_path):
    draw = ("--train-per-class", "2", "--head", "svm", "--C", "1", "--quiet")
    run("benchmark", made / "f.h5", *draw, "--report", tmp_path / "r")
    page = Tags()
    page.feed((tmp_path / "r" / "index.html").read_text())
    assert page.found.count("script") == 1  # its own, which sorts tables
    for path in sorted((tmp_path / "r").iterdir()):
        if path.suffix in (".html", ".md"):
            text = path.read_text()
            assert "<script>alert" not in text
            assert not any(c in text for c in "\x1b\x07\u202e")
        if path.suffix == ".csv":
            read_csv(path.read_text())


def test_a_name_too_long_is_one_line_in_every_command(made, tmp_path):
    long = tmp_path / ("a" * 300)
    log, ranges = f"{long}.jsonl", f"{long}.toml"
    features, head = made / "f.h5", made / "head.h5"
    for arguments in (
        ("info", long),
        ("info", f"{long}.safetensors"),
        ("extract", long, "-o", tmp_path / "f.h5"),
        ("extract", made / "images", "-o", f"{long}.h5", *FIRST_BLOCK),
        ("extract", made / "images", "-o", long / "f.h5", *FIRST_BLOCK),
        ("extract", made / "images", "-o", tmp_path / "f.h5", "--weights", long),
        ("train-svm", long, "-o", tmp_path / "h.h5"),
        ("train-svm", features, "-o", f"{long}.h5", "--C", "1"),
        ("evaluate", long, features),
        ("evaluate", head, long),
        ("evaluate", head, features, "--predictions", f"{long}.csv"),
        ("evaluate", head, features, "--confusion", f"{long}.png"),
        ("benchmark", long),
        ("benchmark", features, "--splits-file", long),
        ("benchmark", features, "--report", long, "--train-per-class", "2"),
        ("benchmark", features, "--protocol", "mit67", "--lists", long),
        ("splits", long, "-o", tmp_path / "s.csv"),
        ("splits", features, "-o", f"{long}.csv", "--train-per-class", "2"),
        ("predict", long, made / "images"),
        ("predict", f"{long}.safetensors", made / "images"),
        ("predict", head, long),
        ("predict", head, made / "images", "-o", f"{long}.csv"),
        ("finetune", long, "-o", tmp_path / "w.safetensors"),
        ("finetune", made / "images", "-o", f"{long}.safetensors"),
        ("finetune", made / "images", "-o", tmp_path / "w.pth", "--init", long),
        ("finetune", made / "images", "-o", tmp_path / "w.pth", "--weights", long),
        ("finetune", made / "images", "-o", tmp_path / "w.pth", "--splits-file", long),
        (
            "finetune",
            made / "images",
            "-o",
            tmp_path / "w.pth",
            "--log-file",
            log,
        ),
        ("finetune", made / "images", "-o", tmp_path / "w.pth", "--augment", ranges),
        ("download", "caltech101", long),
    ):
        # What `finetune` is doing comes before what it cannot do.
        quiet = ("--quiet",) * (arguments[0] == "finetune")
        result = run(*arguments, *quiet, status=1)
        lines = result.stderr.splitlines()
        assert lines[-1].startswith("cnnfeat: "), arguments
        assert len([line for line in lines if "warning" not in line]) == 1, arguments
    assert sorted(path.name for path in tmp_path.iterdir()) == []


def test_a_manifest_with_a_long_path_has_a_failed_row(tmp_path):
    write_image(tmp_path / "a.png", 1)
    (tmp_path / "m.csv").write_text(f"path\na.png\n{'b' * 300}.png\n")
    result = run("extract", tmp_path / "m.csv", "-o", tmp_path / "f.h5", *FIRST_BLOCK)
    assert "file name too long" in result.stderr


def test_loops_of_links_under_images_do_no_harm(tmp_path):
    folder = tmp_path / "images" / "ant"
    folder.mkdir(parents=True)
    for k in range(2):
        write_image(folder / f"{k}.png", k)
    (folder / "self").symlink_to("self")
    (folder / "there").symlink_to("back")
    (folder / "back").symlink_to("there")
    (tmp_path / "images" / "loop").symlink_to("loop")
    out = tmp_path / "f.h5"
    result = run("extract", tmp_path / "images", "-o", out, *FIRST_BLOCK, "--json")
    assert json.loads(result.stdout)["n_ok"] == 2
    (folder / "up").symlink_to("..")
    result = run("extract", tmp_path / "images", "-o", tmp_path / "g.h5", status=1)
    assert "leads back to a folder above it" in result.stderr
    (tmp_path / "round").symlink_to("round")
    run("extract", tmp_path / "round", "-o", tmp_path / "g.h5", status=1)


def test_the_home_folder_is_found_where_no_shell_read_the_name(made, monkeypatch):
    monkeypatch.setenv("HOME", str(made))
    assert "n images" in run("info", "~/f.h5").stdout
    run("evaluate", "~/head.h5", "~/f.h5", "--predictions=~/p.csv")
    assert (made / "p.csv").exists()
    os.unlink(made / "p.csv")


def test_a_file_that_is_called_so_is_meant(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/nowhere")
    (tmp_path / "~").mkdir()
    Path("~", "f.h5").write_bytes((made / "f.h5").read_bytes())
    assert "n images" in run("info", "~/f.h5").stdout
    run("info", "~/other.h5", status=1)
