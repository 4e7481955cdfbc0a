"""docs/reliability.md has every command, output and fault, and tests that exist."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from cnnfeat.cli.main import COMMANDS, cli

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "reliability.md").read_text()
SECTIONS = {
    name: body
    for title, body in re.findall(r"^## (.*?)$(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    for name in title.split(", ")
}
FAULTS = [
    *("killed", "signalled", "disk full", "two at once", "output equal to input"),
    *("input damaged", "input changed"),
]
PRINTERS = {"info", "layers", "models"}
# Options that name a file or a folder to write, beside -o, which the page names.
WRITES = {"confusion_path", "predictions_path", "mistakes_path", "per_class_path"}
WRITES |= {"report_dir", "log_path", "html_dir", "sheet_path", "plot_path"}
WRITES |= {"curves_path", "show_augment_path", "tensorboard_dir"}


def test_every_test_that_the_page_names_exists():
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    there = {
        name
        for path in (ROOT / "tests").glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(), re.M)
    }
    assert len(named) > 40
    assert sorted(named - there) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_faults(command):
    rows = re.findall(r"^\| ([^|]*) \| ([^|]*) \| ([^|]*) \|$", SECTIONS[command], re.M)
    (_, *faults) = [fault for fault, _, _ in rows if "---" not in fault]
    assert faults == FAULTS if command not in PRINTERS else set(faults) <= set(FAULTS)
    assert all("`test_" in tests for fault, _, tests in rows if fault in FAULTS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_output_is_named(command):
    outputs = re.search(r"^Outputs: (.*?)\n\n", SECTIONS[command], re.M | re.S)[1]
    for option in cli.get_command(click.Context(cli), command).params:
        if option.name in WRITES:
            assert f"`{option.opts[-1]}`" in outputs
        elif option.name == "output_path":
            assert f"`{option.metavar}`" in outputs


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="signals as on Linux")
def test_kills_and_signals_at_random_moments():
    """The 200 trials of each command are run by hand; here are a few."""
    script = [sys.executable, ROOT / "tests" / "kill_trials.py", "all"]
    done = subprocess.run(
        [*script, "--trials", "3", "--fresh", "0", "--seed", "1"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"3 trials, 0 failed", done.stdout)) == 6
