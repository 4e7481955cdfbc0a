"""Outputs appear whole or not at all, and never in the place of what is no output."""

import contextlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from cnnfeat.errors import OutputError
from cnnfeat.outputs import (
    atomic_output,
    check_outputs,
    claimed_outputs,
    json_safe,
)


def test_numbers_that_json_cannot_hold_become_none():
    value = {
        "nan": float("nan"),
        "infinite": [float("inf"), -np.inf, np.float32("nan")],
        3: (np.float32(0.5), np.int64(2), np.bool_(True), None, "nan", True),
        "array": np.array([[1.0, np.nan], [2.0, 3.0]]),
    }
    safe = json_safe(value)
    assert json.loads(json.dumps(safe, allow_nan=False)) == {
        "nan": None,
        "infinite": [None, None, None],
        "3": [0.5, 2, True, None, "nan", True],
        "array": [[1.0, None], [2.0, 3.0]],
    }


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, ValueError])
def test_what_fails_leaves_the_old_output_and_no_temporary(tmp_path, error):
    path = tmp_path / "out.txt"
    path.write_text("old")
    expected = OutputError if error is OSError else error
    with pytest.raises(expected), atomic_output(path, overwrite=True) as temporary:
        temporary.write_text("new")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.txt"]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_an_output_has_the_rights_that_the_user_asks_for(tmp_path, umask):
    before = os.umask(umask)
    try:
        with atomic_output(tmp_path / "out.txt") as temporary:
            temporary.write_text("new")
    finally:
        os.umask(before)
    assert (tmp_path / "out.txt").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("spelling", ["same", "dots", "soft", "hard", "folder"])
def test_an_input_is_no_output_however_it_is_spelled(tmp_path, spelling, overwrite):
    folder = tmp_path / "data"
    folder.mkdir()
    path = folder / "in.h5"
    path.write_text("input")
    os.symlink(path, folder / "soft")
    os.link(path, folder / "hard")
    os.symlink(folder, tmp_path / "link")
    output = {
        "same": path,
        "dots": f"{folder}/../data/in.h5",
        "soft": folder / "soft",
        "hard": folder / "hard",
        "folder": tmp_path / "link" / "in.h5",
    }[spelling]
    inputs = [tmp_path / "gone", "default", path]
    with pytest.raises(OutputError, match="is read by this command") as caught:
        check_outputs([tmp_path / "new", output], inputs, overwrite=overwrite)
    assert str(output) in str(caught.value) and "`overwrite`" not in str(caught.value)


def test_outputs_beside_an_input_are_free(tmp_path):
    (tmp_path / "in.h5").write_text("input")
    (tmp_path / "old.h5").write_text("input")  # equal, and another file
    outputs = [tmp_path / "old.h5", tmp_path / "new.h5"]
    check_outputs(outputs, [tmp_path, tmp_path / "in.h5"], overwrite=True)
    with pytest.raises(OutputError, match=r"old.h5 exists already: give `overwrite`"):
        check_outputs(outputs, [tmp_path / "in.h5"])


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("overwrite", [False, True])
def test_two_outputs_are_two_files(tmp_path, exists, overwrite):
    path = tmp_path / "x"
    if exists:
        path.write_text("old")
    again = Path(tmp_path, "..", tmp_path.name, "x")
    with pytest.raises(OutputError, match="are one file"):
        check_outputs([path, again], [], overwrite=overwrite)


def test_a_closed_folder_is_no_place_for_an_output(tmp_path, as_others):
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o600)
    try:
        with pytest.raises(OutputError, match="cannot be written: Permission denied"):
            check_outputs([folder / "x.csv"], [])
    finally:
        folder.chmod(0o700)


def test_a_claim_ends_with_its_block_and_leaves_nothing(tmp_path):
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    busy = pytest.raises(OutputError, match="another process is writing b")
    with claimed_outputs(paths, []), busy, claimed_outputs(reversed(paths), []):
        pytest.fail("it was claimed twice")
    with claimed_outputs(paths, []):
        pass
    assert os.listdir(tmp_path) == []


def test_an_output_that_appears_while_it_is_claimed_is_kept(tmp_path, monkeypatch):
    """Another process has finished between the first look and the lock."""
    path = tmp_path / "a.csv"

    @contextlib.contextmanager
    def late(path):
        path.write_text("theirs")
        yield

    monkeypatch.setattr("cnnfeat.outputs.locked_output", late)
    exists = pytest.raises(OutputError, match="exists already")
    with exists, claimed_outputs([path], []):
        pytest.fail("it was claimed")
    assert path.read_text() == "theirs"


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("device", "is a device or a pipe"),
        ("pipe", "is a device or a pipe"),
        ("folder", "is a folder"),
        ("link", "is a symbolic link to .*there.txt: give that path"),
        ("broken", "is a symbolic link to .*gone: give that path"),
    ],
)
def test_only_regular_files_are_replaced(tmp_path, kind, words, overwrite):
    (tmp_path / "there.txt").write_text("old")
    (tmp_path / "link").symlink_to("there.txt")
    (tmp_path / "broken").symlink_to("gone")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    path = "/dev/null" if kind == "device" else tmp_path / kind
    with pytest.raises(OutputError, match=words) as caught:
        check_outputs([path], [], overwrite=overwrite)
    assert "`overwrite`" not in str(caught.value)
