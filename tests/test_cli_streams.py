"""Standard streams that are closed or full: the work is done, or refused at once."""

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
from faults import run_with_closed
from made_commands import LINES

ROOT = Path(__file__).resolve().parent.parent
PRINTERS = {
    "info": ("info", "{features}"),
    "layers": ("layers", "--model", "squeezenet1_1"),
    "models": ("models", "squeezenet*"),
    "evaluate": ("evaluate", "{head}", "{features}"),
    "predict": ("predict", "{head}", "{images}", "--workers", "0"),
    "benchmark": ("benchmark", "{features}", "--train-per-class", "4", "--C", "1"),
}
STDIN, STDOUT, STDERR = range(3)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="as on Linux")


@pytest.fixture
def run(tmp_path):
    """Run the program in a child; return its status, what it printed and told."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["faults", "cnnfeat.extract._run", "torchvision", "timm", "click"]
    )

    def run_child(arguments, *closed):
        paths = tmp_path / "stdout", tmp_path / "stderr"
        child = context.Process(
            target=run_with_closed, args=([*map(str, arguments)], closed, *paths)
        )
        child.start()
        child.join(120)
        status = child.exitcode
        child.kill()
        return status, *(path.read_text() for path in paths)

    return run_child


@pytest.mark.parametrize("name", LINES)
def test_a_command_that_writes_does_its_work_without_streams(run, commands, name):
    status, printed, told = run(commands.arguments(name), STDIN, STDOUT, STDERR)
    assert (status, printed, told) == (0, "", "")
    assert commands.there() == {*LINES[name].outputs}


@pytest.mark.parametrize("name", ["extract", "predict", "train-svm"])
def test_without_stdout_what_is_lost_is_told(run, commands, name):
    status, printed, told = run(commands.arguments(name), STDOUT)
    assert (status, printed) == (0, "")
    lost = "cnnfeat: warning: stdout is closed: what would be printed is lost"
    assert told.splitlines()[-1] == lost
    assert commands.there() == {*LINES[name].outputs}


@pytest.mark.parametrize("name", PRINTERS)
def test_a_command_that_prints_is_refused_without_stdout(run, commands, name):
    arguments = [one.format(**commands.names) for one in PRINTERS[name]]
    status, _, told = run(arguments, STDOUT)
    assert status == 1
    assert told.startswith("cnnfeat: stdout is closed, and nothing would be left of")
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize("name", PRINTERS)
def test_a_command_that_prints_does_so_without_the_others(run, commands, name):
    arguments = [one.format(**commands.names) for one in PRINTERS[name]]
    status, printed, told = run(arguments, STDIN, STDERR)
    assert (status, told) == (0, "")
    assert printed


def test_a_closed_stdin_names_no_images(run, commands):
    status, printed, told = run(
        ["extract", "-", "-o", commands.out / "f.h5", "--workers", "0"], STDIN
    )
    assert (status, printed) == (1, "")
    assert told.startswith("cnnfeat: standard input: names no images")
    assert commands.there() == set()


def test_an_error_without_stderr_is_told_by_the_status(run, tmp_path):
    assert run(["info", tmp_path / "gone.h5"], STDERR) == (1, "", "")
    assert run(["info"], STDERR) == (2, "", "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_shell_closes_streams(colour_features, tmp_path, closed):
    output = tmp_path / "s.csv"
    line = f'exec "$@" {closed}'
    program = [sys.executable, "-m", "cnnfeat", "splits", colour_features, "-o", output]
    done = subprocess.run(
        ["sh", "-c", line, "sh", *program, "--train-per-class", "4", "--json"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    assert output.read_text().startswith("path,split")
    if ">&- " not in f"{closed} ".replace("2>&- ", ""):
        assert json.loads(done.stdout)["n_splits"] == 5


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has none")
def test_a_full_disk_behind_stderr_does_not_end_the_work():
    code = (
        "import sys, warnings; from cnnfeat.cli import main as module\n"
        "from cnnfeat.errors import CnnfeatWarning\n"
        "from cnnfeat import describe\n"
        "def told(pattern):\n"
        "    for _ in range(10000): warnings.warn('told', CnnfeatWarning)\n"
        "    return []\n"
        "describe.describe_models = told\n"
        "sys.argv = ['cnnfeat', 'models', '--json']\n"
        "module.main()\n"
    )
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=full, text=True
        )
    assert (done.returncode, done.stdout) == (0, '{"models": []}\n')
