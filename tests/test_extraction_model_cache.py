"""Converted networks kept between runs: the right one or none, and never in the way."""

import importlib.util
import os

import numpy as np
import pytest
import torch

from cnnfeat.extraction import _graphs as graphs
from cnnfeat.extraction._graphs import OpenVINOEngine
from cnnfeat.extraction._model_cache import ModelCache, cache_folder
from cnnfeat.extraction._tap_module import TapModule
from cnnfeat.layers import resolve_layers
from cnnfeat.outputs import locked_output

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)


def save_text(text):
    def save(path):
        path.write_text(text)
        path.with_suffix(".bin").write_bytes(text.encode() * 100)

    return save


def test_what_was_kept_is_found_under_its_identity_alone(tmp_path):
    cache = ModelCache(tmp_path)
    assert cache.find("a") is None
    cache.keep("a", save_text("first"))
    cache.keep("b", save_text("second"))
    assert cache.find("a").read_text() == "first"
    assert cache.find("b").read_text() == "second"
    assert cache.find("c") is None
    cache.keep("a", save_text("again"))
    assert ModelCache(tmp_path).find("a").read_text() == "again"


def test_what_a_killed_run_has_left_is_swept(tmp_path):
    cache = ModelCache(tmp_path)
    left = tmp_path / "openvino" / ".new-abc" / "entry"
    left.mkdir(parents=True)
    (left / "model.xml").write_text("half")
    cache.keep("a", save_text("text"))
    assert len(os.listdir(tmp_path / "openvino")) == 1
    assert cache.find("a").read_text() == "text"


def test_while_another_process_keeps_a_network_nothing_is_swept(tmp_path):
    cache = ModelCache(tmp_path)
    theirs = tmp_path / "openvino" / ".new-abc"
    theirs.mkdir(parents=True)
    with locked_output(tmp_path / "openvino" / ".new"):
        cache.keep("a", save_text("text"))
    assert theirs.is_dir() and cache.find("a") is None


@pytest.mark.parametrize("name", ["model.xml", "model.bin", "sha256.json"])
@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_entry_counts_as_none(tmp_path, name, damage):
    cache = ModelCache(tmp_path)
    cache.keep("a", save_text("text"))
    path = cache.find("a").with_name(name)
    data = path.read_bytes()
    path.write_bytes(data[:-1] if damage == "cut" else data[:-2] + b"??")
    if damage == "gone":
        path.unlink()
    assert cache.find("a") is None
    cache.keep("a", save_text("text"))
    assert cache.find("a").read_text() == "text"


@pytest.mark.parametrize("name", ["model.xml", "model.bin", "sha256.json", "more"])
@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_a_pipe_in_an_entry_counts_as_none_and_is_not_waited_for(tmp_path, name, kind):
    cache = ModelCache(tmp_path)
    cache.keep("a", save_text("text"))
    path = cache.find("a").with_name(name)
    path.unlink(missing_ok=True)
    os.mkfifo(tmp_path / "pipe" if kind == "link" else path)
    if kind == "link":
        path.symlink_to(tmp_path / "pipe")
    assert cache.find("a") is None
    cache.keep("a", save_text("text"))
    assert cache.find("a").read_text() == "text"


def test_the_least_recently_used_go_first(tmp_path):
    cache = ModelCache(tmp_path, max_bytes=3500)
    for age, identity in ((30, "a"), (20, "b")):
        cache.keep(identity, save_text(identity * 10))
        entry = cache.find(identity).parent
        os.utime(entry, (entry.stat().st_atime, entry.stat().st_mtime - age))
    cache.find("a")
    cache.keep("c", save_text("c" * 10))
    assert [cache.find(x) is not None for x in "abc"] == [True, False, True]


def test_what_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    cache = ModelCache(tmp_path / "file")
    cache.keep("a", save_text("text"))
    assert cache.find("a") is None

    def full_disk(path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    cache = ModelCache(tmp_path / "folder")
    cache.keep("a", full_disk)
    assert cache.find("a") is None
    assert list((tmp_path / "folder" / "openvino").iterdir()) == []


def test_the_folder_is_named_by_the_environment_or_switched_off(monkeypatch, tmp_path):
    monkeypatch.setenv("CNNFEAT_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("CNNFEAT_CACHE", "off")
    assert cache_folder() is None
    ModelCache(None).keep("a", save_text("text"))
    assert ModelCache(None).find("a") is None
    monkeypatch.delenv("CNNFEAT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x" / "cnnfeat"


def test_other_weights_layers_or_pooling_are_another_identity(tiny_network):
    def identity(layers=("features.3",), **how):
        taps = resolve_layers(tiny_network, layers)
        module = TapModule(tiny_network, taps, **how)
        module.close()
        return module.fingerprint()

    first = identity()
    assert identity() == first
    others = [
        identity(("features.1",)),
        identity(("features.3", "features.1")),
        identity(pool="avg"),
        identity(crops="ten"),
        identity(precision="bf16"),
    ]
    parameter = next(tiny_network.module.parameters())
    with torch.no_grad():
        parameter.view(-1)[0] += 1e-3
    others.append(identity())
    assert len({first, *others}) == 1 + len(others)


@needs_openvino
def test_a_kept_network_gives_the_same_bits(tiny_network, monkeypatch, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (4, 1, 32, 32, 3), np.uint8)
    taps = resolve_layers(tiny_network, ["features.1", "classifier"])
    module = TapModule(tiny_network, taps, pool="avg")
    monkeypatch.setenv("CNNFEAT_CACHE", "off")
    expected = OpenVINOEngine(module, 4, 2)(images)
    monkeypatch.setenv("CNNFEAT_CACHE", str(tmp_path))
    OpenVINOEngine(module, 4, 2)
    monkeypatch.setattr(graphs, "_convert", None)  # it must not be asked again
    found = OpenVINOEngine(module, 4, 2)(images)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])
