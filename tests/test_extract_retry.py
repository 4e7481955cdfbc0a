"""`extract --retry-failed`: the file as if all images had been readable at once."""

import json
import os

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import FIRST_BLOCK, write_image
from PIL import Image
from store_rows import datasets, leftovers

from cnnfeat.cli.main import cli
from cnnfeat.store import open_features

HOW = (*FIRST_BLOCK, "--batch-size", 5, "--engine", "eager", "--json")


def extract(*arguments):
    arguments = ["extract", *map(str, HOW), *map(str, arguments)]
    return CliRunner().invoke(cli, arguments)


def report(*arguments):
    result = extract(*arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def lacking(image_dir, tmp_path):
    """Twelve images, two of them damaged, and their feature file."""
    folder = tmp_path / "out"
    folder.mkdir()
    kept = {}
    for name in ("ant/1.png", "cat/3.png"):
        kept[name] = (image_dir / name).read_bytes()
        (image_dir / name).write_bytes(kept[name][:60])
    assert report(image_dir, "-o", folder / "f.h5")["n_failed"] == 2
    return image_dir, folder / "f.h5", kept


def test_mended_images_get_the_rows_that_they_would_have_had(lacking, tmp_path):
    images, output, kept = lacking
    for name, data in kept.items():
        (images / name).write_bytes(data)
    record = report(images, "-o", output, "--retry-failed")
    # Rows 0 to 4 and 10 to 11: the batches of the two.
    assert (record["n_failed"], record["n_ok"], record["n_resumed"]) == (0, 12, 5)
    assert leftovers(output.parent) == ["f.h5"]
    report(images, "-o", tmp_path / "once.h5")
    assert datasets(output) == datasets(tmp_path / "once.h5")
    with h5py.File(output) as file, h5py.File(tmp_path / "once.h5") as once:
        assert dict(file["provenance"].attrs) == dict(once["provenance"].attrs)


def test_what_fails_again_keeps_its_reason(lacking):
    images, output, kept = lacking
    before = datasets(output)
    (images / "ant" / "1.png").write_bytes(kept["ant/1.png"])
    result = extract(images, "-o", output, "--retry-failed")
    assert json.loads(result.stdout)["n_failed"] == 1
    assert "cat/3.png" in result.stderr and "ant/1.png" not in result.stderr
    after = datasets(output)
    same = [k for k in range(12) if k != 1]
    for name in ("images/error", "images/ok", "images/digest"):
        old, new = before[name][1], after[name][1]
        assert [old[k] for k in same] == [new[k] for k in same] and old[1] != new[1]


def test_a_file_without_failed_rows_is_left_as_it_is(image_dir, tmp_path):
    output = tmp_path / "f.h5"
    report(image_dir, "-o", output)
    before = output.stat()
    record = report(image_dir, "-o", output, "--retry-failed")
    assert (record["n_failed"], record["n_resumed"]) == (0, 12)
    assert os.path.samestat(output.stat(), before)


def test_float16_rows_are_kept_to_the_bit(image_dir, tmp_path):
    data = (image_dir / "cat" / "3.png").read_bytes()
    (image_dir / "cat" / "3.png").write_bytes(b"")
    output, once = tmp_path / "f.h5", tmp_path / "once.h5"
    report(image_dir, "-o", output, "--dtype", "float16")
    (image_dir / "cat" / "3.png").write_bytes(data)
    report(image_dir, "-o", output, "--dtype", "float16", "--retry-failed")
    report(image_dir, "-o", once, "--dtype", "float16")
    assert datasets(output) == datasets(once)


def test_the_range_of_values_stays_that_of_the_file(image_dir, tmp_path):
    def write_deep(name, brightest):
        values = np.linspace(0, brightest, 48 * 48).astype(np.uint16)
        Image.fromarray(values.reshape(48, 48)).save(image_dir / name)

    for k in range(4):
        write_deep(f"ant/{k}.png", 3000 + k)
    (image_dir / "bee" / "0.png").write_bytes(b"")
    output = tmp_path / "f.h5"
    report(image_dir, "-o", output)
    with h5py.File(output) as file:
        before = file["provenance"].attrs["range"]
    write_deep("bee/0.png", 60_000)  # on its own it would settle another range
    record = report(image_dir, "-o", output, "--retry-failed")
    assert (record["n_failed"], record["n_resumed"]) == (0, 7)
    with h5py.File(output) as file:
        assert file["provenance"].attrs["range"] == before != "auto"


def refused(result, *words):
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1
    for word in words:
        assert word in result.stderr


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--layer", "features.3"), "layers was"),
        (("--crops", "ten"), "crops was 'center' and is now 'ten'"),
        (("--batch-size", 4), "batch_size was '5' and is now '4'"),
        (("--weights-seed", 3), "weights_sha256 was"),
    ],
)
def test_another_extraction_is_refused_and_the_file_kept(lacking, options, word):
    images, output, _ = lacking
    before = output.read_bytes()
    refused(extract(images, "-o", output, "--retry-failed", *options), word)
    assert output.read_bytes() == before
    assert leftovers(output.parent) == ["f.h5"]


def test_other_images_are_refused(lacking, tmp_path):
    images, output, _ = lacking
    before = output.read_bytes()
    write_image(images / "ant" / "0.png", seed=99)  # in a batch that is tried again
    refused(extract(images, "-o", output, "--retry-failed"), "ant/0.png is another")
    moved = images.rename(tmp_path / "moved")
    refused(extract(moved, "-o", output, "--retry-failed"), "root was")
    assert output.read_bytes() == before
    assert leftovers(output.parent) == ["f.h5"]


def test_a_missing_file_is_named(image_dir, tmp_path):
    refused(extract(image_dir, "-o", tmp_path / "f.h5", "--retry-failed"), "f.h5")
    assert leftovers(tmp_path) == ["images"]


@pytest.mark.parametrize("flag", ["--resume", "--overwrite"])
def test_it_excludes_the_other_ways_to_go_on(image_dir, tmp_path, flag):
    result = extract(image_dir, "-o", tmp_path / "f.h5", "--retry-failed", flag)
    assert result.exit_code == 2
    assert f"{flag} and --retry-failed contradict" in result.stderr


def test_rows_of_an_unfinished_run_are_not_lost(lacking, monkeypatch):
    images, output, _ = lacking
    monkeypatch.setattr(
        "cnnfeat.extract._kept.unfinished_run", lambda path: {"model": "tiny"}
    )
    refused(extract(images, "-o", output, "--retry-failed"), "--resume", "--overwrite")


def test_every_image_keeps_its_digest(lacking):
    _, output, _ = lacking
    with open_features(output) as features:
        digests = features.table.digests(np.arange(12))
        assert [not digest for digest in digests] == (~features.ok).tolist()
        assert len(set(digests)) == 11
