"""Every option of every command is run once, end to end, and seen to have its effect.

An entry of `OPTIONS` is a command's flag: what is added to the command line, and what
the record of the run must then say. The record joins what the command prints with
`--json` and what `cnnfeat info` says of its output.
"""

import json
import re
import shutil
import tarfile

import click
import pytest
from click.testing import CliRunner
from made_commands import patch
from made_features import write_features
from tiny import make_tiny_network

from cnnfeat.cli.main import COMMANDS, cli

pytestmark = pytest.mark.filterwarnings("ignore::cnnfeat.errors.CnnfeatWarning")

BASE = {
    "extract": "{images} -o {out}/f.h5 --model squeezenet1_1 --weights random "
    "--layer features.1 --pool avg --workers 0 --engine eager",
    "layers": "--model squeezenet1_1",
    "models": "squeezenet*",
    "info": "{features}",
    "train-svm": "{features} -o {out}/h.h5 --layer layer10 --C 1",
    "train-softmax": "{features} -o {out}/h.h5 --layer layer10 --C 1",
    "evaluate": "{head} {features}",
    "benchmark": "{features} --train-per-class 4 --splits 2 --layer layer10 --C 1",
    "splits": "{features} --train-per-class 4 --splits 2 -o {out}/s.csv",
    "finetune": "{images} -o {out}/w.pth --epochs 1 --no-frozen --workers 0 "
    "--batch-size 8",
    "predict": "{images_head} {images} --workers 0 --engine eager",
    "download": "caltech101 {out}",
}
OUTPUT = {
    **{"extract": "f.h5", "train-svm": "h.h5", "train-softmax": "h.h5"},
    **{"splits": "s.csv", "finetune": "w.pth"},
}


def says(path, expected):
    """Return a check: the record says `expected` at the dotted path."""

    def check(record, told, out):
        found = record
        for key in path.split("/"):
            found = found[int(key)] if isinstance(found, list) else found[key]
        if isinstance(expected, float):
            assert found == pytest.approx(expected)
        else:
            assert found == expected

    return check


def file_begins(name, start):
    """Return a check: a file is there, and begins with some bytes."""
    return lambda record, told, out: _begins(out / name, start)


def _begins(path, start):
    assert path.read_bytes().startswith(start)


def tells(pattern):
    """Return a check: stderr has a line of that pattern."""

    def check(record, told, out):
        assert re.search(pattern, told), told

    return check


def is_silent(record, told, out):
    """Check that stderr has nothing but warnings."""
    assert all(one.startswith("cnnfeat: warning: ") for one in told.splitlines())


def works(record, told, out):
    """Check nothing more: the option moves work, and changes no result."""
    assert record


def chose(field, expected):
    """Return a check of a head's hyper-parameters."""
    return says(f"info/hyperparameters/{field}", expected)


def trained(field, expected):
    """Return a check of a fine-tuned file's options."""
    return says(f"info/options/{field}", expected)


