"""Which of several processes speaks: a failure under torchrun is told once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch.distributed import TCPStore

from cnnfeat.cli import processes

ROOT = Path(__file__).resolve().parent.parent


def run_main(code="", *arguments, **how):
    """Run the program in a process of its own, after some lines of Python."""
    program = f"{code}\nfrom cnnfeat.cli.main import main\nmain()\n"
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(
        command, check=False, text=True, stderr=subprocess.PIPE, **how
    )


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["--version"], 0, ""),
        (["info", "no-such-file.h5"], 1, "no-such-file.h5"),
        (["extract"], 2, "Missing argument"),
    ],
)
def test_the_end_runs_what_is_registered_and_keeps_the_status(arguments, status, told):
    code = "import atexit\natexit.register(print, 'registered')"
    done = run_main(code, *arguments, stdout=subprocess.PIPE)
    assert done.returncode == status
    assert done.stdout.splitlines()[-1] == "registered"
    assert told in done.stderr and "Traceback" not in done.stderr


def test_a_mistake_in_the_program_is_not_hidden():
    code = "from cnnfeat.cli import main as m\nm.run = lambda: 1 / 0"
    done = run_main(code, "--version", stdout=subprocess.PIPE)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has none")
def test_a_full_disk_behind_stdout_is_one_line():
    with open("/dev/full", "w") as full:
        done = run_main("", "models", stdout=full)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "No space left" in done.stderr


def become(monkeypatch, rank, **environment):
    values = {"WORLD_SIZE": 2, "RANK": rank, "TORCHELASTIC_USE_AGENT_STORE": "False"}
    for name, value in {**values, **environment}.items():
        monkeypatch.setenv(name, str(value))


def test_a_process_alone_speaks(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert processes.is_first() and processes.is_first_to_fail()
    become(monkeypatch, 1, WORLD_SIZE=1)
    assert processes.is_first() and processes.is_first_to_fail()


@pytest.mark.parametrize(("rank", "speaks"), [(0, True), (1, False)])
def test_without_torchruns_store_the_first_speaks(monkeypatch, rank, speaks):
    become(monkeypatch, rank)
    assert processes.is_first() is speaks
    assert processes.is_first_to_fail() is speaks


def test_with_torchruns_store_whoever_fails_first_speaks(monkeypatch):
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    where = {"MASTER_ADDR": "localhost", "MASTER_PORT": store.port}
    told = []
    for rank in (1, 0, 1):
        become(monkeypatch, rank, TORCHELASTIC_USE_AGENT_STORE="True", **where)
        told.append(processes.is_first_to_fail())
    assert told == [True, False, False]


def test_one_line_when_one_of_two_fails_in_mid_run(colour_dir, tmp_path, small_files):
    """The first cannot write a checkpoint; the other waits for it in a collective."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", "2", "-m", "cnnfeat"),
        *("finetune", str(colour_dir), "-o", str(tmp_path / "w.pth"), "--resume"),
        *("--model", "squeezenet1_1", "--weights", "random", "--batch-size", "4"),
        *("--device", "cpu", "--workers", "0", "--quiet"),
    ]
    with small_files:  # a limit that child processes inherit
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=240,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        )
    assert done.returncode != 0
    ours = [line for line in done.stderr.splitlines() if line.startswith("cnnfeat: ")]
    assert len(ours) == 1 and ": cannot be written: " in ours[0]
    assert "RuntimeError" not in done.stderr
    assert not (tmp_path / "w.pth").exists()
