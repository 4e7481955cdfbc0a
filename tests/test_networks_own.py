"""Networks of the user's own, another size of input, another preprocessing."""

import json
import re

import h5py
import numpy as np
import pytest
import timm
import torch
from click.testing import CliRunner
from tiny import TINY_PREPROCESSING
from torchvision.models import VisionTransformer

from cnnfeat.cli.main import cli
from cnnfeat.errors import DataError, NetworkError, WeightsError
from cnnfeat.images import Preprocessing
from cnnfeat.layers import blocks_of, last_tokens, resolve_layers
from cnnfeat.networks import (
    LoadOptions,
    Network,
    NetworkRequest,
    find_architecture,
    load_network,
    read_preprocessing,
)
from cnnfeat.networks._sizes import changed, scaled

OWN = "own_networks:tiny"
HOW = LoadOptions(preprocessing=TINY_PREPROCESSING)


def run(*arguments):
    return CliRunner().invoke(cli, [str(one) for one in arguments])


# -- code of the user's own ------------------------------------------------------------


def test_a_factory_gives_a_network_with_its_own_weights():
    network = load_network(OWN, device="cpu", options=HOW)
    assert network.name == OWN
    assert network.weights.source == f"factory:{OWN}"
    assert network.n_classes == 5
    (tap,) = resolve_layers(network)
    assert tap.name == "features.4"
    again = load_network(OWN, device="cpu", options=HOW)
    assert again.weights.sha256 == network.weights.sha256
    headless = load_network("own_networks:Holder.headless", device="cpu", options=HOW)
    assert headless.n_classes == 0


def test_a_file_of_weights_loads_into_it(tmp_path):
    state = load_network(OWN, weights="random", seed=4, device="cpu", options=HOW)
    tensors = state.module.state_dict()
    tensors["classifier.weight"] = torch.randn(7, 96)
    tensors["classifier.bias"] = torch.randn(7)
    torch.save(tensors, tmp_path / "w.pth")
    network = load_network(OWN, weights=tmp_path / "w.pth", device="cpu", options=HOW)
    assert network.n_classes == 7
    assert torch.equal(network.module.classifier.bias, tensors["classifier.bias"])
    with pytest.raises(NetworkError, match="takes no argument num_classes"):
        load_network(
            *("own_networks:fixed",),
            weights=tmp_path / "w.pth",
            device="cpu",
            options=HOW,
        )


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no_such_module:f", "no_such_module cannot be imported (ModuleNotFoundError"),
        ("own_networks:f", "own_networks has no 'f'"),
        ("own_networks:NUMBER", "expected a factory, found int"),
        ("own_networks:fails", "the factory failed (OSError: no such file)"),
        ("own_networks:nothing", "returns a torch.nn.Module, found dict"),
        ("own_networks:", "unknown network 'own_networks:'"),
    ],
)
def test_what_is_no_factory_is_one_line(path, message):
    with pytest.raises(NetworkError, match=re.escape(message)) as caught:
        load_network(path, device="cpu", options=HOW)
    assert "\n" not in str(caught.value)


def test_nobody_guesses_how_its_images_are_prepared(image_dir, tmp_path):
    with pytest.raises(NetworkError, match="no weights record says how its images"):
        load_network(OWN, device="cpu")
    arguments = ("extract", image_dir, "-o", tmp_path / "f.h5", "--model", OWN)
    result = run(*arguments)
    assert result.exit_code == 1
    assert "give --preprocessing FILE.json" in result.stderr


