"""A signal ends every command alike: its status, one line, nothing half-written."""

import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from faults import wait_until
from made_features import write_features

ROOT = Path(__file__).resolve().parent.parent
INTERRUPTED = "cnnfeat: interrupted"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals as on Linux")

# Runs in the child: a function that marks the moment of its first call, and lasts.
STALL = """
import os, pathlib, signal, time
def mark():
    pathlib.Path(os.environ["MARK"]).touch()
def stall(owner, name):
    def stalled(*_, **__):
        mark()
        time.sleep(60)
    setattr(owner, name, stalled)
"""
# The temporary file of an output is whole by then, and has not got its name.
AT_OUTPUT = "from cnnfeat import outputs\nstall(outputs, 'fsync_path')"
MAIN = "from cnnfeat.__main__ import main\nmain()"
# What a command does when the signal comes is up to each test.
BODY = """
from cnnfeat.cli import main as module
def run():
    {}
module.run = run
"""
# Whoever started the tests may have had signals ignored.
TAKE_ALL = "for n in (1, 2, 15): signal.signal(n, signal.SIG_DFL)"
IGNORE_SIGHUP = (
    "import os, signal, sys\n"
    "signal.signal(signal.SIGTERM, signal.SIG_DFL)\n"
    "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    "os.execv(sys.argv[1], sys.argv[1:])"
)


@pytest.fixture
def start(tmp_path):
    """Start the program after some Python and wait for its mark; kill it at last."""
    children = []
    mark = tmp_path / "mark"

    def start_child(code, *arguments, wrapper=()):
        program = "\n".join((STALL, "" if wrapper else TAKE_ALL, code, MAIN))
        child = subprocess.Popen(
            [*wrapper, sys.executable, "-c", program, *map(str, arguments)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "MARK": str(mark)},
        )
        children.append(child)
        wait_until(lambda: mark.exists() or child.poll() is not None)
        assert child.poll() is None, child.stderr.read()
        return child

    yield start_child
    for child in children:
        child.kill()
        child.communicate()


def check_interrupted(child, number):
    told = child.communicate(timeout=60)[1]
    assert child.returncode == 128 + number, told
    lines = told.splitlines()
    assert lines.pop() == INTERRUPTED
    assert all(line.startswith("cnnfeat: warning: ") for line in lines), told


@pytest.fixture
def folder(tmp_path):
    """The folder of the outputs; empty."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


DRAW = ("--train-per-class", 4)
COMMANDS = {
    "train-svm": ("{features}", "-o", "{out}/h.h5", "--C", 1),
    "train-softmax": ("{features}", "-o", "{out}/h.h5", "--C", 1),
    "evaluate": ("{head}", "{features}", "--predictions", "{out}/p.csv"),
    "splits": ("{features}", "-o", "{out}/s.csv", *DRAW),
    "benchmark": ("{features}", "--report", "{out}", *DRAW, "--C", 1, "--quiet"),
    "export": ("{features}", "-o", "{out}/x.npz"),
    "predict": ("{head}", "{images}", "-o", "{out}/p.csv", "--workers", 0, "--quiet"),
}


@pytest.mark.parametrize(
    ("command", "number"),
    [
        ("train-svm", signal.SIGINT),
        ("train-svm", signal.SIGHUP),
        ("train-softmax", signal.SIGTERM),
        ("evaluate", signal.SIGINT),
        ("splits", signal.SIGHUP),
        ("benchmark", signal.SIGTERM),
        ("export", signal.SIGINT),
        ("predict", signal.SIGTERM),
    ],
)
def test_a_signal_while_an_output_is_written_leaves_nothing(
    start, folder, colour_features, colour_dir, colour_head, command, number
):
    names = {"features": colour_features, "images": colour_dir, "head": colour_head}
    arguments = [str(one).format(out=folder, **names) for one in COMMANDS[command]]
    child = start(AT_OUTPUT, command, *arguments)
    begun = [name for name in os.listdir(folder) if not name.endswith(".lock")]
    assert len(begun) == 1
    child.send_signal(number)
    check_interrupted(child, number)
    assert os.listdir(folder) == []


RECIPE = """
import dataclasses
from cnnfeat import datasets, download
one = datasets.FileRecipe("x.tar", "http://127.0.0.1:9/x.tar", unpacks_to="x")
recipe = dataclasses.replace(datasets.load_recipe("caltech101"), files=(one,))
download.load_recipe = lambda name: recipe
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_an_archive_is_unpacked_leaves_the_archive(
    start, folder, number
):
    with tarfile.open(folder / "x.tar", "w") as tar:
        tar.add(__file__, "x/image.jpg")
    unpacking = "import tarfile\nstall(tarfile.TarFile, 'extractfile')"
    child = start(RECIPE + unpacking, "download", "caltech101", folder, "--quiet")
    assert len(os.listdir(folder)) == 3  # the archive, a lock, what is unpacked
    child.send_signal(number)
    check_interrupted(child, number)
    assert os.listdir(folder) == ["x.tar"]


