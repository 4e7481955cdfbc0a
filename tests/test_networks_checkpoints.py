"""Weights files of every make load, or are refused in a line; nothing is unpickled."""

import io
import json
import pickle
import re
import tarfile
import warnings

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cnnfeat.errors import CnnfeatWarning, WeightsError
from cnnfeat.images import Preprocessing
from cnnfeat.networks import (
    LoadOptions,
    NetworkRequest,
    _registry as registry,
    load_network,
)
from cnnfeat.networks._architectures import Architecture
from cnnfeat.networks._weights import read_weights

NAME = "small"


def build(n_classes):
    """Return a network whose own names begin like a prefix here and there."""
    return nn.ModuleDict(
        {
            "stem": nn.Conv2d(3, 4, 3),
            "norm": nn.BatchNorm2d(4),
            "encoder": nn.ModuleDict({"last": nn.Conv2d(4, 6, 3)}),
            "head": nn.Linear(6, n_classes or 5),
        }
    )


@pytest.fixture(autouse=True)
def small(monkeypatch):
    architecture = Architecture(
        name=NAME,
        build=build,
        preprocessing=Preprocessing(8, (8, 8)),
        n_classes=5,
        weights_name="none",
        source="none",
        cached=lambda: None,
        fetch=pytest.fail,
        class_names=tuple("abcde"),
    )
    monkeypatch.setattr(registry, "find_architecture", lambda name: architecture)


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(3)
    return dict(build(5).state_dict())


def load(path, **how):
    return load_network(NAME, weights=path, device="cpu", **how)


def under(prefix, state):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def same(network, state, *but):
    found = network.module.state_dict()
    return all(torch.equal(found[k], v) for k, v in state.items() if k not in but)


FORMS = {
    "bare": lambda state: state,
    **{
        f"{key}": lambda state, key=key: {key: state, "epoch": 3}
        for key in ("state_dict", "model", "model_ema", "teacher", "net")
    },
    "model/state_dict": lambda state: {"model": {"state_dict": state}},
}


@pytest.mark.parametrize("kind", ["zip", "legacy"])
@pytest.mark.parametrize("form", FORMS)
def test_a_state_dict_loads_from_wherever_scripts_keep_it(tmp_path, state, form, kind):
    path = tmp_path / "w.pth"
    is_zip = kind == "zip"
    torch.save(FORMS[form](state), path, _use_new_zipfile_serialization=is_zip)
    network = load(path)
    assert same(network, state)
    assert network.weights.match == ""
    assert network.weights.class_names == tuple("abcde")


