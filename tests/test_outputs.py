"""Outputs appear whole or not at all, with the rights of any file; JSON has no NaN."""

import json
import os

import numpy as np
import pytest

from cnnfeat.errors import OutputError
from cnnfeat.outputs import atomic_output, json_safe


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
