"""Fine-tuning end to end, on a miniature network and easy images."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import TINY_PREPROCESSING, TinyNet, make_tiny_network

from cnnfeat.errors import (
    DataError,
    LayerError,
    OptionError,
    OutputError,
    ProvenanceError,
    SplitError,
)
from cnnfeat.finetune import (
    FinetuneOptions,
    FinetuneReport,
    Listener,
    finetune_network,
)
from cnnfeat.networks._weights import read_state_dict

BASE = FinetuneOptions(
    epochs=3,
    batch_size=5,
    lr=0.05,
    backbone_lr_scale=1.0,
    train_per_class=5,
    workers=0,
    device="cpu",
    frozen=False,
    init="noise",
    validation=1 / 6,
)


@pytest.fixture(autouse=True)
def tiny_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model name loads the miniature network."""
    monkeypatch.setattr(
        "cnnfeat.finetune._material.load_network", lambda *_, **__: make_tiny_network()
    )


def run(images: Path, output: Path, **changes) -> FinetuneReport:
    options = dataclasses.replace(BASE, **changes)
    report = finetune_network(str(images), str(output), options)
    assert report is not None
    return report


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return read_state_dict(path)[0]


def assert_same(first: Path, second: Path) -> None:
    ours, theirs = weights_of(first), weights_of(second)
    assert ours.keys() == theirs.keys()
    for name in ours:
        # Sums over threads of a busy machine may differ in the last bit.
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("augment", ["none", "light"])
def test_frozen_parameters_are_bit_identical(colour_dir, tmp_path, augment):
    report = run(colour_dir, tmp_path / "w.safetensors", train="head", augment=augment)
    before, after = (
        make_tiny_network().module.state_dict(),
        weights_of(tmp_path / "w.safetensors"),
    )
    for name in before:
        if not name.startswith("classifier"):
            assert torch.equal(before[name], after[name]), name
    assert report.n_trained_parameters == 3 * 96 + 3


def test_all_trains_every_parameter(colour_dir, tmp_path):
    run(colour_dir, tmp_path / "w.safetensors", train="all")
    after = weights_of(tmp_path / "w.safetensors")
    for name, tensor in make_tiny_network().module.state_dict().items():
        assert not torch.equal(tensor, after[name]) or tensor.shape != after[name].shape


def test_last_stages_are_counted_from_the_end(colour_dir, tmp_path):
    run(colour_dir, tmp_path / "w.safetensors", train="last:2")
    before, after = (
        make_tiny_network().module.state_dict(),
        weights_of(tmp_path / "w.safetensors"),
    )
    changed = {
        n for n in before if not n.startswith("cl") and (before[n] != after[n]).any()
    }
    assert changed == {"features.3.weight", "features.3.bias"}


def test_stored_features_train_the_head_as_the_whole_network_does(colour_dir, tmp_path):
    once = run(colour_dir, tmp_path / "a.safetensors", train="head")
    every = run(colour_dir, tmp_path / "b.safetensors", train="head", cache_mib=0)
    for one, two in zip(once.history, every.history, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-5)


def test_images_decoded_in_every_epoch_give_the_same_weights(colour_dir, tmp_path):
    run(colour_dir, tmp_path / "a.safetensors")
    run(colour_dir, tmp_path / "b.safetensors", cache_mib=0)
    assert_same(tmp_path / "a.safetensors", tmp_path / "b.safetensors")


