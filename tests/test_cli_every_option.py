"""Every option of every command is run once, end to end, and seen to have its effect.

The entries, what is run and what must be seen, are `option_entries.OPTIONS`.
"""

import csv
import json
import shutil
import tarfile

import click
import numpy as np
import option_entries
import pytest
import visualize_entries
from click.testing import CliRunner
from made_commands import patch
from made_features import write_features
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from tiny import make_tiny_network

from cnnfeat.cli.main import COMMANDS, cli
from cnnfeat.networks import load_network

BASE = {**option_entries.BASE, **visualize_entries.BASE}
OPTIONS = {**option_entries.OPTIONS, **visualize_entries.OPTIONS}
OUTPUT = option_entries.OUTPUT

pytestmark = pytest.mark.filterwarnings("ignore::cnnfeat.errors.CnnfeatWarning")


def flags():
    """Return every (command, flag), one flag an option."""
    return {
        (name, option.opts[-1])
        for name in COMMANDS
        for option in cli.get_command(click.Context(cli), name).params
        if isinstance(option, click.Option)
    }


def test_every_option_is_run():
    listed = {(name, flag) for name, options in OPTIONS.items() for flag in options}
    assert sorted(flags() - listed) == []
    assert sorted(listed - flags()) == []


def invoke(*arguments, status=0):
    result = CliRunner().invoke(cli, [str(one) for one in arguments])
    assert result.exit_code == status, result.output
    return result


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, small_images):
    """What the command lines read, by the names that they have there."""
    folder = tmp_path_factory.mktemp("inputs")
    features = write_features(folder / "features.h5")
    names = {"images": small_images, "features": features}
    images_features = folder / "images.h5"
    base = BASE["extract"].format(out=folder, **names).split()
    invoke("extract", *base)
    (folder / "f.h5").rename(images_features)
    head, images_head = folder / "head.h5", folder / "images_head.h5"
    line = f"train-svm {features} -o {head} --layer layer10 --C 1 --train-per-class 3"
    invoke(*line.split())
    invoke("train-svm", images_features, "-o", images_head, "--C", 1)
    with tarfile.open(folder / "x.tar", "w") as tar:
        tar.add(small_images, "x")
    archive = folder / "x.tar"
    names["partial"] = write_partial_weights(folder / "partial.safetensors")
    names |= {"head": head, "images_head": images_head, "archive": archive}
    names |= {"images_features": images_features, "foreign": folder / "foreign"}
    names["shards"] = folder / "shards"
    names["shards"].mkdir()
    base[base.index("-o") + 1] = str(names["shards"] / "f.h5")
    invoke("extract", *base, "--batch-size", 4, "--shards", 2)
    rows = np.arange(30, dtype=np.float32).reshape(10, 3)
    paths = [f"{'ant' if k < 4 else 'bee'}/{k}.png" for k in range(10)]
    np.savez(folder / "foreign.npz", a=rows[:, :2], b=rows, paths=paths)
    np.save(folder / "foreign.npy", rows)
    (folder / "foreign.txt").write_text("\n".join(paths))
    return names | write_tables(folder, small_images) | write_splits(folder)


def write_partial_weights(path):
    """Write the weights of a network without one of its blocks."""
    module = load_network("squeezenet1_1", weights="random", device="cpu").module
    state = module.state_dict()
    save_file({k: v for k, v in state.items() if "features.12." not in k}, path)
    return path


def serve_weights(monkeypatch, path):
    """Let a file be what the network's address leads to."""
    monkeypatch.setattr(
        "cnnfeat.download.fetch_file",
        lambda remote, to, **how: shutil.copy(path, to),
    )


def write_splits(folder):
    """Write a file of two splits that train on one and on two images of a class."""
    rows = [["path", "split", "split_index"]]
    for index, n_train in enumerate((1, 2)):
        for name in ("ant", "bee", "cat"):
            for k in range(4):
                side = "train" if k < n_train else "test"
                rows.append([f"{name}/{k}.png", side, str(index)])
    return {"image_splits": write_table(folder / "splits.csv", rows)}


def write_table(path, rows, sep=","):
    """Write the rows as a table."""
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=sep).writerows(rows)
    return path


