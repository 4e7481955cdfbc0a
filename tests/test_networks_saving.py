"""Weights files: what they hold, who may read them, what a full disk leaves."""

import os

import pytest
import torch

from cnnfeat.errors import OutputError
from cnnfeat.networks import read_weights_metadata, save_weights
from cnnfeat.networks._weights import read_state_dict

both_kinds = pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])


@both_kinds
def test_saved_weights_are_read_back(tmp_path, name):
    state = {"w": torch.rand(3, 2).T, "n": torch.tensor(7)}
    save_weights(tmp_path / name, state, {"model": "tiny"})
    found = read_state_dict(tmp_path / name)[0]
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key]) for key in state)
    assert read_weights_metadata(tmp_path / name)["model"] == "tiny"


@both_kinds
@pytest.mark.parametrize(("umask", "rights"), [(0o022, 0o644), (0o077, 0o600)])
def test_weights_have_the_rights_that_open_gives(tmp_path, name, umask, rights):
    before = os.umask(umask)
    try:
        save_weights(tmp_path / name, {"w": torch.rand(2)}, {})
    finally:
        os.umask(before)
    assert (tmp_path / name).stat().st_mode & 0o777 == rights


@both_kinds
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, small_files, name):
    state = {"w": torch.zeros(100_000)}
    with small_files, pytest.raises(OutputError, match="File too large") as failed:
        save_weights(tmp_path / name, state, {})
    assert str(tmp_path / name) in str(failed.value) and "\n" not in str(failed.value)
    assert list(tmp_path.iterdir()) == []
