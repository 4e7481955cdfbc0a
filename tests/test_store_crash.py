"""Interrupted runs and failing disks: what is committed is never lost."""

import signal
import subprocess
import sys
import textwrap
import time

import h5py
import numpy as np
import pytest
from store_rows import JOB, N, contents, datasets, finish, interrupt, leftovers, write

from cnnfeat.errors import (
    OutputError,
    ProvenanceError,
)
from cnnfeat.layer_spec import LayerSpec
from cnnfeat.store import FeatureWriter, open_features, unfinished_run
from cnnfeat.store._journal import encode_line, read_journal

STAMPS = np.arange(N, dtype=np.uint64)


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
    assert writer.digests == [f"{k:032x}" if k % 5 != 3 else "" for k in range(N)]
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


def test_an_unfinished_file_says_what_it_takes_to_go_on(tmp_path):
    output = tmp_path / "f.h5"
    assert unfinished_run(output) == {}
    interrupt(output, 0, 9)  # nothing is committed
    assert unfinished_run(output) == {}
    interrupt(output, 9, 9, overwrite=True)
    assert unfinished_run(output).items() >= JOB.items()


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
    with pytest.raises(OutputError, match=r"holds 9 of 23 rows.*`resume`.*`overwrite`"):
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
import store_rows as t
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


def test_a_failing_disk_keeps_the_committed_rows(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(28, "No space left on device")

    output = tmp_path / "f.h5"
    with FeatureWriter(output, contents(), fingerprint=JOB) as writer:
        write(writer, 0, 9)
        writer.commit()
        write(writer, 9, 12)
        monkeypatch.setattr("cnnfeat.store._skeleton.os.fsync", fail)
        with pytest.raises(
            OutputError, match="No space left on device; 9 rows are kept for `resume`"
        ):
            writer.commit()
        monkeypatch.undo()
    with FeatureWriter(output, contents(), fingerprint=JOB, resume=True) as writer:
        assert writer.rows_done == 9


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"root": "/others"}, "root was '/images' and is now '/others'"),
        ({"stamps": STAMPS + (STAMPS >= 11)}, "image 12, now bée/011.png, is"),
        ({"n": N - 1, "stamps": STAMPS[:-1]}, "23 images were listed, now 22"),
    ],
)
def test_other_images_are_not_resumed_and_the_first_is_named(tmp_path, changes, match):
    output = tmp_path / "f.h5"
    with FeatureWriter(output, contents(stamps=STAMPS), fingerprint=JOB) as writer:
        write(writer, 0, 9)
        writer.commit()
    other = contents(**{"stamps": STAMPS, **changes})
    with pytest.raises(ProvenanceError, match=match):
        FeatureWriter(output, other, fingerprint=JOB, resume=True)
    again = contents(stamps=STAMPS)
    with FeatureWriter(output, again, fingerprint=JOB, resume=True) as writer:
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
    monkeypatch.setattr("cnnfeat.store._writer.check_space", lambda *args: None)
    with pytest.raises(OutputError, match="No space left on device"):
        FeatureWriter(small / "f.h5", contents(), fingerprint=JOB)
    assert leftovers(small) == ["other"]


def test_a_full_disk_ends_in_one_line_and_is_resumed(small_disk, monkeypatch):
    """The real thing: a file system of 2 MiB, and a file of 3."""
    small, remount = small_disk
    monkeypatch.setattr("cnnfeat.store._writer.check_space", lambda *args: None)
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
        monkeypatch.setattr("cnnfeat.store._writer.publish", fail)
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