MIT67 = "={mit67} --protocol mit67 --lists {lists}"
TALK = {
    "--json": ("", works),
    "--quiet": ("--quiet", is_silent),
    "--verbose": ("--verbose", tells(r"\d s in all")),
}
COMMON = {
    **TALK,
    "--device": ("--device cpu", works),
    "--overwrite": ("--overwrite", works),
}
HEAD_OPTIONS = {
    "--output": ("", says("info/kind", "head")),
    "--layer": ("--layer layer2", says("report/layer", "layer2")),
    "--C": ("--C 0.5", says("report/C", 0.5)),
    "--train-per-class": ("--train-per-class 3", says("report/n_train", 12)),
    "--test-per-class": (
        "--train-per-class 3 --test-per-class 1",
        says("report/n_heldout", 4),
    ),
    "--exclude": ("--exclude class0", says("report/n_classes", 3)),
    "--seed": ("--seed 3 --train-per-class 2", chose("seed", 3)),
    "--scale": ("--scale standard", chose("scale", "standard")),
    "--signed-sqrt": ("--signed-sqrt", chose("signed_sqrt", True)),
    "--pca": ("--pca 3", chose("n_components", 3)),
    "--dropout": ("--dropout 0.3", chose("dropout", 0.3)),
    "--device": ("--device cpu", chose("device", "cpu")),
    "--overwrite": COMMON["--overwrite"],
    **TALK,
    "--verbose": ("--verbose", tells("solved on the .* side in")),
}
EXTRACT_OPTIONS = {
    **COMMON,
    "--output": ("", says("info/n_images", 12)),
    "--model": ("--model squeezenet1_0", says("report/model", "squeezenet1_0")),
    "--weights": ("--weights random", says("info/provenance/weights", "random")),
    "--weights-seed": ("--weights-seed 7", says("info/provenance/weights_seed", "7")),
    "--layer": ("--layer features.0", says("report/layers/features.0", [64])),
    "--pool": ("--pool max", says("info/layers/0/pool", "max")),
    "--crops": ("--crops ten", says("info/provenance/crops", "ten")),
    "--batch-size": ("--batch-size 5", works),
    "--workers": ("--workers 1", works),
    "--engine": ("--engine eager", says("report/engine", "eager")),
    "--decoder": ("--decoder fast", says("info/provenance/decoder", "fast")),
    "--precision": ("--precision bf16", says("info/provenance/precision", "bf16")),
    "--dtype": ("--dtype float16", says("info/layers/0/dtype", "float16")),
    "--on-error": ("--on-error fail", says("report/n_failed", 0)),
    "--max-failed": ("--max-failed 1%", says("report/n_failed", 0)),
    "--resume": ("--resume", says("report/n_resumed", 0)),
    "--retry-failed": ("--retry-failed", says("report/n_failed", 0)),
    "--range": ("--range 0,200", says("info/provenance/range", "0,200")),
    "--pages": ("--pages all", says("report/n_images", 12)),
    "--tokens": (
        "={images} -o {out}/f.h5 --model timm/vit_tiny_patch16_224 --weights random "
        "--tokens cls --workers 0 --engine eager",
        says("report/layers/norm", [192]),
    ),
}
BENCHMARK_OPTIONS = {
    **COMMON,
    "--protocol": ("--protocol folder", says("report/protocol", "folder")),
    "--layer": ("--layer layer2", says("report/rows/1/layer", "layer2")),
    "--head": ("--head softmax", says("report/rows/0/head", "softmax")),
    "--splits": ("--splits 3", says("report/n_splits", 3)),
    "--train-per-class": (
        "--train-per-class 3",
        says("report/rows/0/train_per_class", 3),
    ),
    "--test-per-class": ("--test-per-class 1", works),
    "--seed": ("--seed 5", says("report/split_sets/0/splits/0/seed", 5)),
    "--lists": (f"{MIT67} --layer layer10 --C 1", says("report/protocol", "mit67")),
    "--train-sizes": (
        "={features} --layer layer10 --C 1 --train-sizes 2,3",
        says("report/rows/1/train_per_class", 3),
    ),
    "--splits-file": (
        "={features} --layer layer10 --C 1 --splits-file {splits}",
        works,
    ),
    "--C": ("--C 0.25", says("report/rows/0/C/0", 0.25)),
    "--scale": ("--scale none", says("report/settings/scale", "none")),
    "--signed-sqrt": ("--signed-sqrt", says("report/settings/signed_sqrt", True)),
    "--pca": ("--pca 3", says("report/settings/n_components", 3)),
    "--dropout": ("--dropout 0.3", says("report/settings/heads/svm/dropout", 0.3)),
    "--baseline": (
        "={images_features} --train-per-class 2 --C 1 --baseline pixels",
        says("report/rows/1/features", "raw pixels"),
    ),
    "--compare": ("--layer layer2 --compare layer2 layer10", works),
    "--report": ("--report {out}", file_begins("index.html", b"<!DOCTYPE html>")),
    "--memory-mib": ("--memory-mib 1", works),
    "--verbose": ("--verbose", tells("solved on the .* side in")),
}
SPLITS_OPTIONS = {
    "--protocol": ("--protocol folder", says("report/protocol", "folder")),
    "--output": ("", file_begins("s.csv", b"path,split")),
    "--splits": ("--splits 3", says("report/n_splits", 3)),
    "--train-per-class": ("--train-per-class 3", says("report/n_train/0", 12)),
    "--test-per-class": ("--test-per-class 1", says("report/n_test/0", 4)),
    "--seed": ("--seed 5", works),
    "--lists": (f"{MIT67} -o {{out}}/s.csv", says("report/protocol", "mit67")),
    "--overwrite": COMMON["--overwrite"],
    **TALK,
}
FINETUNE_OPTIONS = {
    **COMMON,
    "--output": ("", says("info/kind", "weights")),
    "--show-augment": (
        "--show-augment {out}/a.svg",
        file_begins("a.svg", b"<?xml"),
    ),
    "--model": ("--model squeezenet1_1", trained("model", "squeezenet1_1")),
    "--weights": ("--weights random", trained("weights", "random")),
    "--weights-seed": ("--weights-seed 4", trained("weights_seed", 4)),
    "--train": ("--train last:1", trained("train", "last:1")),
    "--init": ("--init {tiny_head}", works),
    "--interpolate": (
        "--init {tiny_head} --interpolate 0.5",
        trained("interpolate", 0.5),
    ),
    "--epochs": ("--epochs 2", says("info/n_epochs", 2)),
    "--batch-size": ("--batch-size 5", trained("batch_size", 5)),
    "--lr": ("--lr 0.002", trained("lr", 0.002)),
    "--backbone-lr-scale": (
        "--backbone-lr-scale 0.5",
        trained("backbone_lr_scale", 0.5),
    ),
    "--optimizer": ("--optimizer adamw", trained("optimizer", "adamw")),
    "--weight-decay": ("--weight-decay 0.1", trained("weight_decay", 0.1)),
    "--schedule": ("--schedule plateau", trained("schedule", "plateau")),
    "--warmup-epochs": ("--warmup-epochs 0.5", trained("warmup_epochs", 0.5)),
    "--plateau-epochs": (
        "--schedule plateau --plateau-epochs 2",
        trained("plateau_epochs", 2),
    ),
    "--dropout": ("--dropout 0.2", trained("dropout", 0.2)),
    "--label-smoothing": ("--label-smoothing 0.1", trained("label_smoothing", 0.1)),
    "--clip-norm": ("--clip-norm 1", trained("clip_norm", 1.0)),
    "--batch-norm": ("--batch-norm frozen", trained("batch_norm", "frozen")),
    "--precision": ("--precision bf16", trained("precision", "bf16")),
    "--augment": ("--augment classic", trained("augment", "classic")),
    "--validation": ("--validation 0.3", trained("validation", 0.3)),
    "--patience": ("--patience 3", trained("patience", 3)),
    "--train-per-class": ("--train-per-class 3", says("report/n_test", 3)),
    "--test-per-class": (
        "--train-per-class 2 --test-per-class 1",
        says("report/n_test", 3),
    ),
    "--splits-file": ("--splits-file {image_splits}", says("report/n_test", 3)),
    "--split-index": (
        "--splits-file {image_splits} --split-index 1",
        trained("split_index", 1),
    ),
    "--exclude": ("--exclude ant", says("report/n_classes", 2)),
    "--seed": ("--seed 9", trained("seed", 9)),
    "--workers": ("--workers 1", works),
    "--cache-mib": ("--cache-mib 0", works),
    "--checkpoint-minutes": ("--checkpoint-minutes 0", works),
    "--log-file": ("--log-file {out}/l.jsonl", file_begins("l.jsonl", b'{"epoch": 1')),
    "--curves": ("--curves {out}/c.pdf", file_begins("c.pdf", b"%PDF")),
    "--tensorboard": ("--tensorboard {out}/events", works),
    "--frozen": ("--frozen --train-per-class 3", says("report/n_test", 3)),
    "--resume": ("--resume", works),
    "--range": ("--range full", trained("value_range", "full")),
    "--pages": ("--pages all", trained("pages", "all")),
}
OPTIONS = {
    "extract": EXTRACT_OPTIONS,
    "layers": {
        "--model": (
            "--model alexnet --all",
            says("report/layers/0/name", "features.0"),
        ),
        "--all": ("--all", works),
        **TALK,
    },
    "models": {**TALK, "--json": ("", says("report/models/0/name", "squeezenet1_0"))},
    "info": {**TALK, "--json": ("", says("report/n_images", 48))},
    "train-svm": HEAD_OPTIONS,
    "train-softmax": HEAD_OPTIONS,
    "evaluate": {
        "--rows": ("--rows all", says("report/n_images", 48)),
        "--confusion": ("--confusion {out}/c.svg", file_begins("c.svg", b"<?xml")),
        "--predictions": (
            "--predictions {out}/p.csv",
            file_begins("p.csv", b"path,label,predicted"),
        ),
        "--overwrite": COMMON["--overwrite"],
        **TALK,
    },
    "benchmark": BENCHMARK_OPTIONS,
    "splits": SPLITS_OPTIONS,
    "finetune": FINETUNE_OPTIONS,
    "predict": {
        **COMMON,
        "--output": ("-o {out}/p.csv", file_begins("p.csv", b"path,label")),
        "--model": ("--model squeezenet1_1", works),
        "--pages": ("--pages 1", says("report/n_images", 12)),
        "--top": ("--top 2", lambda record, *_: two_labels(record)),
        "--batch-size": ("--batch-size 5", works),
        "--workers": ("--workers 1", works),
        "--engine": ("--engine eager", says("report/engine", "eager")),
    },
    "download": TALK,
}