def test_no_file_makes_us_run_code(colour_dir, tmp_path):
    json_path, features = tmp_path / "p.json", tmp_path / "f.h5"
    json_path.write_text(json.dumps(TINY_PREPROCESSING.to_dict()))
    own = ("--model", OWN, "--preprocessing", json_path, "--engine", "eager")
    line = ("extract", colour_dir, "-o", features, *own, "--workers", 0, "--quiet")
    assert run(*line).exit_code == 0
    with h5py.File(features) as file:
        told = dict(file["provenance"].attrs)
    assert told["model"] == OWN and told["preprocessing_given"] == "yes"
    head = tmp_path / "h.h5"
    assert run("train-svm", features, "-o", head, "--C", 1).exit_code == 0
    result = run("predict", head, colour_dir)
    assert result.exit_code == 1
    assert "is not run because a file names it" in result.stderr
    with pytest.raises(NetworkError, match="code of somebody's own"):
        NetworkRequest.of_provenance({"model": OWN, "weights_sha256": ""})


def test_weights_that_name_code_do_not_run_it(tmp_path, colour_dir):
    path = tmp_path / "w.pth"
    state = load_network(OWN, device="cpu", options=HOW).module.state_dict()
    told = {"model": "own_networks:fails", "class_names": [*"abcde"]}
    torch.save({"state_dict": state, "cnnfeat": json.dumps(told)}, path)
    result = run("predict", path, colour_dir)
    assert result.exit_code == 1
    assert "which is not run because a file names it; give --model own" in result.stderr


# -- preprocessing ---------------------------------------------------------------------


def test_preprocessing_comes_from_a_file_or_another_network(tmp_path):
    path = tmp_path / "p.json"
    path.write_text(json.dumps(TINY_PREPROCESSING.to_dict()))
    assert read_preprocessing(str(path)) == TINY_PREPROCESSING
    borrowed = find_architecture("mobilenet_v2").preprocessing
    assert read_preprocessing("mobilenet_v2") == borrowed
    network = load_network(
        "squeezenet1_1",
        weights="random",
        device="cpu",
        options=LoadOptions(preprocessing=borrowed),
    )
    assert network.weights.preprocessing == borrowed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no such file"),
        ("{", "not JSON"),
        ("[1]", "expected an object"),
        ('{"mean": 3}', "expected the fields"),
    ],
)
def test_preprocessing_that_cannot_be_read_is_one_line(tmp_path, text, message):
    path = tmp_path / "p.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_preprocessing(str(path))
    assert "`preprocessing=" in str(caught.value) and "\n" not in str(caught.value)


# -- size of the input -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("resize", "side", "expected"),
    [(256, 448, 512), (232, 224, 232), ((256, 384), 448, (512, 768))],
)
def test_the_resized_image_grows_in_proportion(resize, side, expected):
    crop = (224, 224) if isinstance(resize, int) else (224, 336)
    found = scaled(Preprocessing(resize, crop), side)
    pair = (expected[0], round(384 * 448 / 336)) if isinstance(resize, tuple) else None
    assert found.resize_size == (pair or expected)
    assert found.crop_size == (side, side)


def vit_of(name, side=32, **options):
    torch.manual_seed(0)
    small = {"embed_dim": 48, "depth": 2, "num_heads": 3}
    module = timm.create_model(name, img_size=side, **small, **options).eval()
    size = Preprocessing(side, (side, side))
    return Network.from_module(module, size, name=name)


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "eva02_tiny_patch14_224", "beit_base_patch16_224"]
)
def test_position_embeddings_are_interpolated(name):
    patch = 14 if "14" in name else 16
    network = changed(vit_of(name, 2 * patch), LoadOptions(input_size=4 * patch))
    (tap,) = resolve_layers(network, ["block.-1"])
    assert tap.tokens.grid == (4, 4)
    assert network.weights.input_size == 4 * patch
    assert network.weights.preprocessing.crop_size == (4 * patch, 4 * patch)


def test_the_interpolation_is_timms():
    network = vit_of("vit_tiny_patch16_224")
    before = network.module.pos_embed.clone()
    found = changed(network, LoadOptions(input_size=64)).module.pos_embed
    expected = timm.layers.resample_abs_pos_embed(before, (4, 4), num_prefix_tokens=1)
    assert torch.equal(found, expected)


