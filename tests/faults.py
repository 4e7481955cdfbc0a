"""What the fault tests run in child processes: the real command, made to go wrong."""

import contextlib
import os
import signal
import sys
import time
import warnings

import psutil
import pytest

from cnnfeat.interrupts import SIGNALS


def extract_in_child(arguments, log_path, *, sleeps=0.0, stalls_at=None, dies_at=None):
    """Run `cnnfeat extract` with a commit after every batch, and exit as it does.

    sleeps: seconds added to each batch; stalls_at: the batch that takes a minute;
    dies_at: the number of the fsync during which the process kills itself.
    """
    for number in SIGNALS:  # whoever started the tests may have had them ignored
        signal.signal(number, signal.SIG_DFL)
    os.dup2(os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    sys.argv = ["cnnfeat", "extract", *arguments]
    import torch

    from cnnfeat.cli.main import main
    from cnnfeat.extraction import _run as pipeline
    from cnnfeat.extraction._engines import EagerEngine

    torch.set_num_threads(1)
    pipeline.SECONDS_BETWEEN_COMMITS = -1.0
    pipeline._QUEUED_ROWS = 4  # work is left for workers
    start, fsync, counts = EagerEngine.start, os.fsync, {"batch": 0, "fsync": 0}

    def slow_start(self, images):
        counts["batch"] += 1
        time.sleep(60 if counts["batch"] == stalls_at else sleeps)
        return start(self, images)

    def fatal_fsync(descriptor):
        counts["fsync"] += 1
        if counts["fsync"] == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(descriptor)

    EagerEngine.start, os.fsync = slow_start, fatal_fsync
    with warnings.catch_warnings():
        main()


def run_with_closed(arguments, closed, out_path, err_path):
    """Run the program as a shell starts it with some of its streams closed.

    closed: numbers from 0 to 2; what is printed and told goes to the two paths.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    for number, path in enumerate((os.devnull, out_path, err_path)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if number in closed:
            os.close(number)
            setattr(sys, name, None)  # as Python itself has it
        else:
            mode = "w" if number else "r"
            setattr(sys, name, os.fdopen(number, mode, buffering=1, closefd=False))
    sys.argv = ["cnnfeat", *arguments]
    from made_commands import patch

    from cnnfeat.__main__ import main

    with pytest.MonkeyPatch.context() as monkeypatch, warnings.catch_warnings():
        patch(monkeypatch)
        main()


def worker_pids(pid):
    """Return the decoding processes that process `pid` has started."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                if any("cnnfeat.images" in part for part in child.cmdline()):
                    found.append(child.pid)
    return found


def wait_until(is_true, seconds=60.0):
    """Wait until the condition holds; AssertionError if it never does."""
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