@pytest.mark.parametrize(
    "prefix",
    [
        *("module.", "backbone.", "encoder.", "_orig_mod."),
        *("module.backbone.", "_orig_mod.module.", "module.encoder."),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_prefixes_are_stripped_and_told(tmp_path, state, prefix, suffix):
    path = tmp_path / f"w{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(under(prefix, state), path)
    with pytest.warns(CnnfeatWarning) as caught:
        network = load(path)
    assert same(network, state)
    told = f"prefix {prefix} stripped; {len(state)} of {len(state)} tensors matched"
    assert network.weights.match == told
    assert [str(one.message) for one in caught] == [
        f"weights {str(path)!r} for {NAME!r}: {told}"
    ]


def test_other_parts_of_a_teacher_are_left_out(tmp_path, state):
    teacher = {**under("backbone.", state), "dino_head.mlp.0.weight": torch.zeros(3)}
    path = tmp_path / "w.pth"
    student = under("backbone.", build(5).state_dict())
    torch.save({"student": student, "teacher": teacher, "model_ema": teacher}, path)
    with pytest.warns(CnnfeatWarning, match="model_ema of the file; not its teacher;"):
        network = load(path)
    assert same(network, state)
    assert network.weights.match.endswith(
        "left out 1 of the file (dino_head.mlp.0.weight)"
    )


def test_a_classifier_of_another_width_is_rebuilt(tmp_path, state):
    wide = {**state, "head.weight": torch.randn(9, 6), "head.bias": torch.randn(9)}
    torch.save(under("module.", wide), tmp_path / "w.pth")
    with pytest.warns(CnnfeatWarning, match="prefix module. stripped"):
        network = load(tmp_path / "w.pth")
    assert same(network, wide)
    assert network.n_classes == 9
    assert network.weights.class_names == ()


def test_a_classifier_may_be_missing_and_then_has_no_classes(tmp_path, state):
    body = {k: v for k, v in state.items() if not k.startswith("head.")}
    torch.save(body, tmp_path / "w.pth")
    with pytest.warns(CnnfeatWarning, match=r"not in the file 2 of the network \(head"):
        network = load(tmp_path / "w.pth")
    assert same(network, body)
    assert network.weights.class_names == ()
    again = {k: v for k, v in state.items() if k != "head.bias"}
    torch.save(again, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"1 missing \(head.bias\)"):
        load(tmp_path / "w.pth")


def test_a_classifier_too_many_is_left_out(tmp_path, state, monkeypatch):
    module = build(5)
    module.pretrained_cfg = {"classifier": "top"}
    monkeypatch.setattr(
        registry,
        "find_architecture",
        lambda name: Architecture(
            *(name, lambda n: module, Preprocessing(8, (8, 8)), 0, "none", "none"),
            *(lambda: None, pytest.fail),
        ),
    )
    torch.save({**state, "top.weight": torch.zeros(3, 6)}, tmp_path / "w.pth")
    with pytest.warns(CnnfeatWarning, match=r"left out 1 of the file \(top.weight\)"):
        assert same(load(tmp_path / "w.pth"), state)


def test_a_partial_match_is_refused_unless_it_is_named(tmp_path, state):
    path = tmp_path / "w.pth"
    partial = {k: v for k, v in state.items() if k != "stem.weight"}
    torch.save({**partial, "decoder.weight": torch.zeros(2)}, path)
    with pytest.raises(WeightsError) as caught:
        load(path)
    message = str(caught.value)
    assert "1 missing (stem.weight); 1 unexpected (decoder.weight)" in message
    assert "`allow_missing=GLOB`" in message
    with pytest.raises(WeightsError, match=r"1 missing \(stem.weight\)"):
        load(path, options=LoadOptions(("decoder.*",)))
    with pytest.warns(CnnfeatWarning) as told:
        network = load(path, options=LoadOptions(("decoder.*", "stem.weight")))
    assert same(network, partial)
    assert (
        "10 of 11 tensors matched; left out 1 of the file (decoder.weight); not in the "
        "file 1 of the network (stem.weight), which stay random"
    ) in str(told[0].message)
    assert network.weights.allow_missing == ("decoder.*", "stem.weight")


def test_tensors_that_do_not_fit_are_named_with_their_shapes(tmp_path, state):
    path = tmp_path / "w.pth"
    wrong = dict.fromkeys(
        ("stem.weight", "stem.bias", "norm.weight", "norm.bias"), torch.zeros(7)
    )
    torch.save({**state, **wrong}, path)
    with pytest.raises(WeightsError) as caught:
        load(path)
    assert (
        "4 mis-shaped (stem.weight (7,) instead of (4, 3, 3, 3), stem.bias (7,) "
        "instead of (4,), norm.weight (7,) instead of (4,), …)"
    ) in str(caught.value)
    with pytest.warns(CnnfeatWarning, match="left out 4 of the file"):
        network = load(path, options=LoadOptions(("stem.*", "norm.*")))
    assert same(network, state, *wrong)


@pytest.mark.parametrize(
    ("first", "second"),
    [("module.", ""), ("backbone.", "encoder."), ("module.", "module.backbone.")],
)
def test_a_mixture_of_prefixes_is_refused(tmp_path, state, first, second):
    names = list(state)
    mixed = {
        f"{first if k < 8 else second}{name}": state[name]
        for k, name in enumerate(names)
    }
    torch.save(mixed, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="a mixture of prefixes: 8 names") as caught:
        load(tmp_path / "w.pth")
    told = f"under {second!r}" if second else "under none"
    assert f"under {first!r} and 3 {told};" in str(caught.value)


def write_shards(folder, state, suffix=".safetensors"):
    names, weight_map = list(state), {}
    for number, part in enumerate((names[:5], names[5:]), start=1):
        file_name = f"model-{number:05d}-of-00002{suffix}"
        tensors = {name: state[name] for name in part}
        (save_file if suffix == ".safetensors" else torch.save)(
            tensors, folder / file_name
        )
        weight_map |= dict.fromkeys(part, file_name)
    index = folder / f"model{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return index


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_several_files_load_by_their_index(tmp_path, state, suffix):
    index = write_shards(tmp_path, state, suffix)
    network = load(index)
    assert same(network, state)
    before = network.weights.sha256
    shard = tmp_path / f"model-00002-of-00002{suffix}"
    other = {k: v + 1 for k, v in read_weights(shard).state.items()}
    (save_file if suffix == ".safetensors" else torch.save)(other, shard)
    assert load(index).weights.sha256 != before


def test_an_index_whose_file_is_missing_names_it(tmp_path, state):
    index = write_shards(tmp_path, state)
    (tmp_path / "model-00001-of-00002.safetensors").unlink()
    message = "1 of its 2 files are not beside it: model-00001-of-00002.safetensors"
    with pytest.raises(WeightsError, match=message):
        load(index)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged index: index: not JSON"),
        ("{}", "damaged index: index/weight_map is missing"),
        ('{"weight_map": {}}', "the index names no tensor"),
        ('{"weight_map": {"a": "../w.safetensors"}}', "beside the index"),
        ('{"weight_map": {"a": "/etc/w.safetensors"}}', "beside the index"),
        ('{"weight_map": {"a": "x.index.json"}}', "beside the index"),
        ('{"weight_map": {"a": 3}}', "damaged index"),
    ],
)
def test_an_index_that_is_damaged_is_one_line(tmp_path, text, message):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text)
    with pytest.raises(WeightsError, match=message) as caught:
        load(index)
    assert "\n" not in str(caught.value)


