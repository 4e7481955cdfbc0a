"""Nothing committed is lost: kills, interrupts, dead workers, full disks, two writers.

Every run is the real command in a child process, on generated images. A resumed file
must equal that of an uninterrupted run to the bit.
"""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from conftest import write_image
from faults import extract_in_child, wait_until, worker_pids

from cnnfeat.store._journal import read_journal

N_IMAGES = 42  # not a multiple of the batch size
NETWORK = (
    *("--model", "squeezenet1_1", "--weights", "random", "--device", "cpu"),
    *("--layer", "features.1", "--layer", "features.0", "--pool", "avg"),
    *("--engine", "eager", "--batch-size", "4", "--workers", "0"),
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals as on Linux")


@pytest.fixture(scope="module")
def start_child():
    """Start the command in a child of a server that has torch imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["faults", "cnnfeat.extract._run", "torchvision", "timm", "click"]
    )
    children = []

    def start(log_path, *arguments, **faults):
        child = context.Process(
            target=extract_in_child,
            args=([str(a) for a in arguments], str(log_path)),
            kwargs=faults,
        )
        child.start()
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.join()
        child.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Small images, one of them damaged."""
    root = tmp_path_factory.mktemp("faults") / "images" / "only"
    root.mkdir(parents=True)
    for k in range(N_IMAGES):
        write_image(root / f"{k:02}.png", seed=k)
    (root / "17.png").write_bytes(b"not an image")
    return root.parent


@pytest.fixture(scope="module")
def whole(folder, start_child):
    """An uninterrupted run: (its file, its seconds)."""
    path = folder.parent / "whole.h5"
    started = time.monotonic()
    child = start_child(folder.parent / "log", folder, "-o", path, *NETWORK)
    assert ended(child) == 0, (folder.parent / "log").read_text()
    return path, time.monotonic() - started


@pytest.fixture
def run(folder, start_child, tmp_path):
    """Start the command on the folder; its output and log lie in `tmp_path`."""

    def start(*arguments, output=tmp_path / "f.h5", **faults):
        return start_child(
            tmp_path / "log", folder, "-o", output, *NETWORK, *arguments, **faults
        )

    return start


def ended(child, seconds=60):
    child.join(seconds)
    assert child.exitcode is not None, "the command hangs"
    return child.exitcode


def rows_done(output):
    state = read_journal(output.with_name(output.name + ".part.journal"))
    return state.rows_done if state else 0


def contents(path):
    """Every dataset of a feature file, as bytes."""
    found = {}
    with h5py.File(path) as file:
        assert bool(file.attrs["complete"])
        file.visititems(
            lambda name, item: (
                found.update({name: np.asarray(item).tobytes()})
                if isinstance(item, h5py.Dataset) and item.dtype.kind != "O"
                else None
            )
        )
        found["paths"] = file["images/path"].asstr()[:].tolist()
    return found


def check_resumed(run, whole, output):
    """Resume, and compare with the uninterrupted run."""
    done = rows_done(output)
    assert done == N_IMAGES or done % 4 == 0
    if not output.exists():
        assert ended(run("--resume", output=output)) == 0
    assert contents(output) == contents(whole)
    assert sorted(p.name for p in output.parent.glob("f.h5*")) == ["f.h5"]
    return done


def kill_at_random_moments(run, whole, tmp_path, n_kills, seed):
    # Slowed down, so that most moments fall between the first row and the last.
    path, slow = whole[0], {"sleeps": 0.2}
    started = time.monotonic()
    assert ended(run(output=tmp_path / "timed.h5", **slow)) == 0
    seconds = time.monotonic() - started
    rng = np.random.default_rng(seed)
    done = []
    for k, moment in enumerate(rng.uniform(0.1, seconds, n_kills)):
        output = tmp_path / f"{k}" / "f.h5"
        output.parent.mkdir()
        child = run(output=output, **slow)
        time.sleep(moment)
        child.kill()
        child.join()
        done.append(check_resumed(run, path, output))
    return done


def test_a_run_killed_at_random_moments_resumes_to_the_same_file(run, whole, tmp_path):
    kill_at_random_moments(run, whole, tmp_path, n_kills=2, seed=0)


@pytest.mark.slow
def test_25_kills_at_random_moments(run, whole, tmp_path):
    done = kill_at_random_moments(run, whole, tmp_path, n_kills=25, seed=1)
    assert any(0 < rows < N_IMAGES for rows in done)


@pytest.mark.parametrize("call", [1, 5, 12])
def test_a_run_killed_inside_the_writer_resumes_to_the_same_file(
    run, whole, tmp_path, call
):
    child = run(dies_at=call)
    assert ended(child) == -signal.SIGKILL
    assert not (tmp_path / "f.h5").exists()
    done = check_resumed(run, whole[0], tmp_path / "f.h5")
    assert done > 0 or call < 12


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_keeps_the_rows_and_says_how_to_go_on(run, whole, tmp_path, number):
    output = tmp_path / "f.h5"
    child = run(sleeps=0.05)
    wait_until(lambda: rows_done(output) >= 8)
    os.kill(child.pid, number)
    assert ended(child) == 128 + number
    log = (tmp_path / "log").read_text().splitlines()
    assert len(log) == 1
    assert f"{rows_done(output)} of {N_IMAGES} rows are kept" in log[0]
    assert "--resume" in log[0]
    assert check_resumed(run, whole[0], output) >= 8


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_all_processes_ends_as_one_to_the_parent(
    run, whole, tmp_path, number
):
    output = tmp_path / "f.h5"
    child = run("--workers", "2", sleeps=0.05)
    wait_until(lambda: rows_done(output) >= 8)
    for pid in (*worker_pids(child.pid), child.pid):
        os.kill(pid, number)
    assert ended(child) == 128 + number
    log = (tmp_path / "log").read_text().splitlines()
    assert len(log) == 1
    assert f"{rows_done(output)} of {N_IMAGES} rows are kept" in log[0]
    assert check_resumed(run, whole[0], output) >= 8


def test_two_signals_leave_at_once(run, whole, tmp_path):
    output = tmp_path / "f.h5"
    child = run(stalls_at=5)
    wait_until(lambda: rows_done(output) == 16)
    os.kill(child.pid, signal.SIGINT)
    time.sleep(0.1)
    assert child.is_alive()
    for _ in range(20):  # two that wait at once for a busy process count as one
        if child.is_alive():
            os.kill(child.pid, signal.SIGINT)
            child.join(0.5)
    assert ended(child, seconds=10) == 130
    assert check_resumed(run, whole[0], output) == 16


def test_a_killed_worker_changes_nothing(run, whole, tmp_path):
    child = run("--workers", "1", sleeps=0.05)
    wait_until(lambda: rows_done(tmp_path / "f.h5") >= 4)
    worker = worker_pids(child.pid)[0]
    os.kill(worker, signal.SIGKILL)
    assert ended(child) == 0
    assert contents(tmp_path / "f.h5") == contents(whole[0])


def test_a_second_writer_is_told(run, tmp_path):
    first = run(sleeps=0.2)
    wait_until(lambda: rows_done(tmp_path / "f.h5") >= 4)
    assert ended(run("--resume")) == 1
    assert "another process is writing f.h5" in (tmp_path / "log").read_text()
    assert first.is_alive()
    first.kill()


def test_another_job_cannot_go_on(run, whole, tmp_path):
    child = run(stalls_at=3)
    wait_until(lambda: rows_done(tmp_path / "f.h5") == 8)
    child.kill()
    child.join()
    for changes, field in (
        (["--batch-size", "8"], "rows per batch"),
        (["--crops", "ten"], "crops"),
        (["--weights-seed", "1"], "weights_sha256"),
        (["--layer", "features.2"], "layers"),
        (["--decoder", "fast"], "decoder"),
    ):
        (tmp_path / "log").unlink()
        assert ended(run("--resume", *changes)) == 1
        log = (tmp_path / "log").read_text()
        assert f"cannot be resumed: {field} was" in log
        assert rows_done(tmp_path / "f.h5") == 8
    assert check_resumed(run, whole[0], tmp_path / "f.h5") == 8


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one MiB and a half, where the test may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1536k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount command")
    if mounted.returncode:
        pytest.skip("mounting a small file system is not permitted")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=False)


def test_a_disk_that_fills_up_keeps_the_rows(run, whole, tmp_path, small_disk):
    output = small_disk / "f.h5"
    child = run(output=output, sleeps=0.1)
    wait_until(lambda: rows_done(output) >= 8)
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(b"x" * 512):
            pass
    code = ended(child)
    log = (tmp_path / "log").read_text()
    if code == 0:
        pytest.skip("everything was on the disk before it was full")
    assert code == 1
    assert "No space left" in log
    assert "rows are kept for --resume" in log
    filler.unlink()
    assert check_resumed(run, whole[0], output) >= 8
