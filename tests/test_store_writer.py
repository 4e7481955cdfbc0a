"""The feature writer: what it stores, what it refuses, what survives a crash."""

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import time

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnnfeat.errors import (
    DataError,
    LayerError,
    OutputError,
    ProvenanceError,
    ShapeError,
    StoreError,
)
from cnnfeat.store import Contents, FeatureWriter, LayerSpec, open_features
from cnnfeat.store.journal import encode_line, read_journal

N = 23
JOB = {"model": "tiny", "images": "abc"}


def contents(n=N, dtype="float32", **changes):
    fields = {
        "root": "/images",
        "paths": tuple(f"bée/{k:03}.png" for k in range(n)),
        "labels": np.arange(n, dtype=np.int32) % 2,
        "class_names": ("bée", "ant"),
        "layers": (
            LayerSpec("fc7:pre", "classifier.4", (5,), "none", True, dtype),
            LayerSpec("conv1", "features.0", (3, 2, 4), "avg", False, dtype),
        ),
        "provenance": {"model": "tiny", "preprocessing": '{"resize": 8}'},
        "command": "cnnfeat extract images",
    }
    return Contents(**{**fields, **changes})


def features(start, stop, seed=0):
    """The same rows whatever the batch they come in."""
    rows = [np.random.default_rng([seed, k]) for k in range(start, stop)]
    return {
        "fc7:pre": np.array([rng.normal(size=5) for rng in rows], np.float32),
        "conv1": np.array([rng.normal(size=(3, 2, 4)) for rng in rows], np.float32),
    }


def write(writer, start, stop):
    ok = np.array([k % 5 != 3 for k in range(start, stop)], dtype=bool)
    errors = ["" if good else f"bad image {k}" for k, good in enumerate(ok, start)]
    writer.write(start, features(start, stop), ok, errors)


def finish(path, batches, **options):
    with FeatureWriter(path, contents(), fingerprint=JOB, **options) as writer:
        for start, stop in itertools.pairwise(batches):
            write(writer, start, stop)
            writer.commit()
        writer.finish()


def datasets(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: (item.dtype.str, item[()].tolist())})
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    return found