def test_one_seed_gives_one_result_and_another_another(colour_dir, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(colour_dir, tmp_path / f"{name}.safetensors", seed=seed, dropout=0.3)
    assert_same(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    with pytest.raises(AssertionError):
        assert_same(tmp_path / "a.safetensors", tmp_path / "c.safetensors")


def test_easy_images_are_learnt(colour_dir, tmp_path):
    report = run(
        colour_dir, tmp_path / "w.pth", epochs=15, augment="none", frozen=True, lr=0.1
    )
    table = {row["model"]: row["accuracy"] for row in report.comparison}
    assert list(table) == ["frozen SVM", "frozen softmax", "fine-tuned all"]
    assert table["fine-tuned all"] >= 0.9
    assert {row["n_images"] for row in report.comparison} == {9}


def test_rows_are_those_of_the_heads(colour_dir, tmp_path):
    from cnnfeat.images import list_images
    from cnnfeat.splits import draw_split

    run(colour_dir, tmp_path / "w.safetensors", seed=3)
    metadata = read_state_dict(tmp_path / "w.safetensors")[1]
    images = list_images(colour_dir)
    split = draw_split(
        images,
        usable=np.ones(len(images), bool),
        train_per_class=5,
        seed=3,
    )
    assert metadata["training_paths"] == [images.paths[row] for row in split.train]
    assert metadata["heldout_paths"] == [images.paths[row] for row in split.test]


def copy_images(source: Path, target: Path) -> Path:
    import shutil

    shutil.copytree(source, target)
    return target


def test_unreadable_images_are_left_out_and_counted(colour_dir, tmp_path):
    images = copy_images(colour_dir, tmp_path / "images")
    (images / "red" / "2.png").write_bytes(b"not an image")
    report = run(images, tmp_path / "w.safetensors", test_per_class=2)
    assert report.n_failed in (0, 1)  # it may not have been drawn
    report = run(images, tmp_path / "v.safetensors")
    assert [path for path, _ in report.failures] == ["red/2.png"]
    metadata = read_state_dict(tmp_path / "v.safetensors")[1]
    assert len(metadata["training_paths"]) == 15
    assert "red/2.png" not in metadata["training_paths"] + metadata["heldout_paths"]


def test_a_class_with_one_image_is_named(colour_dir, tmp_path):
    images = copy_images(colour_dir, tmp_path / "images")
    (images / "lone").mkdir()
    Image.new("RGB", (40, 40)).save(images / "lone" / "0.png")
    with pytest.raises(SplitError, match=r"lone"):
        run(images, tmp_path / "w.safetensors", train_per_class=None)
    with pytest.raises(SplitError, match=r"lone \(1\)"):
        run(images, tmp_path / "w.safetensors")
    report = run(images, tmp_path / "w.safetensors", exclude_classes=("lone",))
    assert report.n_classes == 3


def test_test_rows_of_unknown_classes_are_named(colour_dir, tmp_path):
    lines = ["path,split"]
    for name in ("blue", "green"):
        lines += [f"{name}/{k}.png,{'train' if k < 4 else 'test'}" for k in range(8)]
    lines.append("red/0.png,test")
    (tmp_path / "s.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(SplitError, match="none to train on: red"):
        run(
            colour_dir,
            tmp_path / "w.safetensors",
            train_per_class=None,
            splits_file=str(tmp_path / "s.csv"),
        )


def test_published_rows_are_kept(colour_dir, tmp_path):
    lines = ["path,split"]
    for name in ("blue", "green"):
        lines += [f"{name}/{k}.png,{'train' if k < 4 else 'test'}" for k in range(8)]
    (tmp_path / "s.csv").write_text("\n".join(lines) + "\n")
    report = run(
        colour_dir,
        tmp_path / "w.safetensors",
        train_per_class=None,
        splits_file=str(tmp_path / "s.csv"),
    )
    counts = (report.n_train, report.n_validation, report.n_test, report.n_classes)
    assert counts == (6, 2, 8, 2)


def test_last_99_names_the_stages(colour_dir, tmp_path):
    with pytest.raises(LayerError, match=r"has 3 stages \(features\.0, features\.3"):
        run(colour_dir, tmp_path / "w.safetensors", train="last:99")


def test_a_batch_of_one_cannot_train_batch_norm(colour_dir, tmp_path):
    with pytest.raises(OptionError, match="`batch_norm=frozen`"):
        run(colour_dir, tmp_path / "w.safetensors", batch_size=1, batch_norm="train")
    assert run(colour_dir, tmp_path / "w.safetensors", batch_size=1, epochs=1)


@pytest.mark.parametrize("lr", [1e12, 1e30])
def test_a_diverging_run_says_what_to_change(colour_dir, tmp_path, lr):
    with pytest.raises(DataError, match=r"diverges|does not learn"):
        run(colour_dir, tmp_path / "w.safetensors", lr=lr, epochs=8)
    assert not (tmp_path / "w.safetensors").exists()


def test_a_run_at_chance_stops(colour_dir, tmp_path):
    with pytest.raises(DataError, match="does not learn: after 4 epochs"):
        run(colour_dir, tmp_path / "w.safetensors", lr=1e-9, epochs=30)


def test_outputs_are_refused_before_any_work(colour_dir, tmp_path):
    with pytest.raises(OptionError, match=r"\.pth or \.safetensors"):
        run(colour_dir, tmp_path / "w.bin")
    with pytest.raises(OutputError, match="no folder"):
        run(colour_dir, tmp_path / "missing" / "w.pth")
    (tmp_path / "w.pth").touch()
    with pytest.raises(OutputError, match="exists already"):
        run(colour_dir, tmp_path / "w.pth")


class Killed(BaseException):
    """Stands for SIGKILL at the end of an epoch."""


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_a_resumed_run_ends_as_an_uninterrupted_one(colour_dir, tmp_path, schedule):
    options = dataclasses.replace(
        BASE, epochs=4, schedule=schedule, dropout=0.2, optimizer="adamw"
    )

    def kill(record):
        if record.epoch == 2:
            raise Killed

    images, cut = str(colour_dir), str(tmp_path / "cut.safetensors")
    whole = finetune_network(images, str(tmp_path / "whole.safetensors"), options)
    with pytest.raises(Killed):
        finetune_network(images, cut, options, listener=Listener(epoch=kill))
    with pytest.raises(OutputError, match="`resume`"):
        finetune_network(images, cut, options)
    resumed = finetune_network(images, cut, dataclasses.replace(options, resume=True))
    assert_same(tmp_path / "whole.safetensors", tmp_path / "cut.safetensors")
    losses = [[r["loss"] for r in one.history] for one in (whole, resumed)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    assert not Path(f"{cut}.part").exists()


def test_a_run_killed_inside_an_epoch_ends_the_same(colour_dir, tmp_path, monkeypatch):
    options = dataclasses.replace(BASE, checkpoint_minutes=0.0, batch_size=4)
    images, cut = str(colour_dir), str(tmp_path / "cut.safetensors")
    finetune_network(images, str(tmp_path / "whole.safetensors"), options)

    def kill(n_done, n_all, n_failed):
        if n_done > 20:
            raise Killed

    with pytest.raises(Killed):
        finetune_network(images, cut, options, listener=Listener(step=kill))
    finetune_network(images, cut, dataclasses.replace(options, resume=True))
    assert_same(tmp_path / "whole.safetensors", tmp_path / "cut.safetensors")


def test_another_runs_checkpoint_is_refused(colour_dir, tmp_path):
    def kill(record):
        raise Killed

    output = tmp_path / "w.safetensors"
    with pytest.raises(Killed):
        finetune_network(
            str(colour_dir), str(output), BASE, listener=Listener(epoch=kill)
        )
    with pytest.raises(ProvenanceError, match=r"lr is 0\.05 there and 0\.01 here"):
        run(colour_dir, output, lr=0.01, resume=True)


def test_logs_and_curves(colour_dir, tmp_path):
    log, curves = tmp_path / "log.jsonl", tmp_path / "curves.png"
    report = run(
        colour_dir,
        tmp_path / "w.safetensors",
        log_path=str(log),
        curves_path=str(curves),
    )
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines == report.history
    assert curves.read_bytes().startswith(b"\x89PNG")


def test_tensorboard_events(colour_dir, tmp_path):
    pytest.importorskip("tensorboard")
    run(colour_dir, tmp_path / "w.pth", tensorboard_dir=str(tmp_path / "events"))
    assert list((tmp_path / "events").glob("events.*"))


# -- several processes -----------------------------------------------------------------

WORKER = """
import sys
sys.path.insert(0, {tests!r})
sys.path.insert(0, {root!r})
import torch
torch.set_num_threads(1)
import cnnfeat.finetune._material as material
from tiny import make_tiny_network
from test_finetune import BASE
import dataclasses, json
from cnnfeat.errors import CnnfeatError
from cnnfeat.finetune import finetune_network
material.load_network = lambda *_, **__: make_tiny_network()
try:
    report = finetune_network(
        {images!r}, {output!r}, dataclasses.replace(BASE, **{changes!r})
    )
except CnnfeatError as error:
    print(error, flush=True)
    sys.exit(1)
if report is not None:
    print(json.dumps(report.to_dict()), flush=True)
"""


def torchrun(tmp_path, images, n_processes, **changes):
    root = Path(__file__).resolve().parent.parent
    script = tmp_path / "worker.py"
    values = {
        "tests": str(root / "tests"),
        "root": str(root),
        "images": str(images),
        "output": str(tmp_path / "several.safetensors"),
        "changes": changes,
    }
    script.write_text(WORKER.format(**values))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.run(
        [*launcher, "--nproc-per-node", str(n_processes), str(script)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )


def test_two_processes_have_the_loss_curve_of_one(colour_dir, tmp_path):
    alone = run(colour_dir, tmp_path / "alone.safetensors")
    done = torchrun(tmp_path, colour_dir, 2)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()  # one process prints
    together = json.loads(line)
    for one, two in zip(alone.history, together["history"], strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-4)
        assert one["validation_accuracy"] == two["validation_accuracy"]


def test_more_processes_than_images_is_one_line(colour_dir, monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "20")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(DataError, match="20 processes for 12 training images"):
        run(colour_dir, tmp_path / "w.safetensors")


def test_kill_9_and_resume(colour_dir, tmp_path):
    output = tmp_path / "several.safetensors"
    changes = {"epochs": 60, "patience": 0}
    run(colour_dir, tmp_path / "whole.safetensors", **changes)
    root = Path(__file__).resolve().parent.parent
    script = tmp_path / "worker.py"
    script.write_text(
        WORKER.format(
            tests=str(root / "tests"),
            root=str(root),
            images=str(colour_dir),
            output=str(output),
            changes=changes,
        )
    )
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.DEVNULL)
    part = Path(f"{output}.part")
    while not part.exists() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run(colour_dir, output, resume=True, overwrite=output.exists(), **changes)
    assert_same(tmp_path / "whole.safetensors", output)


def test_the_tiny_network_is_what_these_tests_think():
    assert TINY_PREPROCESSING.crop_size == (32, 32)
    assert [n for n, _ in TinyNet().named_children()] == [
        "features",
        "flatten",
        "classifier",
    ]