def test_torchvisions_transformer_is_interpolated_too():
    module = VisionTransformer(32, 16, 2, 3, 48, 96, num_classes=4).eval()
    network = Network.from_module(module, Preprocessing(32, (32, 32)))
    network = changed(network, LoadOptions(input_size=64))
    (tap,) = resolve_layers(network, ["block.-1"])
    assert tap.tokens.grid == (4, 4)
    again = VisionTransformer(32, 16, 2, 3, 48, 96, num_classes=4).eval()
    network = Network.from_module(again, Preprocessing(32, (32, 32)))
    with pytest.raises(NetworkError, match="not a multiple of its patches, 16"):
        changed(network, LoadOptions(input_size=40))


def test_a_windowed_transformer_takes_a_larger_grid():
    module = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=64, depths=(1, 1), num_heads=(2, 2)
    )
    network = Network.from_module(module, Preprocessing(64, (64, 64)))
    network = changed(network, LoadOptions(input_size=96))
    assert len(blocks_of(network).stages) == 2
    (tap,) = resolve_layers(network, [last_tokens(network)])
    assert tap.shape[:2] == (12, 12)


@pytest.mark.parametrize(
    ("name", "side", "reason"),
    [
        ("cait_xxs24_224", 64, "does not take images of that size"),
        ("vit_tiny_patch16_224", 40, "does not take images of that size"),
    ],
)
def test_a_size_that_the_network_refuses_is_one_line(name, side, reason):
    with pytest.raises(NetworkError, match=reason) as caught:
        changed(vit_of(name), LoadOptions(input_size=side))
    assert str(caught.value).startswith(f"`input_size={side}`: {name!r} does not")
    assert str(caught.value).endswith("its own is 32")
    assert "\n" not in str(caught.value)


def test_a_convnet_takes_another_crop_and_predicts_with_it(colour_dir, tmp_path):
    features, head = tmp_path / "f.h5", tmp_path / "h.h5"
    line = ("extract", colour_dir, "-o", features, "--model", "squeezenet1_1")
    how = ("--weights", "random", "--input-size", 64, "--layer", "features.3")
    made = run(*line, *how, "--pool", "avg", "--workers", 0, "--quiet")
    assert made.exit_code == 0, made.output
    with h5py.File(features) as file:
        told = dict(file["provenance"].attrs)
    assert told["input_size"] == "64"
    assert json.loads(told["preprocessing"])["crop_size"] == [64, 64]
    assert json.loads(told["preprocessing"])["resize_size"] == 73
    network = NetworkRequest.of_provenance(told, "cpu").load()
    assert network.weights.preprocessing.to_dict() == json.loads(told["preprocessing"])
    assert run("train-svm", features, "-o", head, "--C", 1).exit_code == 0
    result = run("predict", head, colour_dir, "--json", "--workers", 0)
    assert result.exit_code == 0, result.output
    rows = run("layers", "squeezenet1_1", "--input-size", 64, "--json").stdout
    (row,) = [r for r in json.loads(rows)["layers"] if r["name"] == "features.3"]
    assert row["shape"] == [128, 15, 15]


def test_a_size_too_small_is_refused_before_any_work(image_dir, tmp_path):
    line = ("extract", image_dir, "-o", tmp_path / "f.h5", "--model", "squeezenet1_1")
    result = run(*line, "--weights", "random", "--input-size", 8)
    assert result.exit_code == 1
    assert "--input-size 8: 'squeezenet1_1' does not take images" in result.stderr
    assert not list(tmp_path.glob("f.h5*"))


def test_features_of_a_larger_size_are_those_of_the_network(tmp_path):
    network = vit_of("vit_tiny_patch16_224")
    larger = changed(network, LoadOptions(input_size=64))
    torch.manual_seed(0)
    with torch.no_grad():
        found = larger.module(torch.ones(1, 3, 64, 64))
    assert np.isfinite(found.numpy()).all()


def test_weights_error_is_told_for_nothing_published():
    with pytest.raises(WeightsError, match="nothing is published"):
        find_architecture(OWN).fetch()
