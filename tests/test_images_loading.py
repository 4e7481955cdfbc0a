"""`load_batches`: the same batches however they are made, and nothing ever hangs."""

import hashlib
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import psutil
import pytest
from faults import wait_until, worker_pids
from PIL import Image

from cnnfeat.errors import CnnfeatError, DataError
from cnnfeat.images import (
    DecodeLimits,
    Preprocessing,
    _loading as loading,
    _pool as pool,
    decode_image,
    default_workers,
    list_images,
    load_batches,
    locate,
)
from cnnfeat.interrupts import SIGNALS
from cnnfeat.machine import most_workers

SMALL = Preprocessing(20, (16, 16))


@pytest.fixture
def mixed_dir(image_dir):
    """The shared twelve images, three of them beyond reading (rows 1, 5 and 11)."""
    (image_dir / "ant" / "1.png").write_bytes(b"")
    (image_dir / "bee" / "1.png").write_bytes(b"no image")
    (image_dir / "cat" / "3.png").unlink()
    (image_dir / "cat" / "3.png").symlink_to("gone")
    return image_dir


def gathered(source, **options):
    batches = list(load_batches(list_images(source), SMALL, **options))
    pixels = np.concatenate([batch.images_nhwc for batch in batches])
    return pixels, sum((batch.errors for batch in batches), ()), batches


def children():
    """Return the decoding processes that this one has started and that still run."""
    return worker_pids(os.getpid())


def test_batches_cover_the_rows_in_order(mixed_dir):
    images = list_images(mixed_dir)
    batches = list(load_batches(images, SMALL, batch_size=5))
    assert [batch.start for batch in batches] == [0, 5, 10]
    assert [len(batch.ok) for batch in batches] == [5, 5, 2]
    ok = np.concatenate([batch.ok for batch in batches])
    assert np.flatnonzero(~ok).tolist() == [1, 5, 11]
    for batch in batches:
        for k, row in enumerate(range(batch.start, batch.start + len(batch.ok))):
            expected = 0
            if batch.ok[k]:
                expected = SMALL.apply(decode_image(locate(images, row).read()))
            np.testing.assert_array_equal(
                batch.images_nhwc[k], np.broadcast_to(expected, (1, 16, 16, 3))
            )
            assert bool(batch.errors[k]) != batch.ok[k]


@pytest.mark.parametrize("crops", ["center", "ten"])
def test_worker_count_and_batch_size_change_nothing(mixed_dir, crops):
    expected, reasons, _ = gathered(mixed_dir, batch_size=12, crops=crops)
    for workers, batch_size in [(1, 5), (2, 1), (3, 64)]:
        pixels, errors, batches = gathered(
            mixed_dir, batch_size=batch_size, crops=crops, workers=workers
        )
        np.testing.assert_array_equal(pixels, expected)
        assert errors == reasons
        assert pixels.dtype == np.uint8
        assert all(batch.decode_seconds > 0 for batch in batches)
    assert children() == []


@pytest.mark.parametrize("workers", [0, 2])
def test_each_image_comes_with_the_digest_of_its_bytes(mixed_dir, workers):
    images = list_images(mixed_dir)
    (mixed_dir / "cat" / "0.png").write_bytes((mixed_dir / "ant/0.png").read_bytes())
    batches = load_batches(images, SMALL, batch_size=5, workers=workers)
    digests = [digest for batch in batches for digest in batch.digests]
    for row, digest in enumerate(digests):
        if row in (1, 5, 11):
            assert digest == ""
        else:
            data = locate(images, row).read()
            assert digest == hashlib.blake2b(data, digest_size=16).hexdigest()
    assert digests[0] == digests[8] and len(set(digests)) == 9  # one of them is ""


def test_first_row_goes_on_where_another_run_stopped(mixed_dir):
    expected, reasons, _ = gathered(mixed_dir, batch_size=4)
    for workers in (0, 2):
        pixels, errors, batches = gathered(
            mixed_dir, batch_size=4, first_row=7, workers=workers
        )
        assert [batch.start for batch in batches] == [7, 11]
        np.testing.assert_array_equal(pixels, expected[7:])
        assert errors == reasons[7:]


def test_no_rows_give_no_batches(image_dir):
    images = list_images(image_dir)
    for workers in (0, 1):
        options = {"batch_size": 4, "first_row": 12, "workers": workers}
        assert list(load_batches(images, SMALL, **options)) == []
    assert children() == []


def test_a_tar_is_read_by_workers(image_dir, tmp_path):
    import tarfile

    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        archive.add(image_dir, arcname=".")
    expected, _, _ = gathered(image_dir, batch_size=12)
    pixels, _, _ = gathered(tmp_path / "t.tar", batch_size=5, workers=2)
    np.testing.assert_array_equal(pixels, expected)


