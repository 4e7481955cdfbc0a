"""`layers`, `models`, `info` and `download`: what they print, what they refuse."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from cnnfeat.cli.main import cli


def run(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.mark.parametrize("more", [(), ("--all",)])
def test_layers_as_json_sum_to_the_networks_parameters(more):
    result = run("layers", "--model", "alexnet", "--json", *more)
    rows = json.loads(result.stdout)["layers"]
    assert sum(row["parameters"] for row in rows) == 61_100_840
    by_alias = {row["alias"]: row["name"] for row in rows if row["alias"]}
    assert by_alias["fc7"] == "classifier.5"
    assert result.stderr == ""


def test_the_keys_of_layers_and_models_as_json_stay():
    (row, *_) = json.loads(run("layers", "alexnet", "--json").stdout)["layers"]
    old = ("name", "alias", "kind", "shape", "parameters", "macs", "receptive_field")
    assert {*old, "stride", "stage"} <= set(row)
    (row,) = json.loads(run("models", "alexnet", "--json").stdout)["models"]
    old = ("name", "source", "n_parameters", "top_1", "offline", "weights_path")
    assert set(old) <= set(row)


def test_layers_as_a_table_has_a_line_a_layer():
    lines = run("layers", "squeezenet1_1").stdout.splitlines()
    assert lines[1].split()[:3] == ["layer", "alias", "kind"]
    assert any(line.startswith("features.12 *") for line in lines)


def test_layers_tells_what_last_n_trains():
    shown = run("layers", "--model", "resnet18", "--json", "--all").stdout
    by_name = {row["name"]: row["stage"] for row in json.loads(shown)["layers"]}
    assert (by_name["conv1"], by_name["layer4.0.conv1"], by_name["fc"]) == (6, 2, 1)


def test_models_matches_a_glob_and_tells_what_is_at_hand():
    result = run("models", "squeezenet*", "--json")
    names = [row["name"] for row in json.loads(result.stdout)["models"]]
    assert names == ["squeezenet1_0", "squeezenet1_1"]


def test_models_finds_what_timm_has_with_parameters_and_accuracy():
    rows = json.loads(run("models", "dinov2", "--json").stdout)["models"]
    by_name = {row["name"]: row for row in rows}
    small = by_name["timm/vit_small_patch14_dinov2"]
    assert small["n_parameters"] == 22_056_192
    assert small["top_1"] == 0.811
    assert all("dinov2" in name for name in by_name)
    assert all(row["n_parameters"] for row in rows)
    text = run("models", "dinov2").stdout
    assert "22.1 M" in text and "81.1" in text


def test_a_glob_may_leave_timm_out_where_no_other_network_matches():
    rows = json.loads(run("models", "convnextv2_t*", "--json").stdout)["models"]
    assert rows and all(row["name"].startswith("timm/") for row in rows)


@pytest.mark.parametrize(
    "arguments", [("models",), ("models", "dinov2"), ("layers",), ("layers", "vgg16")]
)
def test_lists_of_known_networks_are_given_without_torch(arguments):
    code = (
        "import sys\n"
        "from cnnfeat.cli.main import run\n"
        f"sys.argv = ['cnnfeat', *{list(arguments)!r}]\n"
        "run()\n"
        "heavy = {'torch', 'timm', 'torchvision', 'sklearn', 'numpy', 'h5py'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == ""
    assert done.stdout


def test_a_network_that_only_the_library_knows_is_found(monkeypatch):
    from cnnfeat.networks import _known

    kept = dict(list(_known.known_networks().items())[:1])
    monkeypatch.setattr(_known, "known_networks", lambda: kept)
    (row,) = json.loads(run("models", "alexnet", "--json").stdout)["models"]
    assert row["n_parameters"] == 61_100_840


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