def two_labels(record):
    assert {len(one["labels"]) for one in record["report"]["predictions"]} == {2}


def flags():
    """Return every (command, flag), one flag an option."""
    return {
        (name, option.opts[-1])
        for name in COMMANDS
        for option in cli.get_command(click.Context(cli), name).params
        if isinstance(option, click.Option)
    }


# Options that have no entry yet; none is to be added.
WITHOUT = {
    "benchmark": (
        "--folds --group --label-column --labels --path-column --root "
        "--sep --skip-small --test-share"
    ),
    "evaluate": (
        "--label-column --labels --mistakes --path-column --per-class --root --sep"
    ),
    "extract": "--label-column --path-column --root --sep",
    "finetune": (
        "--group --label-column --path-column --root --sep --skip-small --test-share"
    ),
    "predict": (
        "--label-column --path-column --root --sep --split-index --splits-file"
    ),
    "splits": (
        "--folds --group --label-column --labels --path-column --root "
        "--sep --skip-small --test-share"
    ),
    "train-softmax": (
        "--group --label-column --labels --path-column --root --sep "
        "--skip-small --split-index --splits-file --test-share"
    ),
    "train-svm": (
        "--group --label-column --labels --path-column --root --sep "
        "--skip-small --split-index --splits-file --test-share"
    ),
}