def write_tables(folder, images):
    """Write tables of ten images in two classes; each needs one option to be read."""
    rows = [
        (str(images / name / f"{k}.png"), "light" if k % 2 else "dark", name, k // 2)
        for name in ("ant", "bee", "cat")
        for k in range(4)
    ][:10]
    plain = [(path, kind) for path, kind, _, _ in rows]
    above = [(path.removeprefix(f"{images.parent}/"), kind) for path, kind in plain]
    rare = (str(images / "cat" / "3.png"), "rare")
    kept = [(path, name, kind, f"plate {n}") for path, kind, name, n in rows]
    header = ("path", "label")
    tables = {
        "plain": [header, *plain],
        "by_file": [("file", "label"), *plain],
        "above": [header, *above],
        "rare": [header, *plain, rare],
        "kept": [("path", "label", "kind", "plate"), *kept],
    }
    written = {
        name: write_table(folder / f"{name}.csv", lines)
        for name, lines in tables.items()
    }
    caret = write_table(folder / "caret.csv", tables["plain"], "^")
    return {**written, "caret": caret}


@pytest.fixture(scope="module")
def small_images(tmp_path_factory):
    """Three classes of four images."""
    from conftest import write_image

    root = tmp_path_factory.mktemp("small") / "images"
    for label, name in enumerate(("ant", "bee", "cat")):
        (root / name).mkdir(parents=True)
        for k in range(4):
            write_image(root / name / f"{k}.png", seed=10 * label + k)
    return root


@pytest.fixture(scope="module")
def more(inputs, tmp_path_factory):
    """A data set of published lists, and a head that fits the miniature network."""
    folder = tmp_path_factory.mktemp("more")
    mit67 = write_features(folder / "mit67.h5", n_per_class=3, n_classes=67)
    (folder / "lists").mkdir()
    for side, rows in (("Train", (0, 1)), ("Test", (2,))):
        lines = [f"class{k}/{3 * k + row:03d}.png" for k in range(67) for row in rows]
        (folder / "lists" / f"{side}Images.txt").write_text("\n".join(lines))
    with pytest.MonkeyPatch.context() as monkeypatch:
        name = "cnnfeat.networks._request.load_network"
        monkeypatch.setattr(name, lambda *_, **__: make_tiny_network())
        line = f"-o {folder}/t.h5 --layer flatten --engine eager --workers 0"
        invoke("extract", inputs["images"], *line.split())
    invoke("train-softmax", folder / "t.h5", "-o", folder / "tiny.h5", "--C", 1)
    return {"mit67": mit67, "lists": folder / "lists", "tiny_head": folder / "tiny.h5"}


@pytest.fixture(scope="module")
def labelled(inputs, tmp_path_factory):
    """Features with kept columns and their head; images of pages; nameless weights."""
    folder = tmp_path_factory.mktemp("labelled")
    line = BASE["extract"].format(out=folder, images=inputs["kept"])
    invoke("extract", *line.split())
    (folder / "f.h5").rename(folder / "kept.h5")
    names = {"kept_features": folder / "kept.h5", "kind_head": folder / "kind.h5"}
    line = "train-svm {kept_features} -o {kind_head} --label-column kind --C 1"
    invoke(*line.format(**names).split())
    for name in ("ant", "bee"):
        (folder / "stacks" / name).mkdir(parents=True)
        page = Image.open(inputs["images"] / name / "0.png")
        page.save(
            folder / "stacks" / name / "0.tif", save_all=True, append_images=[page]
        )
    shutil.copytree(inputs["images"], folder / "broken")
    for path in (folder / "broken" / "ant").iterdir():
        path.write_bytes(b"no image")
    return {
        **names,
        "stacks": folder / "stacks",
        "broken": folder / "broken",
        "nameless": write_nameless(folder, inputs["images"]),
    }


def write_nameless(folder, images):
    """Fine-tune a network, and take its name out of the file."""
    line = f"finetune {images} -o {folder}/w.safetensors --model squeezenet1_1 "
    line += "--weights random --train head --epochs 1 --no-frozen --workers 0"
    invoke(*line.split())
    with safe_open(folder / "w.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        told = json.loads(file.metadata()["cnnfeat"])
    del told["model"]
    metadata = {"cnnfeat": json.dumps(told)}
    save_file(tensors, folder / "nameless.safetensors", metadata=metadata)
    return folder / "nameless.safetensors"


# What is there before --overwrite.
OLD = {
    **OUTPUT,
    **dict.fromkeys(("leaks", "suspects", "compare", "evaluate", "predict"), "p.csv"),
    **dict.fromkeys(visualize_entries.BASE, "look.png"),
    "benchmark": "table.md",
}
OLD |= {"export": "x.npz"}


@pytest.mark.parametrize(
    ("name", "flag"), [(name, flag) for name in OPTIONS for flag in OPTIONS[name]]
)
def test_an_option_has_its_effect(
    inputs, more, labelled, tmp_path, monkeypatch, name, flag
):
    if flag == "--tensorboard":
        pytest.importorskip("tensorboard")
    patch(monkeypatch)
    added, check = OPTIONS[name][flag]
    line = added[1:] if added.startswith("=") else f"{BASE[name]} {added}"
    out = tmp_path / "out"
    out.mkdir()
    if name == "download":
        shutil.copy(inputs["archive"], out / "x.tar")
    if name == "weights":
        serve_weights(monkeypatch, inputs["partial"])
    if flag == "--overwrite":
        (out / OLD[name]).write_text("old")
    if flag in ("--retry-failed", "--add"):
        shutil.copy(inputs["images_features"], out / "f.h5")
    arguments = line.format(out=out, **inputs, **more, **labelled).split()
    given = [] if flag in ("--quiet", "--verbose") else ["--quiet"]
    given = [one for one in given if (name, one) in flags()]
    status = getattr(check, "status", 0)
    result = invoke(*name.split(), *arguments, *given, "--json", status=status)
    record = {"report": json.loads(result.stdout or "{}")}
    is_whole = name != "splits" and flag not in ("--shard", "--shards")
    if name in OUTPUT and is_whole and not status:
        record["info"] = json.loads(invoke("info", out / OUTPUT[name], "--json").stdout)
    check(record, result.stderr, out)
