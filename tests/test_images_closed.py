"""Folders that are too deep to name, and folders that are closed to us."""

import os
import subprocess
from functools import partial
from pathlib import Path

import pytest
from conftest import write_image

from cnnfeat.errors import ImageError, InputError
from cnnfeat.images import list_images, locate


@pytest.fixture
def nest(tmp_path):
    """Make folders inside each other, whatever the length of their path."""
    yield partial(_nest, tmp_path)
    # pytest could not: what removes folders in Python takes a recursion a level.
    subprocess.run(["rm", "-rf", tmp_path], check=True)


def _nest(folder, depth, name):
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(folder)
        for _ in range(depth):
            os.mkdir(name)
            os.chdir(name)
        Path("x.png").write_bytes(b"")
    finally:
        os.fchdir(here)
        os.close(here)


def test_a_folder_deeper_than_any_recursion_is_listed(tmp_path, nest):
    nest(1500, "d")
    (path,) = list_images(tmp_path).paths
    assert path.count("/") == 1500


def test_a_path_longer_than_the_system_takes_is_an_error(tmp_path, nest):
    nest(60, "d" * 99)
    with pytest.raises(InputError, match="cannot be listed: file name too long"):
        list_images(tmp_path)


@pytest.mark.parametrize("mode", [0o000, 0o400, 0o200], ids=["none", "list", "write"])
def test_a_closed_folder_is_an_error_and_its_images_are(tmp_path, as_others, mode):
    """Without the right to search it, the names in a folder lead nowhere."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    write_image(tmp_path / "a" / "b" / "x.png", seed=0)
    (tmp_path / "a").chmod(mode)
    try:
        with pytest.raises(InputError, match=r"a(/b)?: the folder cannot be listed: "):
            list_images(tmp_path)
        with pytest.raises(InputError, match="no such file"):
            list_images(tmp_path / "a" / "b")
        lines = list_images("-", stdin=[str(tmp_path / "a" / "b" / "x.png")])
        with pytest.raises(ImageError, match="cannot be opened: permission denied"):
            locate(lines, 0).read()
    finally:
        (tmp_path / "a").chmod(0o700)
