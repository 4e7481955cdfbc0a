"""The demo's images: patches of photographs, no pixel both trained and tested on."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnfeat.images import list_images
from cnnfeat.splits import read_splits

SCRIPT = Path(__file__).resolve().parent.parent / "data" / "make_photographs.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_photographs", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def two_colours(width, height):
    """Return an image whose left half is red and whose right half is blue."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = pixels[:, width // 2 :, 2] = 200
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def patches(script, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "patches"
    made = {"even": two_colours(60, 40), "odd": two_colours(45, 61)}
    script.write_patches(made.items(), folder)
    return folder


def test_training_patches_are_of_the_left_half_and_test_patches_of_the_right(patches):
    table = list_images(str(patches))
    splits = read_splits(patches / "splits.csv", table.paths)
    for split in splits:
        for rows, channel in ((split.train, 0), (split.test, 2)):
            for row in rows:
                pixels = np.asarray(Image.open(patches / table.paths[row]), dtype=int)
                assert (pixels.argmax(axis=2) == channel).all(), table.paths[row]


def test_each_split_has_patches_of_its_own(script, patches):
    table = list_images(str(patches))
    splits = read_splits(patches / "splits.csv", table.paths)
    rows = np.concatenate([part for s in splits for part in (s.train, s.test)])
    assert len(splits) == script.N_SPLITS
    assert sorted(rows) == list(range(len(table)))
    for split in splits:
        for part in (split.train, split.test):
            assert np.bincount(table.labels[part]).tolist() == [script.N_PATCHES] * 2


def test_the_same_seed_makes_the_same_patches(script, patches, tmp_path):
    made = [("even", two_colours(60, 40))]
    for name, seed in (("same", 0), ("other", 1)):
        script.write_patches(made, tmp_path / name, seed=seed)
    files = sorted((patches / "even").iterdir())
    same = [(tmp_path / "same/even" / one.name).read_bytes() for one in files]
    other = [(tmp_path / "other/even" / one.name).read_bytes() for one in files]
    assert same == [one.read_bytes() for one in files]
    assert same != other


def test_the_photographs_are_inside_the_packages(script):
    pytest.importorskip("skimage")
    photographs = script.find_photographs()
    assert len(photographs) == 19
    assert all(image.mode == "RGB" for image in photographs.values())
    # A half is large enough for patches that are not blown up from a few pixels.
    assert min(min(image.size) for image in photographs.values()) >= 170


def test_a_missing_package_is_told(script, monkeypatch):
    monkeypatch.setattr(script, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"install cnnfeat\[demo\]"):
        script.find_photographs()
