"""Inputs that are damaged or no longer what they were: one line, and nothing left."""

import os
import shutil
from pathlib import Path

import h5py
import pytest
from click.testing import CliRunner
from made_commands import patch

from cnnfeat.cli.main import cli

pytestmark = pytest.mark.filterwarnings("ignore::cnnfeat.errors.CnnfeatWarning")

# The damaged input is `{bad}` with the suffix that it should have.
LINES = {
    "extract {bad}.tar -o f.h5": "images.tar",
    "extract {bad}.csv -o f.h5": "no manifest",
    "extract {images} --weights {bad}.pth -o f.h5": "no weights",
    "extract {images} --weights {bad}.safetensors -o f.h5": "no weights",
    "train-svm {bad}.h5 -o h.h5": "features.h5",
    "train-softmax {bad}.h5 -o h.h5": "features.h5",
    "evaluate {bad}.h5 {features} --predictions p.csv": "head.h5",
    "evaluate {head} {bad}.h5 --confusion c.png": "features.h5",
    "benchmark {bad}.h5 --report report --train-per-class 4": "features.h5",
    "benchmark {features} --report report --splits-file {bad}.csv": "no splits",
    "splits {bad}.h5 -o s.csv --train-per-class 4": "features.h5",
    "splits {bad}.tar -o s.csv --train-per-class 4": "images.tar",
    "finetune {images} -o w.pth --splits-file {bad}.csv": "no splits",
    "finetune {images} -o w.pth --init {bad}.h5": "head.h5",
    "finetune {images} -o w.pth --augment {bad}.json": "no ranges",
    "finetune {bad}.tar -o w.pth": "images.tar",
    "finetune {images} --show-augment s.png --augment {bad}.json": "no ranges",
    "predict {bad}.h5 {images} -o p.csv": "head.h5",
    "predict {bad}.pth {images} -o p.csv": "no weights",
    "predict {head} {bad}.tar -o p.csv": "images.tar",
    "export {bad}.h5 -o x.npz": "features.h5",
    "export {bad}.h5 -o x.pt2": "head.h5",
    "export {bad}.pth -o x.onnx": "no weights",
    "merge {bad}.h5 -o f.h5": "features.h5",
    "import {bad}.npz -o f.h5": "foreign.npz",
    "import {bad}.npy -o f.h5": "foreign.npy",
    "import {bad}.parquet -o f.h5": "foreign.parquet",
    "info {bad}.h5": "features.h5",
    "info {bad}.safetensors": "no weights",
}


@pytest.fixture
def inputs(colour_dir, colour_features, colour_head, tmp_path, monkeypatch):
    """Sound inputs by name; the current folder is another, and empty."""
    patch(monkeypatch)
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    archive = shutil.make_archive(tmp_path / "images", "tar", colour_dir)
    return {
        **write_foreign(tmp_path, colour_features),
        "images": colour_dir,
        "features": colour_features,
        "head": colour_head,
        "images.tar": archive,
        "features.h5": colour_features,
        "head.h5": colour_head,
    }


def write_foreign(folder, features):
    """Write what `import` reads, by the names that the command lines have for it."""
    names = {
        f"foreign{one}": folder / f"f{one}" for one in (".npz", ".npy", ".parquet")
    }
    for path in names.values():
        result = CliRunner().invoke(cli, ["export", str(features), "-o", str(path)])
        assert result.exit_code == 0, result.output
    return names


def refusal(line):
    """Return the one line of a command that is refused and leaves nothing."""
    # What `finetune` is doing comes before what it cannot do.
    quiet = ["--quiet"] if line.startswith("finetune") else []
    result = CliRunner().invoke(cli, [*line.split(), *quiet])
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert os.listdir() == []
    told = [one for one in result.stderr.splitlines() if "warning: " not in one]
    assert len(told) == 1, result.stderr
    return told[0]


@pytest.mark.parametrize("damage", ["cut", "empty", "noise"])
@pytest.mark.parametrize("line", LINES)
def test_a_damaged_input_is_one_line_and_leaves_nothing(inputs, tmp_path, line, damage):
    suffix = line.split("{bad}")[1].split()[0]
    bad = tmp_path / f"bad{suffix}"
    sound = inputs.get(LINES[line])
    data = Path(sound).read_bytes() if sound else b"\x80\x04" + bytes(range(256))
    bad.write_bytes(
        {"cut": data[: len(data) // 2], "empty": b"", "noise": b"\xff\x00{" * 99}[
            damage
        ]
    )
    told = refusal(line.format(bad=tmp_path / "bad", **inputs))
    assert told.startswith("cnnfeat: ") and f"bad{suffix}" in told


def test_a_damaged_archive_leaves_only_itself(tmp_path, monkeypatch):
    patch(monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.tar").write_bytes(b"\xff\x00{" * 99)
    result = CliRunner().invoke(cli, ["download", "caltech101", "."])
    assert result.exit_code == 1 and "x.tar: neither a zip nor a tar" in result.stderr
    assert os.listdir() == ["x.tar"]


def test_a_head_whose_weights_are_others_now_is_refused(inputs, tmp_path):
    head = shutil.copy(inputs["head"], tmp_path / "head.h5")
    with h5py.File(head, "r+") as file:
        file["provenance"].attrs["weights_sha256"] = "0" * 64
    told = refusal(f"predict {head} {inputs['images']} -o p.csv --workers 0 --quiet")
    assert "weights_sha256" in told and "put those weights back" in told


def test_splits_of_other_images_are_refused(inputs, tmp_path):
    splits = tmp_path / "s.csv"
    splits.write_text("path,split\nelsewhere/1.png,train\nelsewhere/2.png,test\n")
    for line in (
        f"benchmark {inputs['features']} --report r --splits-file {splits} --quiet",
        f"finetune {inputs['images']} -o w.pth --splits-file {splits} --quiet",
    ):
        assert "2 of 2" in refusal(line)
