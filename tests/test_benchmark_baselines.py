"""Baselines and example images, however the images of a feature file were listed."""

import csv
import json
import shutil
import tarfile

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import FIRST_BLOCK

from cnnfeat.cli.main import cli
from cnnfeat.errors import InputError
from cnnfeat.images import (
    fingerprint_images,
    list_images,
    locate,
    relist_images,
    thumbnail_reader,
)
from cnnfeat.store import open_features

DRAWN = ("--train-per-class", "4", "--splits", "2", "--C", "1", "--quiet", "--json")


def run(*arguments, **more):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], **more)


def make_manifest(colour_dir, folder):
    """Write a manifest outside the images' folder, in another order than theirs."""
    paths = sorted(colour_dir.glob("*/*.png"))
    with open(folder / "list.csv", "w", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(["path", "label"])
        writer.writerows([path, path.parent.name] for path in reversed(paths))
    return folder / "list.csv"


def make_tar(colour_dir, folder):
    with tarfile.open(folder / "images.tar", "w") as archive:
        archive.add(colour_dir, ".")
    return folder / "images.tar"


@pytest.fixture(params=[make_manifest, make_tar])
def listed_features(request, colour_dir, tmp_path):
    """A feature file of images that no folder of class folders listed."""
    source = request.param(colour_dir, tmp_path)
    result = run("extract", source, "-o", tmp_path / "f.h5", *FIRST_BLOCK)
    assert result.exit_code == 0, result.output
    return tmp_path / "f.h5"


def test_baselines_are_extracted_from_manifests_and_tars(listed_features):
    result = run("benchmark", listed_features, *DRAWN, "--baseline", "pixels")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert [row["features"] for row in record["rows"]] == [
        "squeezenet1_1",
        "raw pixels",
    ]
    with (
        h5py.File(listed_features) as ours,
        h5py.File(record["sources"]["raw pixels"]) as theirs,
    ):
        assert list(ours["images/path"]) == list(theirs["images/path"])
        np.testing.assert_array_equal(ours["images/label"], theirs["images/label"])
    # Colours tell the classes apart: pixels of the right images and labels do well.
    assert record["rows"][1]["accuracy"]["mean"] > 0.9


def test_example_images_are_read_from_where_they_lie(listed_features, colour_dir):
    with open_features(listed_features) as features:
        labels, paths = features.labels, features.paths
        row = int(np.flatnonzero(labels == features.class_names.index("red"))[0])
        image = thumbnail_reader(features.table)(row)
    assert "red" in paths[row]
    assert image.dtype == np.uint8
    assert image.mean((0, 1)).argmax() == 0


def test_images_of_a_list_on_stdin_are_found_again(colour_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(colour_dir)
    lines = "\n".join(str(path) for path in sorted(colour_dir.glob("*/*.png"))[:3])
    asked = ("extract", "-", "-o", tmp_path / "f.h5", *FIRST_BLOCK)
    assert run(*asked, input=lines).exit_code == 0
    monkeypatch.chdir(tmp_path)
    with open_features(tmp_path / "f.h5") as features:
        images = relist_images(features.table)
        assert fingerprint_images(images) == features.provenance["images_sha256"]
        read = thumbnail_reader(features.table)
        assert all(read(row) is not None for row in range(3))


def test_rows_that_a_baseline_lacks_are_left_out_of_both(colour_dir, tmp_path):
    features, baseline = tmp_path / "f.h5", tmp_path / "f.baseline-pixels.h5"
    assert run("extract", colour_dir, "-o", features, *FIRST_BLOCK).exit_code == 0
    asked = ("benchmark", features, *DRAWN, "--baseline", "pixels")
    before = json.loads(run(*asked).stdout)
    lost = before["split_sets"][0]["splits"][0]["train"][:2]
    with h5py.File(baseline, "r+") as file:
        ok = file["images/ok"][:]
        ok[lost] = False
        file["images/ok"][:] = ok
    result = run(*asked)
    after = json.loads(result.stdout)
    assert (before["n_left_out"], after["n_left_out"]) == (0, 2)
    for split in after["split_sets"][0]["splits"]:
        assert not set(lost) & set(split["train"] + split["test"])
    told = "2 images have no features for raw pixels: they are left out of every row"
    assert told in result.stderr
    assert told in after["warnings"][0]


def test_verbose_tells_the_side_of_every_fit(colour_dir, tmp_path):
    features = tmp_path / "f.h5"
    assert run("extract", colour_dir, "-o", features, *FIRST_BLOCK).exit_code == 0
    result = run("benchmark", features, *DRAWN, "--verbose")
    (row,) = json.loads(result.stdout)["rows"]
    *lines, in_all = result.stderr.splitlines()
    assert in_all.endswith(" s in all")
    assert len(lines) == 2
    for index, line in enumerate(lines):
        assert f"{row['name']}, split {index}: 12 rows, C = 1: solved on the" in line
        assert f"the {row['solver'][index]} side in" in line


@pytest.mark.parametrize("name", [b"caf\xe9.png", b"plain.png", b"b\\x41.png"])
def test_names_that_are_not_text_are_found_again(tmp_path, image_dir, name):
    source = next(image_dir.glob("ant/*.png"))
    folder = tmp_path / "odd" / "ant"
    folder.mkdir(parents=True)
    path = bytes(folder) + b"/" + name
    with open(path, "wb") as file:
        file.write(source.read_bytes())
    listed = list_images(tmp_path / "odd")
    again = relist_images(listed)
    assert fingerprint_images(again) == fingerprint_images(listed)
    assert locate(again, 0).read() == source.read_bytes()


def test_a_tar_that_holds_other_images_now_is_refused(colour_dir, tmp_path):
    listed = list_images(make_tar(colour_dir, tmp_path))
    with pytest.raises(InputError, match="does not hold the images that it held"):
        relist_images(listed.take(np.arange(1, len(listed))))


def test_a_baseline_of_an_image_that_was_edited_in_place_is_refused(
    colour_dir, tmp_path
):
    images, features = tmp_path / "images", tmp_path / "f.h5"
    shutil.copytree(colour_dir, images)
    first, other = images / "red" / "0.png", images / "blue" / "0.png"
    size = max(first.stat().st_size, other.stat().st_size)
    for path in (first, other):
        path.write_bytes(path.read_bytes().ljust(size, b"\0"))
    assert run("extract", images, "-o", features, *FIRST_BLOCK).exit_code == 0
    shutil.copy(other, first)  # of equal size
    result = run("benchmark", features, *DRAWN, "--baseline", "pixels")
    assert result.exit_code == 1
    assert "red/0.png was changed in between; extract both anew" in result.stderr
