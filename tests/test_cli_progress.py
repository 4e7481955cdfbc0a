"""What fine-tuning shows: on a terminal a bar below the epochs' lines, else lines."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

from cnnfeat.cli.progress import progress_bar
from cnnfeat.cli.training_progress import training_progress
from cnnfeat.training import EpochRecord

SCRIPT = """
import time, warnings
from cnnfeat.cli.main import _warn
from cnnfeat.cli.training_progress import training_progress
from cnnfeat.training import EpochRecord

warnings.showwarning = lambda message, *_, **__: _warn(str(message))
with training_progress(12, quiet=False) as shown:
    shown.stage("loading PyTorch")
    time.sleep(0.3)
    warnings.warn("something is odd")
    for epoch in range(1, 4):
        shown.step(100 * epoch - 50, 1200, 0.5)
        time.sleep(0.2)
        shown.epoch(EpochRecord(epoch, 0.5, 0.4, 0.8125, 0.01, 1.0, 1234.5))
"""
ESCAPE = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]")


def in_terminal(columns):
    """Run the script in a terminal of that width; return all that it wrote."""
    main, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    environment.pop("COLUMNS", None)
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=child, stderr=child, env=environment
    )
    os.close(child)
    written = b""
    try:
        while data := os.read(main, 65536):
            written += data
    except OSError:  # Linux's end of a terminal
        pass
    os.close(main)
    assert process.wait() == 0
    return written.decode()


@pytest.mark.parametrize("columns", [80, 120])
def test_no_line_is_glued_to_the_bar(columns):
    written = ESCAPE.sub("", in_terminal(columns))
    assert "loading PyTorch" in written
    shown = written.replace("\r", "\n").splitlines()
    lines = [line for line in shown if "cnnfeat:" in line]
    assert lines == [
        "cnnfeat: warning: something is odd",
        *(
            f"cnnfeat: epoch {k:2} of 12: loss 0.5000, validation 81.2 %, "
            "1,234 images/s"
            for k in (1, 2, 3)
        ),
    ]
    bars = [line for line in shown if "epoch 2 of 12 " in line]
    assert any("loss 0.500, valid. 81.2 %" in line for line in bars)
    assert max(map(len, shown)) <= columns


def test_without_a_terminal_each_thing_is_a_line(capsys):
    with training_progress(3, quiet=False) as shown:
        shown.stage("listing the images")
        shown.step(1, 9, None)
        shown.epoch(EpochRecord(1, 0.5, None, None, 0.01, 1.0, 10.0))
    assert capsys.readouterr().err.splitlines() == [
        "cnnfeat: finetune: listing the images",
        "cnnfeat: epoch 1 of 3: loss 0.5000, 10 images/s",
    ]


def test_quiet_says_nothing(capsys):
    with training_progress(3, quiet=True) as shown:
        shown.stage("listing the images")
        shown.epoch(EpochRecord(1, 0.5, None, None, 0.01, 1.0, 10.0))
    assert capsys.readouterr().err == ""


def test_what_it_does_is_said_before_torch_is_read(colour_dir, tmp_path):
    code = (
        "import sys; sys.modules['torch'] = None; from cnnfeat.cli.main import cli; "
        "cli(sys.argv[1:])"
    )
    arguments = ("finetune", str(colour_dir), "-o", str(tmp_path / "w.pth"))
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True
    )
    assert done.stderr.splitlines()[0] == "cnnfeat: finetune: loading PyTorch"


def test_a_line_says_no_speed_before_there_is_one(capsys, monkeypatch):
    clock = iter([0.0, 40.0, 80.0])
    monkeypatch.setattr("cnnfeat.cli.progress.time.monotonic", lambda: next(clock))
    with progress_bar("splits", quiet=False) as progress:
        progress(0, 2, 0)
        progress(1, 2, 0)
    assert capsys.readouterr().err.splitlines() == [
        "cnnfeat: splits: 0 of 2, 0 failed",
        "cnnfeat: splits: 1 of 2, 0.0 a second, 40 s left, 0 failed",
    ]