def leftovers(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_finished_file_holds_what_was_written(tmp_path):
    finish(tmp_path / "f.h5", [0, 7, N])
    assert leftovers(tmp_path) == ["f.h5"]
    good = np.array([k % 5 != 3 for k in range(N)])
    with h5py.File(tmp_path / "f.h5") as file:
        assert dict(file.attrs) == {
            "format": "cnnfeat-features",
            "format_version": 1,
            "complete": True,
            "created_by": "cnnfeat 0.1.0",
            "command": "cnnfeat extract images",
            "root": "/images",
        }
        assert file["/images/path"].asstr()[3] == "bée/003.png"
        assert file["/images/error"].asstr()[3] == "bad image 3"
        assert file["/images/error"].asstr()[4] == ""
        assert file["/images/label"].dtype == np.int32
        np.testing.assert_array_equal(file["/images/ok"][:], good)
        expected = np.where(good[:, None, None, None], features(0, N)["conv1"], 0)
        np.testing.assert_array_equal(file["/features/conv1"][:], expected)
        assert file["/features/conv1"].compression is None


@settings(
    deadline=None,
    max_examples=10,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.sets(st.integers(1, N - 1), max_size=6))
def test_the_batches_do_not_change_the_datasets(tmp_path, cuts):
    finish(tmp_path / "once.h5", [0, N], overwrite=True)
    finish(tmp_path / "cut.h5", [0, *sorted(cuts), N], overwrite=True)
    assert datasets(tmp_path / "once.h5") == datasets(tmp_path / "cut.h5")


def test_chunks_are_whole_rows_of_about_a_mebibyte(tmp_path):
    layers = (LayerSpec("a", "a", (256,)), LayerSpec("b", "b", (512, 32, 32)))
    with FeatureWriter(
        tmp_path / "f.h5", contents(4000, layers=layers), fingerprint=JOB
    ):
        with h5py.File(tmp_path / "f.h5.part") as file:
            assert file["/features/a"].chunks == (1024, 256)
            assert file["/features/b"].chunks == (1, 512, 32, 32)
        # Space is promised, not yet taken.
        assert os.stat(tmp_path / "f.h5.part").st_blocks * 512 < 4 * 2**20


@pytest.mark.parametrize("n", [1, 500, 20_000])
def test_the_size_of_the_metadata_is_not_underestimated(tmp_path, n):
    """The promise that lets HDF5 write it on a disk that is almost full."""
    layers = (LayerSpec("a", "a", (3,)), LayerSpec("b", "b", (2**18,)))
    many = contents(n, layers=layers, paths=tuple(f"é{k}" for k in range(n)))
    with FeatureWriter(tmp_path / "f.h5", many, fingerprint=JOB):
        rows = n * (2**20 + 12 + 201)
        size = (tmp_path / "f.h5.part").stat().st_size
        padding = 2**20 * 3  # last chunks are whole ones
        assert size - rows - padding < many.metadata_bytes()
        assert size - padding < many.n_bytes() < size + 2**20 + 300 * n


def test_only_raw_rows_and_one_flag_change_after_the_start(tmp_path):
    """What makes kill -9 harmless: no byte of metadata is written after the start."""
    part = tmp_path / "f.h5.part"
    with FeatureWriter(tmp_path / "f.h5", contents(), fingerprint=JOB) as writer:
        before = np.frombuffer(part.read_bytes(), np.uint8)
        raw = np.zeros(len(before), dtype=bool)
        with h5py.File(part) as file:
            for name in (
                "images/ok",
                "images/error",
                "features/conv1",
                "features/fc7:pre",
            ):
                dataset = file[name].id
                for k in range(dataset.get_num_chunks()):
                    chunk = dataset.get_chunk_info(k)
                    raw[chunk.byte_offset : chunk.byte_offset + chunk.size] = True
        write(writer, 0, N)
        writer.commit()
        after = np.frombuffer(part.read_bytes(), np.uint8)
        assert len(before) == len(after)
        assert not np.any((before != after) & ~raw)
        assert np.any((before != after) & raw)
        writer.finish()
    finished = np.frombuffer((tmp_path / "f.h5").read_bytes(), np.uint8)
    # The flag `complete`, and the superblock's consistency flag, which readers of
    # this version of the format ignore: HDF5 sets it on opening, clears it on closing.
    changed = np.flatnonzero((before != finished) & ~raw)
    assert changed[0] == 20
    assert len(changed) == 2


# -- interruption ----------------------------------------------------------------------


def interrupt(path, committed, written, **options):
    """Leave a .part as a killed process would: without close()."""
    writer = FeatureWriter(path, contents(), fingerprint=JOB, **options)
    if committed:
        write(writer, 0, committed)
        writer.commit()
    if written > committed:
        write(writer, committed, written)
    writer._file.close()
    writer._journal.close()


@pytest.mark.parametrize(("committed", "written"), [(0, 0), (0, 4), (9, 9), (9, 20)])
def test_a_resumed_file_equals_an_uninterrupted_one(tmp_path, committed, written):
    finish(tmp_path / "once.h5", [0, N])
    interrupt(tmp_path / "f.h5", committed, written)
    with FeatureWriter(
        tmp_path / "f.h5", contents(), fingerprint=JOB, resume=True
    ) as writer:
        assert writer.rows_done == committed
        assert set(writer.failures) == {k for k in range(committed) if k % 5 == 3}
        write(writer, committed, N)
        writer.finish()
    assert writer.failures[3] == "bad image 3"
    assert datasets(tmp_path / "f.h5") == datasets(tmp_path / "once.h5")
    assert leftovers(tmp_path) == ["f.h5", "once.h5"]


def test_a_torn_or_damaged_journal_line_is_ignored(tmp_path):
    journal = tmp_path / "f.h5.part.journal"
    interrupt(tmp_path / "f.h5", 9, 20)
    sound = journal.read_bytes()
    line = encode_line({"rows_done": 20})
    for torn in (line[:-1], line[:10], line.replace(b"20", b"21"), b"\x00\xff\n"):
        journal.write_bytes(sound + torn)
        assert read_journal(journal).rows_done == 9
    with FeatureWriter(
        tmp_path / "f.h5", contents(), fingerprint=JOB, resume=True
    ) as writer:
        write(writer, 9, 12)
        writer.commit()
        assert read_journal(journal).rows_done == 12


def test_another_job_is_not_resumed_and_the_field_is_named(tmp_path):
    interrupt(tmp_path / "f.h5", 9, 9)
    before = leftovers(tmp_path)
    with pytest.raises(ProvenanceError, match="model was 'tiny' and is now 'big'"):
        FeatureWriter(
            tmp_path / "f.h5",
            contents(),
            fingerprint={**JOB, "model": "big"},
            resume=True,
        )
    assert leftovers(tmp_path) == before
    assert read_journal(tmp_path / "f.h5.part.journal").rows_done == 9


def test_an_unfinished_run_is_neither_overwritten_nor_resumed_unasked(tmp_path):
    interrupt(tmp_path / "f.h5", 9, 9)
    with pytest.raises(OutputError, match=r"holds 9 of 23 rows.*--resume.*--overwrite"):
        FeatureWriter(tmp_path / "f.h5", contents(), fingerprint=JOB)
    finish(tmp_path / "f.h5", [0, N], overwrite=True)
    assert leftovers(tmp_path) == ["f.h5"]


def test_resume_starts_anew_where_there_is_nothing(tmp_path):
    finish(tmp_path / "f.h5", [0, N], resume=True)
    assert leftovers(tmp_path) == ["f.h5"]


def test_a_part_without_a_journal_is_not_trusted(tmp_path):
    interrupt(tmp_path / "f.h5", 9, 9)
    (tmp_path / "f.h5.part.journal").unlink()
    with pytest.raises(OutputError, match="without a usable journal"):
        FeatureWriter(tmp_path / "f.h5", contents(), fingerprint=JOB)
    with FeatureWriter(
        tmp_path / "f.h5", contents(), fingerprint=JOB, resume=True
    ) as writer:
        assert writer.rows_done == 0


def test_a_damaged_part_is_not_resumed(tmp_path):
    interrupt(tmp_path / "f.h5", 9, 9)
    (tmp_path / "f.h5.part").write_bytes(b"nothing")
    with pytest.raises(OutputError, match=r"f\.h5\.part: cannot be"):
        FeatureWriter(tmp_path / "f.h5", contents(), fingerprint=JOB, resume=True)
    assert (tmp_path / "f.h5.part.journal").exists()


def test_closing_without_a_commit_leaves_nothing(tmp_path):
    with FeatureWriter(tmp_path / "f.h5", contents(), fingerprint=JOB) as writer:
        write(writer, 0, 5)
    assert leftovers(tmp_path) == []


def test_closing_after_a_commit_keeps_the_rows(tmp_path):
    with FeatureWriter(tmp_path / "f.h5", contents(), fingerprint=JOB) as writer:
        write(writer, 0, 5)
        writer.commit()
    assert leftovers(tmp_path) == ["f.h5.part", "f.h5.part.journal"]


CHILD = """
import sys; sys.path[:0] = {path!r}
import test_store_writer as t
from cnnfeat.store import FeatureWriter
while True:
    with FeatureWriter({output!r}, t.contents(), fingerprint=t.JOB, resume=True) as w:
        print(w.rows_done, flush=True)
        for row in range(w.rows_done, t.N):
            t.write(w, row, row + 1)
            w.commit()
        w.finish()
    __import__("os").unlink({output!r})
"""


def start_child(output):
    code = textwrap.dedent(CHILD).format(path=sys.path, output=str(output))
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    child.stdout.readline()
    return child


def kill(child):
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()


@pytest.mark.parametrize(
    "n_kills", [3, pytest.param(25, marks=pytest.mark.slow)], ids=str
)
def test_a_process_killed_at_any_moment_leaves_a_file_to_resume(tmp_path, n_kills):
    """The child writes, finishes and starts again; every kill meets another moment."""
    output, part = tmp_path / "f.h5", tmp_path / "f.h5.part"
    finish(tmp_path / "once.h5", [0, N])
    rng = np.random.default_rng(0)
    for _ in range(n_kills):
        child = start_child(output)
        time.sleep(rng.uniform(0, 0.1))
        kill(child)
        if part.exists():
            with h5py.File(part) as file:
                assert file["/features/conv1"].shape == (N, 3, 2, 4)
        if not output.exists():
            with FeatureWriter(
                output, contents(), fingerprint=JOB, resume=True
            ) as writer:
                if writer.rows_done < N:
                    write(writer, writer.rows_done, N)
                writer.finish()
        assert datasets(output) == datasets(tmp_path / "once.h5")
        output.unlink()
    assert not part.exists()


# -- refusals --------------------------------------------------------------------------


def test_an_existing_output_is_kept_and_replaced_only_at_the_end(tmp_path):
    output = tmp_path / "f.h5"
    output.write_text("old")
    with pytest.raises(OutputError, match=r"exists already.*--overwrite"):
        FeatureWriter(output, contents(), fingerprint=JOB)
    with pytest.raises(OutputError, match="exists already"):
        FeatureWriter(output, contents(), fingerprint=JOB, resume=True)
    with FeatureWriter(output, contents(), fingerprint=JOB, overwrite=True) as writer:
        write(writer, 0, N)
        assert output.read_text() == "old"
        writer.finish()
    assert open_features(output).n_images == N


def test_an_overwriting_run_is_resumed_under_the_same_permission(tmp_path):
    output = tmp_path / "f.h5"
    output.write_text("old")
    interrupt(output, 9, 9, overwrite=True)
    with FeatureWriter(output, contents(), fingerprint=JOB, resume=True) as writer:
        write(writer, 9, N)
        assert output.read_text() == "old"
        writer.finish()
    assert open_features(output).n_images == N


def test_an_output_that_appears_meanwhile_is_kept(tmp_path):
    output = tmp_path / "f.h5"
    with FeatureWriter(output, contents(), fingerprint=JOB) as writer:
        write(writer, 0, N)
        output.write_text("somebody else's")
        with pytest.raises(OutputError, match="exists already"):
            writer.finish()
    assert output.read_text() == "somebody else's"


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"overwrite": True}])
def test_a_second_writer_is_told_and_the_first_goes_on(tmp_path, options):
    output = tmp_path / "f.h5"
    with FeatureWriter(output, contents(), fingerprint=JOB) as writer:
        write(writer, 0, 5)
        writer.commit()
        if options:
            with pytest.raises(OutputError, match=r"is writing f\.h5"):
                FeatureWriter(output, contents(), fingerprint=JOB, **options)
        else:
            with pytest.raises(OutputError):
                FeatureWriter(output, contents(), fingerprint=JOB)
        write(writer, 5, N)
        writer.finish()
    assert open_features(output).n_images == N