def test_a_tensor_that_its_file_lacks_is_named(tmp_path, state):
    index = write_shards(tmp_path, state)
    lacks = {"stem.weight": state["stem.weight"]}
    save_file(lacks, tmp_path / "model-00001-of-00002.safetensors")
    with pytest.raises(WeightsError, match=r"stem.bias is not in model-00001-of-0000"):
        load(index)


class _WritesAFile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_nothing_is_unpickled_beside_the_tensors(tmp_path, state):
    trap, path = tmp_path / "trap", tmp_path / "w.pth"
    torch.save({"teacher": state, "args": _WritesAFile(str(trap))}, path)
    with pytest.raises(WeightsError, match="more than tensors"):
        load(path)
    assert not trap.exists()


def test_a_tar_of_before_2017_is_refused(tmp_path, state):
    path, trap = tmp_path / "w.pth", tmp_path / "trap"
    data = pickle.dumps(_WritesAFile(str(trap)))
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    with pytest.raises(WeightsError, match="a tar as PyTorch wrote before 2017"):
        load(path)
    assert not trap.exists()


def test_names_that_are_none_of_the_network_are_refused(tmp_path):
    torch.save({"module.x": torch.zeros(2), "module.y": torch.zeros(3)}, tmp_path / "w")
    with pytest.raises(WeightsError, match=re.escape("2 unexpected (x, y)")):
        load(tmp_path / "w")


def test_provenance_leads_to_the_same_network(tmp_path, state):
    path = tmp_path / "w.pth"
    torch.save({k: v for k, v in state.items() if k != "stem.weight"}, path)
    request = NetworkRequest(
        NAME, str(path), device="cpu", options=LoadOptions(("stem.*",))
    )
    with pytest.warns(CnnfeatWarning):
        record = request.load().weights
    told = {
        "model": NAME,
        "weights": record.source,
        "weights_allow_missing": ",".join(record.allow_missing),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = NetworkRequest.of_provenance(told, "cpu").load()
    assert again.weights.sha256 == record.sha256