def test_every_option_is_run():
    listed = {(name, flag) for name, options in OPTIONS.items() for flag in options}
    without = {(name, flag) for name in WITHOUT for flag in WITHOUT[name].split()}
    assert sorted(flags() - listed - without) == []
    assert not without & listed
    assert sorted(listed - flags()) == []


def invoke(*arguments):
    result = CliRunner().invoke(cli, [str(one) for one in arguments])
    assert result.exit_code == 0, result.output
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
    drawn = ("--train-per-class", 3)
    head, images_head = folder / "head.h5", folder / "images_head.h5"
    invoke(*f"train-svm {features} -o {head} --layer layer10 --C 1".split(), *drawn)
    invoke("train-svm", images_features, "-o", images_head, "--C", 1)
    for source, name in ((features, "splits"), (images_features, "image_splits")):
        names[name] = folder / f"{name}.csv"
        invoke("splits", source, "-o", names[name], *drawn, "--splits", 2)
    with tarfile.open(folder / "x.tar", "w") as tar:
        tar.add(small_images, "x")
    archive = folder / "x.tar"
    names |= {"head": head, "images_head": images_head, "archive": archive}
    return {**names, "images_features": images_features}


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
        name = "cnnfeat.networks._registry.load_network"
        monkeypatch.setattr(name, lambda *_, **__: make_tiny_network())
        line = f"-o {folder}/t.h5 --layer flatten --engine eager --workers 0"
        invoke("extract", inputs["images"], *line.split())
    invoke("train-softmax", folder / "t.h5", "-o", folder / "tiny.h5", "--C", 1)
    return {"mit67": mit67, "lists": folder / "lists", "tiny_head": folder / "tiny.h5"}


@pytest.mark.parametrize(
    ("name", "flag"), [(name, flag) for name in OPTIONS for flag in OPTIONS[name]]
)
def test_an_option_has_its_effect(inputs, more, tmp_path, monkeypatch, name, flag):
    if flag == "--tensorboard":
        pytest.importorskip("tensorboard")
    patch(monkeypatch)
    added, check = OPTIONS[name][flag]
    line = added[1:] if added.startswith("=") else f"{BASE[name]} {added}"
    out = tmp_path / "out"
    out.mkdir()
    if name == "download":
        shutil.copy(inputs["archive"], out / "x.tar")
    if flag == "--retry-failed":
        shutil.copy(inputs["images_features"], out / "f.h5")
    arguments = line.format(out=out, **inputs, **more).split()
    given = [] if flag in ("--quiet", "--verbose") else ["--quiet"]
    given = [one for one in given if (name, one) in flags()]
    result = invoke(name, *arguments, *given, "--json")
    record = {"report": json.loads(result.stdout)}
    if name in OUTPUT and name != "splits":
        record["info"] = json.loads(invoke("info", out / OUTPUT[name], "--json").stdout)
    check(record, result.stderr, out)
