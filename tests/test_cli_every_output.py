"""Every output of every command: a full disk, another writer, what a kill has left."""

import errno
import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import files_up_to
from made_commands import LINES, OF_ROWS

from cnnfeat import outputs
from cnnfeat.cli.main import cli
from cnnfeat.outputs import locked_output

pytestmark = pytest.mark.filterwarnings("ignore::cnnfeat.errors.CnnfeatWarning")

# Their writers have tests of their own: test_store_crash.py, test_download.py.
ATOMIC = [name for name in LINES if name not in (*OF_ROWS, "download")]


def one_error(result):
    """Return the line that told of the failure, the only one but for warnings."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    told = [one for one in lines if not one.startswith("cnnfeat: warning: ")]
    assert len(told) == 1, result.stderr
    return told[0]


@pytest.mark.parametrize(
    ("name", "output"),
    [
        *((name, one) for name in ATOMIC for one in LINES[name].outputs),
        ("finetune", "w.safetensors.part"),  # a checkpoint
    ],
)
def test_a_full_disk_at_any_output_is_one_line(commands, monkeypatch, name, output):
    fsync_path = outputs.fsync_path

    def full(path):
        if re.fullmatch(rf"\.{re.escape(output)}\.[0-9a-f]{{16}}", Path(path).name):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync_path(path)

    monkeypatch.setattr(outputs, "fsync_path", full)
    told = one_error(commands.run(name))
    path = commands.out / output
    assert told == f"cnnfeat: {path}: cannot be written: No space left on device"
    assert not path.exists()
    assert commands.there() <= {*LINES[name].outputs, *LINES[name].kept}


@pytest.mark.parametrize("name", LINES)
def test_where_nothing_can_be_written_nothing_is_left(commands, name):
    arguments = commands.arguments(name)
    with files_up_to(40):
        result = CliRunner().invoke(cli, arguments)
    assert re.search("File too large|No space left", one_error(result))
    assert commands.there() == set()


@pytest.mark.parametrize(
    ("name", "output"),
    [
        (name, one)
        for name in LINES
        if name not in OF_ROWS
        for one in LINES[name].locked
    ],
)
def test_one_process_at_a_time_writes_an_output(commands, name, output):
    with locked_output(commands.out / output):
        told = one_error(commands.run(name))
        assert f"another process is writing {output} in this folder" in told
        assert commands.there() == {f"{output}.lock"}
    assert commands.run(name).exit_code == 0


@pytest.mark.parametrize("name", LINES)
def test_what_a_killed_run_has_left_is_swept_by_the_next(commands, name):
    line = LINES[name]
    for left in line.left:
        (commands.out / left).write_text("half")
    if name == "download":  # it unpacks into a folder
        (commands.out / line.left[0]).unlink()
        (commands.out / line.left[0] / "content").mkdir(parents=True)
    result = commands.run(name)
    assert result.exit_code == 0, result.output
    assert commands.there() == {*line.outputs}


def test_what_only_looks_like_a_leftover_stays(tmp_path):
    names = (".x.csv.bak", ".x.csv.0123456789abcdeg", ".y.csv.0123456789abcdef")
    for name in names:
        (tmp_path / name).write_text("mine")
    with outputs.claimed_outputs([tmp_path / "x.csv"], []):
        pass
    assert sorted(os.listdir(tmp_path)) == sorted(names)