def test_the_fast_decoder_reduces_large_jpegs_only(tmp_path):
    coarse = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((400, 320), Image.Resampling.BICUBIC)
    image.save(tmp_path / "a.jpg", quality=95)
    image.save(tmp_path / "b.png")
    exact, _, _ = gathered(tmp_path, batch_size=2)
    fast, _, _ = gathered(tmp_path, batch_size=2, decoder="fast")
    np.testing.assert_array_equal(fast[1], exact[1])
    difference = np.abs(fast[0].astype(int) - exact[0])
    assert 0 < difference.mean() < 4


@pytest.mark.parametrize(
    "option",
    [
        {"batch_size": 0},
        {"workers": -1},
        {"workers": 100_000},
        {"first_row": 13},
        {"crops": "five"},
        {"decoder": "opencv"},
    ],
)
def test_arguments_out_of_range_are_refused_at_once(image_dir, option):
    with pytest.raises(DataError, match=f"{next(iter(option))} is out of range"):
        load_batches(list_images(image_dir), SMALL, **{"batch_size": 4, **option})


def test_a_worker_imports_neither_torch_nor_h5py():
    code = (
        "import sys, cnnfeat.images._worker as w; "
        "assert not {'torch', 'h5py', 'torchvision', 'click'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("when", [0, 3])
def test_a_killed_worker_is_replaced_and_no_image_is_lost(image_dir, when, monkeypatch):
    monkeypatch.setattr(loading, "PREFETCHED_CROPS", 1)  # else all is decoded by then
    expected, reasons, _ = gathered(image_dir, batch_size=12)
    batches = load_batches(list_images(image_dir), SMALL, batch_size=1, workers=2)
    found = [next(batches)]
    for k, batch in enumerate(batches):
        found.append(batch)
        if k == when:
            os.kill(children()[0], signal.SIGKILL)
    pixels = np.concatenate([batch.images_nhwc for batch in found])
    np.testing.assert_array_equal(pixels, expected)
    assert sum((batch.errors for batch in found), ()) == reasons


@pytest.fixture
def worker_code(monkeypatch):
    """Return a function that puts Python code before a worker's own."""

    def put(code):
        monkeypatch.setattr(
            pool,
            "_COMMAND",
            "import json, sys; sys.path[:] = json.loads(sys.argv[1])\n"
            f"{code}\n"
            "from cnnfeat.images import _worker as worker\n"
            "worker.main(*map(int, sys.argv[2:]))",
        )

    return put


WRAP = """
import os, time
import cnnfeat.images._worker as w
load = w.DecodingJob.load
def wrapped(job, location):
    if location.path.endswith('bee/1.png'):
        {}
    return load(job, location)
w.DecodingJob.load = wrapped
"""


def test_an_image_that_kills_its_worker_twice_becomes_a_failed_row(
    image_dir, worker_code
):
    expected, _, _ = gathered(image_dir, batch_size=12)
    worker_code(WRAP.format("os.kill(os.getpid(), 9)"))
    for workers in (1, 2):
        pixels, errors, _ = gathered(image_dir, batch_size=5, workers=workers)
        assert errors[5] == "the decoder was killed (SIGKILL)"
        assert [k for k, error in enumerate(errors) if error] == [5]
        assert not pixels[5].any()
        rest = np.arange(12) != 5
        np.testing.assert_array_equal(pixels[rest], expected[rest])


def test_an_image_that_takes_too_long_becomes_a_failed_row(image_dir, worker_code):
    worker_code(WRAP.format("time.sleep(1000)"))
    _, errors, _ = gathered(
        image_dir, batch_size=5, workers=2, limits=DecodeLimits(seconds=2.5)
    )
    assert errors[5] == "took longer than 2.5 s"
    assert [k for k, error in enumerate(errors) if error] == [5]
    assert children() == []


@pytest.mark.parametrize(
    "pause", ["time.sleep(1000)", "os.kill(os.getpid(), signal.SIGSTOP)"]
)
def test_an_image_that_took_too_long_once_is_tried_again(
    image_dir, tmp_path, worker_code, pause
):
    """As when a laptop sleeps, or a job is suspended, for longer than the limit."""
    expected, reasons, _ = gathered(image_dir, batch_size=5)
    once = f"""if not os.path.exists({str(tmp_path / "begun")!r}):
            open({str(tmp_path / "begun")!r}, "w").close()
            {pause}"""
    worker_code("import signal" + WRAP.format(once))
    limits = DecodeLimits(seconds=2.5)
    pixels, errors, _ = gathered(image_dir, batch_size=5, workers=2, limits=limits)
    assert (tmp_path / "begun").exists()
    assert errors == reasons
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_worker_that_cannot_be_killed_does_not_hold_up_the_rest(
    image_dir, worker_code, monkeypatch
):
    """As one that reads from a drive that has vanished: the kernel holds it."""
    worker_code(WRAP.format("time.sleep(1000)"))
    monkeypatch.setattr("cnnfeat.images._pool._REAP_SECONDS", 0.1)
    monkeypatch.setattr("subprocess.Popen.kill", lambda _: None)
    limits = DecodeLimits(seconds=2.5)
    _, errors, _ = gathered(image_dir, batch_size=5, workers=2, limits=limits)
    for pid in children():
        os.kill(pid, signal.SIGKILL)
    assert errors[5] == "took longer than 2.5 s"
    assert [k for k, error in enumerate(errors) if error] == [5]


def test_an_image_that_allocates_without_bound_becomes_a_failed_row(
    image_dir, worker_code
):
    worker_code(WRAP.format("bytearray(2**33)"))
    _, errors, _ = gathered(image_dir, batch_size=12, workers=1)
    assert errors[5]
    assert [k for k, error in enumerate(errors) if error] == [5]


def test_nobody_who_wants_images_any_more_ends_a_wait_for_a_slow_one(
    image_dir, worker_code
):
    worker_code(WRAP.format("time.sleep(1000)"))
    n_asked = 0

    def is_wanted():
        nonlocal n_asked
        n_asked += 1
        return n_asked < 30

    batches = load_batches(
        list_images(image_dir), SMALL, batch_size=4, workers=2, is_wanted=is_wanted
    )
    assert [batch.start for batch in batches] in ([0], [])
    assert children() == []


@pytest.mark.parametrize("number", SIGNALS)
def test_workers_leave_every_signal_to_their_parent(
    image_dir, worker_code, number, monkeypatch
):
    """From their first moment: a service manager signals all processes at once."""
    monkeypatch.setattr(loading, "PREFETCHED_CROPS", 1)  # work is left for them
    expected, _, _ = gathered(image_dir, batch_size=12)
    worker_code(f"import os; os.kill(os.getpid(), {int(number)})")
    batches = load_batches(list_images(image_dir), SMALL, batch_size=1, workers=2)
    found = [next(batches)]
    pids = children()
    for pid in pids:
        os.kill(pid, number)
    for batch in batches:
        found.append(batch)
        assert children() == pids
    pixels = np.concatenate([batch.images_nhwc for batch in found])
    np.testing.assert_array_equal(pixels, expected)


def test_workers_that_cannot_start_end_in_one_line(image_dir, worker_code):
    worker_code("raise ImportError('no such codec')")
    batches = load_batches(list_images(image_dir), SMALL, batch_size=4, workers=2)
    with pytest.raises(CnnfeatError, match="status 1: ImportError: no such codec") as e:
        next(batches)
    assert "\n" not in str(e.value)
    assert children() == []


def test_closing_early_stops_the_workers(image_dir, monkeypatch):
    monkeypatch.setattr(loading, "PREFETCHED_CROPS", 1)  # work is left for them
    n_descriptors = len(os.listdir("/proc/self/fd"))
    n_threads = threading.active_count()
    batches = load_batches(list_images(image_dir), SMALL, batch_size=2, workers=2)
    next(batches)
    assert len(children()) == 2
    batches.close()
    assert children() == []
    assert threading.active_count() == n_threads
    assert len(os.listdir("/proc/self/fd")) <= n_descriptors


SCRIPT = """
import sys, time
from cnnfeat.images import *
batches = load_batches(
    list_images(sys.argv[1]), Preprocessing(20, (16, 16)), batch_size=1, workers=2
)
next(batches)
print("begun", flush=True)
{}
"""


def started(source, ending):
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SCRIPT.format(ending), str(source)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "begun\n"
    return process


def workers_of(process):
    return worker_pids(process.pid)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, None])
def test_workers_end_with_their_parent(image_dir, how):
    process = started(image_dir, "sys.exit(0)" if how is None else "time.sleep(60)")
    pids = workers_of(process)
    if how is not None:
        assert len(pids) == 2
        process.send_signal(how)
    _, stderr = process.communicate(timeout=20)
    wait_until(lambda: not any(map(psutil.pid_exists, pids)))
    assert "resource_tracker" not in stderr
    if how is None:
        assert (process.returncode, stderr) == (0, "")


def test_most_workers_are_four_for_a_core_and_1024_at_least(monkeypatch):
    for n_cores, expected in [(1, 1024), (256, 1024), (300, 1200)]:
        monkeypatch.setattr("cnnfeat.machine.usable_cores", lambda n=n_cores: n)
        assert most_workers() == expected


def test_default_workers_are_the_cores_at_hand_and_no_more_than_16(monkeypatch):
    for n_cores, expected in [(1, 1), (8, 8), (64, 16)]:
        monkeypatch.setattr("cnnfeat.images._loading.usable_cores", lambda n=n_cores: n)
        assert default_workers() == expected