def test_impossible_outputs_are_refused(tmp_path):
    with pytest.raises(OutputError, match="is a folder"):
        FeatureWriter(tmp_path, contents(), fingerprint=JOB)
    with pytest.raises(OutputError, match="there is no folder"):
        FeatureWriter(tmp_path / "no" / "f.h5", contents(), fingerprint=JOB)


def test_a_read_only_folder_is_refused(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(OutputError, match=r"cannot be written: Permission denied"):
        FeatureWriter(tmp_path / "f.h5", contents(), fingerprint=JOB)


def test_too_little_space_is_refused_before_the_start(tmp_path):
    layers = (LayerSpec("a", "a", (2**20, 2**20)),)
    with pytest.raises(OutputError, match=r"needs about [\d,]+ MiB and has [\d,]+ MiB"):
        FeatureWriter(tmp_path / "f.h5", contents(layers=layers), fingerprint=JOB)
    assert leftovers(tmp_path) == []


def test_a_failing_disk_keeps_the_committed_rows(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(28, "No space left on device")

    output = tmp_path / "f.h5"
    with FeatureWriter(output, contents(), fingerprint=JOB) as writer:
        write(writer, 0, 9)
        writer.commit()
        write(writer, 9, 12)
        monkeypatch.setattr("cnnfeat.store.skeleton.os.fsync", fail)
        with pytest.raises(
            OutputError, match="No space left on device; 9 rows are kept for --resume"
        ):
            writer.commit()
        monkeypatch.undo()
    with FeatureWriter(output, contents(), fingerprint=JOB, resume=True) as writer:
        assert writer.rows_done == 9


def test_another_list_of_images_is_not_resumed(tmp_path):
    interrupt(tmp_path / "f.h5", 9, 9)
    other = contents(paths=tuple(f"{k}.png" for k in range(N)))
    with pytest.raises(ProvenanceError, match="image list was"):
        FeatureWriter(tmp_path / "f.h5", other, fingerprint=JOB, resume=True)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB and the function that remounts it."""
    small = tmp_path / "small"
    small.mkdir()

    def mount(options, *, check=True):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(small)]
        return subprocess.run(command, capture_output=True, check=check)

    if mount("size=2m", check=False).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield small, lambda options: mount(f"remount,{options}")
    subprocess.run(["umount", str(small)], check=True)


def test_a_read_only_disk_is_refused(small_disk):
    small, remount = small_disk
    remount("ro")
    with pytest.raises(OutputError, match=r"cannot be written: Read-only file system"):
        FeatureWriter(small / "f.h5", contents(), fingerprint=JOB)


def test_a_disk_that_is_full_at_the_start_keeps_nothing(small_disk):
    small, _ = small_disk
    (small / "other").write_bytes(bytes(2 * 2**20 - 8192))
    with pytest.raises(OutputError, match=r"needs about \d MiB and has 0 MiB"):
        FeatureWriter(small / "f.h5", contents(), fingerprint=JOB)
    assert leftovers(small) == ["other"]


def test_a_disk_that_fills_up_while_the_file_is_made_keeps_nothing(
    small_disk, monkeypatch
):
    small, _ = small_disk
    (small / "other").write_bytes(bytes(2 * 2**20 - 8192))
    monkeypatch.setattr("cnnfeat.store.writer.check_space", lambda *args: None)
    with pytest.raises(OutputError, match="No space left on device"):
        FeatureWriter(small / "f.h5", contents(), fingerprint=JOB)
    assert leftovers(small) == ["other"]


def test_a_full_disk_ends_in_one_line_and_is_resumed(small_disk, monkeypatch):
    """The real thing: a file system of 2 MiB, and a file of 3."""
    small, remount = small_disk
    monkeypatch.setattr("cnnfeat.store.writer.check_space", lambda *args: None)
    big = contents(300, layers=(LayerSpec("a", "a", (2560,)),))
    rows = np.random.default_rng(0).normal(size=(300, 2560)).astype(np.float32)

    def go_on(writer, step=20):
        for start in range(writer.rows_done, 300, step):
            stop = min(start + step, 300)
            ok = np.ones(stop - start, dtype=bool)
            writer.write(start, {"a": rows[start:stop]}, ok, [""] * len(ok))
            writer.commit()
        writer.finish()

    output = small / "f.h5"
    with (
        FeatureWriter(output, big, fingerprint=JOB) as writer,
        pytest.raises(OutputError, match=r"No space left.* rows are kept"),
    ):
        go_on(writer)
    remount("size=8m")
    with FeatureWriter(output, big, fingerprint=JOB, resume=True) as writer:
        assert writer.rows_done > 0
        go_on(writer)
    with open_features(output) as file:
        np.testing.assert_array_equal(file.read("a"), rows)


def test_a_run_killed_just_before_the_renaming_is_finished(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(5, "Input/output error")

    output = tmp_path / "f.h5"
    with FeatureWriter(output, contents(), fingerprint=JOB) as writer:
        write(writer, 0, N)
        monkeypatch.setattr("cnnfeat.store.writer.publish", fail)
        with pytest.raises(OutputError, match="Input/output error; 23 rows are kept"):
            writer.finish()
        monkeypatch.undo()
    with FeatureWriter(output, contents(), fingerprint=JOB, resume=True) as writer:
        assert writer.rows_done == N
        writer.finish()
    finish(tmp_path / "once.h5", [0, N])
    assert datasets(output) == datasets(tmp_path / "once.h5")
    assert leftovers(tmp_path) == ["f.h5", "once.h5"]


def test_a_journal_on_a_full_disk_keeps_the_earlier_commit(tmp_path, monkeypatch):
    output = tmp_path / "f.h5"
    with FeatureWriter(output, contents(), fingerprint=JOB) as writer:
        write(writer, 0, 5)
        writer.commit()
        write(writer, 5, 9)
        torn = encode_line({"rows_done": 9})[:12]
        half = writer._journal._file.write
        monkeypatch.setattr(
            writer._journal, "_file", HalfWritten(writer._journal._file, half, torn)
        )
        with pytest.raises(OutputError, match="No space left on device; 5 rows"):
            writer.commit()
    with FeatureWriter(output, contents(), fingerprint=JOB, resume=True) as writer:
        assert writer.rows_done == 5


class HalfWritten:
    """A file that takes the first bytes of a line and no more."""

    def __init__(self, file, write, torn):
        self.file, self.torn, self._write = file, torn, write

    def write(self, line):
        return self._write(self.torn)

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_an_empty_batch_changes_nothing(tmp_path):
    with FeatureWriter(tmp_path / "f.h5", contents(), fingerprint=JOB) as writer:
        write(writer, 0, 4)
        empty = {"fc7:pre": np.zeros((0, 5)), "conv1": np.zeros((0, 3, 2, 4))}
        writer.write(4, empty, np.zeros(0, bool), [])
        assert writer.rows_done == 4


# -- rows ------------------------------------------------------------------------------


@pytest.fixture
def writer(tmp_path):
    with FeatureWriter(tmp_path / "f.h5", contents(), fingerprint=JOB) as writer:
        yield writer


def test_rows_out_of_order_are_refused(writer):
    write(writer, 0, 5)
    with pytest.raises(ShapeError, match="rows 6 to 8 do not follow row 5 of 23"):
        write(writer, 6, 8)
    with pytest.raises(ShapeError, match="do not follow"):
        write(writer, 5, N + 1)
    with pytest.raises(ShapeError, match="5 of 23 rows written"):
        writer.finish()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"conv1": np.zeros((2, 3, 2, 5), np.float32)}, "expected floating"),
        ({"conv1": np.zeros((1, 3, 2, 4), np.float32)}, "expected floating"),
        ({"conv1": np.zeros((2, 3, 2, 4), np.int64)}, "found int64"),
        ({"conv2": np.zeros((2, 3, 2, 4), np.float32)}, "layers conv1, conv2, fc7"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(writer, change, match):
    with pytest.raises(ShapeError, match=match):
        writer.write(0, {**features(0, 2), **change}, np.ones(2, bool), ["", ""])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_non_finite_row_becomes_a_failed_one(tmp_path, bad):
    arrays = features(0, N)
    arrays["conv1"][2, 1, 1, 3] = bad
    with FeatureWriter(tmp_path / "f.h5", contents(), fingerprint=JOB) as writer:
        writer.write(0, arrays, np.ones(N, bool), [""] * N)
        writer.finish()
    assert writer.failures == {2: "non-finite activation in conv1"}
    with open_features(tmp_path / "f.h5") as file:
        assert np.flatnonzero(~file.ok).tolist() == [2]
        assert not file.read("fc7:pre", np.array([2])).any()
        np.testing.assert_array_equal(file.read("fc7:pre")[3:], arrays["fc7:pre"][3:])


def test_float16_holds_what_fits_and_refuses_what_does_not(tmp_path):
    arrays = features(0, N)
    arrays["fc7:pre"][0, 0] = 65504
    with FeatureWriter(
        tmp_path / "f.h5", contents(dtype="float16"), fingerprint=JOB
    ) as writer:
        writer.write(0, arrays, np.ones(N, bool), [""] * N)
        writer.finish()
    with open_features(tmp_path / "f.h5") as file:
        expected = arrays["fc7:pre"].astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(file.read("fc7:pre"), expected)
    arrays["fc7:pre"][4, 0] = -70000
    with (
        FeatureWriter(
            tmp_path / "g.h5", contents(dtype="float16"), fingerprint=JOB
        ) as writer,
        pytest.raises(
            DataError, match=r"'fc7:pre', image bée/004.png.*--dtype float32"
        ),
    ):
        writer.write(0, arrays, np.ones(N, bool), [""] * N)


@pytest.mark.parametrize("value", [65519.0, 65519.99, 65520.0])
def test_the_float16_limit_is_where_rounding_overflows(tmp_path, value):
    layers = (LayerSpec("a", "a", (1,), dtype="float16"),)
    array = np.array([[value]], np.float32)
    with np.errstate(over="ignore"):
        overflows = bool(np.isinf(array.astype(np.float16)).any())
    with FeatureWriter(
        tmp_path / "f.h5", contents(1, layers=layers), fingerprint=JOB
    ) as writer:
        if overflows:
            with pytest.raises(DataError, match="does not fit in float16"):
                writer.write(0, {"a": array}, np.ones(1, bool), [""])
        else:
            writer.write(0, {"a": array}, np.ones(1, bool), [""])


def test_a_long_reason_is_cut_at_a_character(tmp_path):
    with FeatureWriter(tmp_path / "f.h5", contents(), fingerprint=JOB) as writer:
        ok = np.zeros(N, bool)
        writer.write(0, features(0, N), ok, ["é" * 150] + ["two\nlines"] * (N - 1))
        writer.finish()
    with open_features(tmp_path / "f.h5") as file:
        assert file.errors[0] == "é" * 98 + "…"
        assert file.errors[1] == "two lines"


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"paths": (), "labels": np.zeros(0, np.int32)}, DataError, "no images"),
        ({"labels": np.zeros(3, np.int32)}, DataError, "23 paths, 3 labels"),
        ({"class_names": ("a",)}, DataError, "labels go from 0 to 1"),
        ({"layers": ()}, LayerError, "no layer"),
        ({"layers": (LayerSpec("a", "a", (1,)),) * 2}, LayerError, "named twice"),
    ],
)
def test_contents_that_do_not_agree_are_refused(changes, error, match):
    with pytest.raises(error, match=match):
        contents(**changes)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b"])
def test_names_that_hdf5_would_read_as_paths_are_refused(name):
    with pytest.raises(LayerError, match="cannot name"):
        LayerSpec(name, "a", (1,))


def test_unlabelled_images_without_classes_are_stored(tmp_path):
    one = contents(1, labels=np.array([-1]), class_names=())
    with FeatureWriter(tmp_path / "f.h5", one, fingerprint=JOB) as writer:
        write(writer, 0, 1)
        writer.finish()
    with open_features(tmp_path / "f.h5") as file:
        assert (file.class_names, file.labels.tolist()) == ((), [-1])


def test_a_part_is_never_taken_for_a_whole_file(tmp_path):
    interrupt(tmp_path / "f.h5", 9, 9)
    with pytest.raises(StoreError, match="unfinished"):
        open_features(tmp_path / "f.h5.part")
