"""`layers`, `models`, `info` and `download`: what they print, what they refuse."""

import json

import pytest
from click.testing import CliRunner

from cnnfeat.cli.main import cli


def run(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_layers_as_json_sum_to_the_networks_parameters():
    result = run("layers", "--model", "alexnet", "--json")
    rows = json.loads(result.stdout)["layers"]
    assert sum(row["parameters"] for row in rows) == 61_100_840
    by_alias = {row["alias"]: row["name"] for row in rows if row["alias"]}
    assert by_alias["fc7"] == "classifier.5"
    assert result.stderr == ""


def test_layers_as_a_table_has_a_line_a_layer():
    lines = run("layers", "--model", "squeezenet1_1").stdout.splitlines()
    assert lines[0].split()[:3] == ["layer", "alias", "kind"]
    assert any(line.startswith("features.12") for line in lines)


def test_layers_tells_what_last_n_trains():
    rows = json.loads(run("layers", "--model", "resnet18", "--json").stdout)["layers"]
    by_name = {row["name"]: row["stage"] for row in rows}
    assert (by_name["conv1"], by_name["layer4.0.conv1"], by_name["fc"]) == (6, 2, 1)


def test_models_matches_a_glob_and_tells_what_is_at_hand():
    result = run("models", "squeezenet*", "--json")
    names = [row["name"] for row in json.loads(result.stdout)["models"]]
    assert names == ["squeezenet1_0", "squeezenet1_1"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("layers", "--model", "alexnt"), ("alexnt", "alexnet", "cnnfeat models")),
        (("models", "nothing*"), ("nothing", "cnnfeat models")),
        (("info", "missing.h5"), ("missing.h5",)),
        (("download", "caltech", "data"), ("caltech", "caltech101")),
    ],
)
def test_what_is_not_there_is_named_in_one_line(
    arguments, words, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    for word in words:
        assert word in result.stderr


def test_a_text_file_is_not_a_feature_file(tmp_path):
    path = tmp_path / "notes.h5"
    path.write_text("these are notes")
    result = run("info", path)
    assert result.exit_code == 1
    assert "notes.h5" in result.stderr