def test_a_signal_while_the_server_is_silent(start, folder):
    waiting = "import urllib.request\nstall(urllib.request, 'urlopen')"
    child = start(RECIPE + waiting, "download", "caltech101", folder)
    child.send_signal(signal.SIGTERM)
    check_interrupted(child, signal.SIGTERM)
    assert os.listdir(folder) == []


def test_a_signal_that_an_import_turns_into_another_error(start, tmp_path):
    """As extension modules do: what interrupts their own imports is an ImportError."""
    code = """
from cnnfeat import store
def fail(path):
    try:
        mark()
        time.sleep(60)
    except BaseException:
        raise ImportError("numpy.core.multiarray failed to import") from None
store.file_summary = fail
"""
    child = start(code, "info", write_features(tmp_path / "f.h5"))
    child.send_signal(signal.SIGTERM)
    check_interrupted(child, signal.SIGTERM)


@pytest.mark.parametrize(
    "body",
    [
        "try:\n        mark()\n        time.sleep(60)\n"
        "    except BaseException:\n        pass\n    time.sleep(60)",
        "class A:\n        def __del__(self):\n            mark()\n"
        "            time.sleep(60)\n    A()\n    time.sleep(60)",
    ],
    ids=["except", "del"],
)
def test_a_signal_that_is_swallowed_is_raised_again(start, body):
    child = start(BODY.format(body))
    child.send_signal(signal.SIGTERM)
    check_interrupted(child, signal.SIGTERM)


# The mark comes from a thread: before the call, Python would take the signal at once.
BUSY = (
    "import hashlib, threading\n    threading.Timer(1, mark).start()\n"
    "    hashlib.pbkdf2_hmac('sha256', b'', b'', 1 << 30)"
)
CLEANING = "try:\n        mark()\n        time.sleep(600)\n    finally:\n"
CLEANING += "        time.sleep(600)"


@pytest.mark.parametrize("body", [BUSY, CLEANING], ids=["in C", "cleaning up"])
def test_a_second_signal_ends_it_where_the_first_does_not(start, body):
    child = start(BODY.format(body))
    child.send_signal(signal.SIGINT)
    time.sleep(0.7)  # sooner, it would be the same wish
    assert child.poll() is None
    child.send_signal(signal.SIGTERM)
    check_interrupted(child, signal.SIGTERM)


def test_a_signal_that_is_sent_twice_is_one(start, tmp_path):
    """As timeout(1) and a closing terminal send it: there is time to clean up."""
    child = start(
        BODY.format(
            "try:\n        mark()\n        time.sleep(600)\n    finally:\n"
            "        time.sleep(2)\n        os.unlink(os.environ['MARK'])"
        )
    )
    for _ in range(2):
        child.send_signal(signal.SIGHUP)
        time.sleep(0.05)
    check_interrupted(child, signal.SIGHUP)
    assert not (tmp_path / "mark").exists()


def test_a_closing_terminal_is_ignored_under_nohup(start):
    wrapper = (sys.executable, "-c", IGNORE_SIGHUP)
    child = start(BODY.format("mark()\n    time.sleep(600)"), wrapper=wrapper)
    child.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert child.poll() is None
    child.send_signal(signal.SIGTERM)
    check_interrupted(child, signal.SIGTERM)


def test_a_fork_that_is_terminated_ends_itself_and_no_more():
    """Libraries fork and terminate; twice, later, would be a second wish to stop."""
    body = (
        "import os, signal, time\n"
        "    from cnnfeat.interrupts import SECONDS_OF_ONE_WISH\n"
        "    for _ in range(2):\n"
        "        pid = os.fork()\n"
        "        if not pid: time.sleep(60)\n"
        "        time.sleep(0.1)\n"
        "        os.kill(pid, signal.SIGTERM)\n"
        "        assert os.waitpid(pid, 0)[1] == signal.SIGTERM\n"
        "        time.sleep(SECONDS_OF_ONE_WISH + 0.1)\n"
        "    time.sleep(1.5)"
    )
    program = ("import signal", TAKE_ALL, BODY.format(body), MAIN)
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(program)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert (done.returncode, done.stderr) == (0, "")
