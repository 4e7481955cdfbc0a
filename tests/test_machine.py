"""Cores under quotas, and threads that wait without spinning."""

import os
import subprocess
import sys

import pytest

from cnnfeat.machine import usable_cores


@pytest.fixture
def cgroups(tmp_path, monkeypatch):
    """Eight cores and made-up cgroups: write the process's own, then quotas."""
    monkeypatch.setattr(
        os, "sched_getaffinity", lambda pid: set(range(8)), raising=False
    )
    monkeypatch.setattr("cnnfeat.machine._CGROUPS", tmp_path / "fs")
    monkeypatch.setattr("cnnfeat.machine._OWN_CGROUPS", tmp_path / "own")

    def make(own, files):
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            path = tmp_path / "fs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return make


V1 = "9:name=systemd:/\n4:memory:/x\n1:{}:{}\n0::/\n"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {}, 8),
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "2000000 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "1000 100000\n"}, 1),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "2000 1000"}, 2),
        ("0::/a/b\n", {"a/b/cpu.max": "1000 1000\n", "a/cpu.max": "2000 1000"}, 1),
        ("0::/of/the/host\n", {"cpu.max": "4000 1000"}, 4),
        ("nonsense\n", {"cpu.max": "4000"}, 8),
        (
            V1.format("cpu", "/"),
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
            8,
        ),
        (
            V1.format("cpu,cpuacct", "/docker/1"),
            {
                "cpu,cpuacct/cpu.cfs_quota_us": "150000\n",
                "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            2,
        ),
        (V1.format("cpuset", "/"), {"cpuset/cpu.max": "1000 1000"}, 8),
    ],
)
def test_cores_are_those_that_the_quotas_allow(cgroups, own, files, expected):
    cgroups(own, files)
    assert usable_cores() == expected


def test_without_cgroups_the_scheduler_decides(cgroups):
    assert usable_cores() == 8


def in_child(code, **environment):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP", "TORCH"))}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=True,
    )


def test_openmp_waits_passively_once_torch_is_there():
    # What OpenMP says of itself when it is loaded: the setting came in time.
    code = "import cnnfeat.networks as n; n.load_network"
    told = in_child(code, OMP_DISPLAY_ENV="true").stderr
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in told


def test_so_does_a_decoding_worker():
    code = "import cnnfeat.images._worker, os; print(os.environ['OMP_WAIT_POLICY'])"
    assert in_child(code).stdout == "PASSIVE\n"


def test_what_the_user_sets_stays():
    code = "import cnnfeat, os; print(os.environ['OMP_WAIT_POLICY'])"
    assert in_child(code, OMP_WAIT_POLICY="ACTIVE").stdout == "ACTIVE\n"


def test_threads_are_counted_under_the_quota():
    code = """
import os
import cnnfeat.machine as machine
machine.usable_cores, machine._scheduled_cores = lambda: 1, lambda: 8
machine.quiet_threads()
import torch
print(torch.get_num_threads(), os.environ["TORCHINDUCTOR_COMPILE_THREADS"])
"""
    assert in_child(code).stdout == "1 1\n"


def test_without_a_quota_nothing_is_said_of_threads(monkeypatch):
    code = """
import os
import cnnfeat.machine as machine
machine.usable_cores = machine._scheduled_cores = lambda: 8
os.environ.pop("OMP_NUM_THREADS", None)
machine.quiet_threads()
print("OMP_NUM_THREADS" in os.environ)
"""
    assert in_child(code).stdout == "False\n"
