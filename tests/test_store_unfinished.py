"""Unfinished files that someone else put there: nothing is written through them."""

import os

import h5py
import numpy as np
import pytest
from store_rows import JOB, N, contents, datasets, finish, interrupt, leftovers

from cnnfeat.errors import CnnfeatError, DataError, OutputError, StoreError
from cnnfeat.store import FeatureWriter
from cnnfeat.store._journal import encode_line, read_journal


def resume(folder, **options):
    options = {"resume": True, **options}
    return FeatureWriter(folder / "f.h5", contents(), fingerprint=JOB, **options)


@pytest.fixture
def folder(tmp_path):
    """A run that was killed after nine rows, and a file of the user's beside it."""
    interrupt(tmp_path / "f.h5", 9, 12)
    (tmp_path / "mine").write_bytes(b"mine" * 5000)
    return tmp_path


def assert_mine_is_whole(folder):
    assert (folder / "mine").read_bytes() == b"mine" * 5000


def edit(folder, change):
    with h5py.File(folder / "f.h5.part", "r+") as file:
        change(file)


def elsewhere(file):
    """Let the rows of a layer lie in the user's file."""
    shape, attrs = file["/features/conv1"].shape, dict(file["/features/conv1"].attrs)
    del file["/features/conv1"]
    mine = file.filename.replace("f.h5.part", "mine")
    n_bytes = 4 * int(np.prod(shape))
    file.create_dataset(
        "/features/conv1", shape, "f4", external=[(mine, 0, n_bytes)]
    ).attrs.update(attrs)


def retype(name, dtype):
    def change(file):
        attrs, shape = dict(file[name].attrs), file[name].shape
        del file[name]
        file.create_dataset(name, shape, dtype).attrs.update(attrs)

    return change


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (elsewhere, "/features/conv1: its bytes lie in another file"),
        (lambda f: f.move("/images/ok", "/x"), "/images/ok is missing"),
        (lambda f: f.move("/features/conv1", "/x"), "/features has other layers"),
        (lambda f: f.__delitem__("/provenance"), "/provenance is missing"),
        (lambda f: f["/images/label"].write_direct(np.zeros(N, "i4")), "/images/label"),
        (retype("/images/error", h5py.string_dtype()), "/images/error: .*found object"),
        (retype("/images/ok", "f4"), "/images/ok: expected bool, found float32"),
        (retype("/features/conv1", "f2"), "/features has other layers"),
        (retype("/features/conv1", "f8"), "float64"),
    ],
)
def test_a_part_that_is_not_this_run_s_is_not_written_to(folder, change, match):
    edit(folder, change)
    before = (folder / "f.h5.part").read_bytes()
    with pytest.raises(StoreError, match=rf"f\.h5\.part is damaged: .*{match}") as told:
        resume(folder)
    assert "`overwrite`" in str(told.value)
    assert (folder / "f.h5.part").read_bytes() == before
    assert (folder / "f.h5.part.journal").exists()
    assert_mine_is_whole(folder)


@pytest.mark.parametrize("suffix", [".part", ".part.journal", ".part.new"])
@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"resume": False}])
@pytest.mark.parametrize("leftover", [True, False])
def test_links_beside_the_output_are_not_followed(folder, suffix, options, leftover):
    if not leftover:
        for name in ("f.h5.part", "f.h5.part.journal"):
            (folder / name).unlink()
    link = folder / f"f.h5{suffix}"
    link.unlink(missing_ok=True)
    link.symlink_to("mine")
    try:
        resume(folder, **options).close()
    except CnnfeatError as error:
        assert "\n" not in str(error)
    assert_mine_is_whole(folder)


@pytest.mark.parametrize("suffix", [".part", ".part.journal"])
def test_a_link_to_the_part_is_named(folder, suffix):
    place = folder / f"f.h5{suffix}"
    place.rename(folder / "moved")
    place.symlink_to("moved")
    with pytest.raises(OutputError, match="a symbolic link, which is not followed"):
        resume(folder)


@pytest.mark.parametrize("suffix", [".part", ".part.journal", ".part.new"])
@pytest.mark.parametrize("resumed", [True, False])
def test_pipes_beside_the_output_are_not_waited_for(folder, suffix, resumed):
    place = folder / f"f.h5{suffix}"
    place.unlink(missing_ok=True)
    os.mkfifo(place)
    try:
        resume(folder, resume=resumed, overwrite=not resumed).close()
    except CnnfeatError as error:
        assert "\n" not in str(error)


def test_a_skeleton_of_a_killed_run_is_replaced(tmp_path):
    finish(tmp_path / "once.h5", [0, N])
    (tmp_path / "f.h5.part.new").write_bytes(b"half made")
    finish(tmp_path / "f.h5", [0, N])
    assert datasets(tmp_path / "f.h5") == datasets(tmp_path / "once.h5")
    assert leftovers(tmp_path) == ["f.h5", "once.h5"]


@pytest.mark.parametrize(
    "entry",
    [
        {"rows_done": "9"},
        {"rows_done": -1},
        {"rows_done": True},
        {"rows_done": 9.5},
        {"rows_done": 3},
        {"rows": 12},
        {},
    ],
)
def test_a_journal_line_of_another_kind_ends_it(folder, entry):
    journal = folder / "f.h5.part.journal"
    journal.write_bytes(journal.read_bytes() + encode_line(entry))
    assert read_journal(journal).rows_done == 9


@pytest.mark.parametrize(
    "job",
    [
        {"fingerprint": [], "overwrite": False},
        {"fingerprint": {"model": 3}, "overwrite": False},
        {"fingerprint": {}, "overwrite": "no"},
        {"fingerprint": {}},
    ],
)
def test_a_journal_of_another_kind_is_none(tmp_path, job):
    journal = tmp_path / "f.h5.part.journal"
    journal.write_bytes(encode_line(job) + encode_line({"rows_done": 9}))
    assert read_journal(journal) is None
    for text in (b"[" * 99999, b'{"entry": [], "crc32": ""}\n', b"\xff"):
        journal.write_bytes(text)
        assert read_journal(journal) is None


def test_a_journal_with_more_rows_than_there_are_is_damaged(folder):
    journal = folder / "f.h5.part.journal"
    journal.write_bytes(journal.read_bytes() + encode_line({"rows_done": N + 1}))
    with pytest.raises(StoreError, match=f"{N + 1} of {N} rows are done"):
        resume(folder)


def test_a_name_too_long_is_one_line(tmp_path):
    for length in (245, 300):
        with pytest.raises(OutputError, match="File name too long"):
            FeatureWriter(tmp_path / ("a" * length), contents(), fingerprint=JOB)
    assert leftovers(tmp_path) == []


def test_what_could_not_be_read_again_is_not_written():
    with pytest.raises(DataError, match="class: 'ant' is there twice"):
        contents(class_names=("ant", "ant"))
