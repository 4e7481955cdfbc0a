"""Which of several processes speaks: a failure under torchrun is told once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch.distributed import TCPStore

from cnnfeat.cli import processes

ROOT = Path(__file__).resolve().parent.parent


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


def test_one_line_when_one_of_two_fails_in_mid_run(colour_dir, tmp_path):
    """The first cannot write its log; the other one waits for it in a collective."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [
            *(*launcher, "--nproc-per-node", "2", "-m", "cnnfeat"),
            *("finetune", str(colour_dir), "-o", str(tmp_path / "w.pth"), "--resume"),
            *("--log-file", str(tmp_path / "missing" / "log.jsonl")),
            *("--model", "squeezenet1_1", "--weights", "random", "--batch-size", "4"),
            *("--device", "cpu", "--workers", "0", "--quiet"),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode != 0
    ours = [line for line in done.stderr.splitlines() if line.startswith("cnnfeat: ")]
    assert len(ours) == 1 and "log.jsonl: cannot be written" in ours[0]
    assert "RuntimeError" not in done.stderr
    assert not (tmp_path / "w.pth").exists()
