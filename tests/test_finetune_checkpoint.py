"""A checkpoint of another kind, or another file in its place, is one line."""

import dataclasses
import json
import os

import pytest
import torch
from test_finetune import BASE, tiny_loader  # noqa: F401 - a fixture, used by itself

from cnnfeat.errors import CnnfeatError, StoreError
from cnnfeat.finetune import Listener, finetune_network

OPTIONS = dataclasses.replace(BASE, epochs=2, optimizer="adamw")


class Killed(BaseException):
    """Stands for SIGKILL at the end of an epoch."""


@pytest.fixture
def cut(colour_dir, tmp_path):
    """The output of a run that was killed after its first epoch."""

    def kill(record):
        raise Killed

    output = tmp_path / "w.safetensors"
    with pytest.raises(Killed):
        finetune_network(
            str(colour_dir), str(output), OPTIONS, listener=Listener(epoch=kill)
        )
    return output


def resume(colour_dir, output):
    options = dataclasses.replace(OPTIONS, resume=True)
    return finetune_network(str(colour_dir), str(output), options)


def put(*place, value):
    def change(content):
        at = content
        for key in place[:-1]:
            at = at[key]
        at[place[-1]] = value(at[place[-1]]) if callable(value) else value

    return change


def drop(*place):
    def change(content):
        at = content
        for key in place[:-1]:
            at = at[key]
        del at[place[-1]]

    return change


CHANGES = [
    (drop("state"), "state is missing"),
    (put("version", value=9), "version: .* found 9"),
    (put("fingerprint", value="["), "fingerprint: not JSON"),
    (put("fingerprint", value="3"), "fingerprint: expected an object"),
    (put("state", value=[]), "state: expected an object"),
    (put("state", "at", value={}), "at/epoch is missing"),
    (put("state", "at", "epoch", value=-1), "at/epoch: .* found -1"),
    (put("state", "at", "epoch", value=2), "at/history: expected 1 epochs"),
    (put("state", "at", "best_epoch", value=7), "at/history"),
    (put("state", "at", "loss_sum", value=float("nan")), "at/loss_sum"),
    (put("state", "at", "history", 0, "lr", value="fast"), r"history\[0\]/lr"),
    (put("state", "at", "extra", value=1), "at/extra is unknown"),
    (put("state", "at", "best", value={}), "at/best: expected the .* tensors"),
    (put("state", "weights", value={}), "weights: expected the .* tensors"),
    (put("state", "weights", value=lambda w: dict.fromkeys(w, 3)), "weights/.*found 3"),
    (
        put("state", "weights", value=lambda w: {k: v[None] for k, v in w.items()}),
        "weights/",
    ),
    (put("state", "schedule", "at", value=3), "schedule/at is unknown"),
    (put("state", "schedule", "factor", value="x"), "schedule/factor"),
    (put("state", "optimizer", value={}), "param_groups|state"),
    (put("state", "optimizer", "param_groups", 0, "base_lr", value="x"), "settings"),
    (put("state", "optimizer", "state", 0, "exp_avg", value=torch.ones(3)), "exp_avg"),
]


@pytest.mark.parametrize(("change", "match"), CHANGES)
def test_a_state_of_another_kind_is_named(colour_dir, cut, change, match):
    part = cut.with_name(cut.name + ".part")
    content = torch.load(part, weights_only=True)
    change(content)
    torch.save(content, part)
    with pytest.raises(StoreError, match=match) as caught:
        resume(colour_dir, cut)
    assert "`overwrite`" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not cut.exists()


def test_the_state_as_it_was_goes_on(colour_dir, cut):
    part = cut.with_name(cut.name + ".part")
    content = torch.load(part, weights_only=True)
    assert json.loads(content["fingerprint"])["epochs"] == 2
    torch.save(content, part)
    assert resume(colour_dir, cut) is not None
    assert cut.exists()


@pytest.mark.parametrize("suffix", [".part", ".lock"])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_stands_in_for_a_file_of_ours_is_refused(
    colour_dir, tmp_path, suffix, kind
):
    mine = tmp_path / "mine"
    mine.write_bytes(b"mine")
    place = tmp_path / f"w.safetensors{suffix}"
    if kind == "link":
        place.symlink_to("mine")
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.mkdir()
    with pytest.raises(CnnfeatError) as caught:
        resume(colour_dir, tmp_path / "w.safetensors")
    assert "\n" not in str(caught.value)
    assert mine.read_bytes() == b"mine"
