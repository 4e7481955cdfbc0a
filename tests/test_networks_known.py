"""The shipped table of networks is what the libraries say."""

import json
from importlib.metadata import version

import pytest
import timm
import torch
import torchvision

from cnnfeat.networks import (
    find_architecture,
    known_networks,
    list_networks,
    network_names,
    search_networks,
)
from cnnfeat.networks._known import TABLE, matching_names, nearest_names

TORCHVISION = [name for name in network_names() if not name.startswith("timm/")]
SOME_OF_TIMM = ("resnet10t", "vit_tiny_patch16_224.augreg_in21k", "lcnet_050")


def made_with(library):
    return json.loads(TABLE.read_text())["versions"][library] == version(library)


def test_every_network_of_the_libraries_is_in_the_table():
    named = set(known_networks())
    if made_with("timm") and made_with("torchvision"):
        assert named == set(network_names())
    assert set(TORCHVISION) <= named
    assert len(named) > 2000


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_entries_are_those_of_its_weights(name):
    (found,) = [entry for entry in search_networks(name) if entry.name == name]
    assert found == next(entry for entry in list_networks(name) if entry.name == name)
    known = known_networks()[name]
    if known.url:
        assert known.url == torchvision.models.get_model_weights(name).DEFAULT.url


@pytest.mark.parametrize("name", SOME_OF_TIMM)
def test_timms_parameters_are_those_of_the_network_that_is_built(name):
    with torch.device("meta"):
        module = timm.create_model(name, pretrained=False)
    known = known_networks()[f"timm/{name}"]
    assert known.n_parameters == sum(p.numel() for p in module.parameters())
    config = timm.get_pretrained_cfg(name)
    assert known.repository == (config.hf_hub_id or None)
    assert known.url == (config.url or None)
    assert find_architecture(f"timm/{name}").name == known.name


def test_published_accuracies_are_fractions_of_networks_that_classify():
    known = [one for one in known_networks().values() if one.top_1 is not None]
    assert all(0.5 < one.top_1 < 0.95 for one in known)
    assert sum(one.source == "timm" for one in known) > 150


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        (None, ["alexnet", "resnet50"]),
        ("resnet", ["resnet50", "timm/resnet50d"]),
        ("resnet*", ["resnet50"]),
        ("vit*", ["timm/vit_b"]),
        ("timm/*", ["timm/resnet50d", "timm/vit_b"]),
        ("nothing", []),
    ],
)
def test_a_pattern_is_a_part_of_the_name_or_a_glob_of_all(pattern, found):
    names = ["alexnet", "resnet50", "timm/resnet50d", "timm/vit_b"]
    assert matching_names(names, pattern) == found


def test_the_nearest_names_are_torchvisions_first():
    known = list(known_networks())
    assert nearest_names("alexnt", known)[0] == "alexnet"
    near = nearest_names("timm/resnet18x", known)
    assert near and all(name.startswith("timm/") for name in near)


def test_weights_in_the_hubs_cache_are_found_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    from cnnfeat.networks import _caches

    assert _caches.cached_hub_file("timm/lcnet_050.ra2_in1k") is None
    folder = _caches._hub_folder("timm/lcnet_050.ra2_in1k")
    assert folder == tmp_path / "models--timm--lcnet_050.ra2_in1k"


def test_the_torch_cache_is_where_torch_keeps_it(monkeypatch, tmp_path):
    from cnnfeat.networks import _caches

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delitem(_caches.sys.modules, "torch")
    assert _caches._torch_hub_dir() == str(tmp_path / "hub")
