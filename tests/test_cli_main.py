"""The command group: quick help, one-line errors, exit statuses."""

import ast
import inspect
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from cnnfeat.cli.main import COMMANDS, cli
from cnnfeat.cli.options.parsing import (
    parse_C,
    parse_count_or_auto,
    parse_device,
)
from cnnfeat.errors import CnnfeatError

HEAVY = (
    "torch",
    "torchvision",
    "timm",
    "sklearn",
    "h5py",
    "matplotlib",
    "numpy",
    "PIL",
)


def _modules_after(arguments: list[str]) -> set[str]:
    """Return the heavy modules loaded once the command line has answered."""
    code = (
        "import sys\n"
        "from cnnfeat.cli.main import run\n"
        f"sys.argv = ['cnnfeat', *{arguments!r}]\n"
        "try:\n    run()\n"
        "except SystemExit:\n    pass\n"
        f"sys.stderr.write('|' + ' '.join(m for m in {HEAVY!r} if m in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(done.stderr.rsplit("|", 1)[1].split())


@pytest.mark.parametrize(
    "arguments",
    [
        *([[], ["--help"], ["--version"], ["evaluate", "--rows", "some", "a", "b"]]),
        *([*name.split(), "--no-such-option"] for name in COMMANDS),
    ],
    ids=" ".join,
)
def test_help_and_usage_errors_import_nothing_heavy(arguments):
    assert _modules_after(arguments) == set()


@pytest.mark.parametrize(
    "arguments",
    [
        "extract missing -o missing.h5",
        "predict missing.h5 missing",
        "evaluate missing.h5 missing.h5",
        "train-svm missing.h5 -o h.h5",
        "train-softmax missing.h5 -o h.h5",
        "benchmark missing.h5",
        "splits missing.h5 -o s.csv",
        "info missing.h5",
    ],
)
def test_what_is_missing_is_told_before_torch_is_imported(arguments):
    heavy = {"torch", "torchvision", "timm", "sklearn"}
    assert not heavy & _modules_after(arguments.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_a_transcript(name):
    result = CliRunner().invoke(cli, [*name.split(), "--help"])
    assert result.exit_code == 0
    assert f"$ cnnfeat {name}" in result.stdout
    assert "--help" in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_body_of_a_command_is_short(name):
    """It parses, makes one library call and prints."""
    callback = cli.get_command(click.Context(cli), name).callback
    (function,) = ast.parse(inspect.getsource(callback)).body
    assert ast.get_docstring(function)
    body = function.body[1:]
    assert body[-1].end_lineno - body[0].lineno < 15


def test_help_lists_every_command():
    result = CliRunner().invoke(cli, ["--help"])
    for name, (_, summary) in COMMANDS.items():
        assert name in result.stdout
        assert summary in " ".join(result.stdout.split())


def test_an_unknown_command_offers_the_nearest():
    result = CliRunner().invoke(cli, ["trainsvm"])
    assert result.exit_code == 2
    assert "did you mean 'train-svm'?" in result.stderr


def test_a_named_error_is_one_line_on_stderr_and_exit_1(monkeypatch):
    def fail(*_, **__):
        raise CnnfeatError("file.h5: expected\nthis, found that")

    monkeypatch.setattr("cnnfeat.store.file_summary", fail)
    result = CliRunner().invoke(cli, ["info", "file.h5"])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "cnnfeat: file.h5: expected this, found that\n"


def test_python_dash_m_is_the_same_program():
    done = subprocess.run(
        [sys.executable, "-m", "cnnfeat", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("cnnfeat, version ")


def test_C_is_sorted_and_without_repeats():
    assert parse_C(None, None, "10,0.1,1,1") == (0.1, 1.0, 10.0)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1,,2", "one"])
def test_a_C_that_is_not_positive_and_finite_is_refused(text):
    with pytest.raises(click.BadParameter):
        parse_C(None, None, text)


@pytest.mark.parametrize("text", ["gpu", "cuda:", "cuda:-1", "cpu:0", ""])
def test_a_device_of_another_form_is_refused(text):
    with pytest.raises(click.BadParameter, match="cuda:N"):
        parse_device(None, None, text)


@pytest.mark.parametrize(("text", "count"), [("auto", None), ("1", 1), ("64", 64)])
def test_a_count_or_auto(text, count):
    assert parse_count_or_auto(None, None, text) == count


@pytest.mark.parametrize("text", ["0", "-3", "1.5", "many"])
def test_a_count_that_is_none_is_refused(text):
    with pytest.raises(click.BadParameter):
        parse_count_or_auto(None, None, text)
