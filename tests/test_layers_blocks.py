"""Blocks and stages have numbers alike in every network; norms can be left out."""

import functools
import re

import pytest
import timm
import torch
from click.testing import CliRunner
from torch import nn

from cnnfeat.cli.main import cli
from cnnfeat.errors import LayerError
from cnnfeat.images import Preprocessing
from cnnfeat.layers import Tapper, blocks_of, pool_activation, resolve_layers
from cnnfeat.networks import Network, load_network

SMALL = {"img_size": 32, "embed_dim": 48, "depth": 6, "num_heads": 3}


def as_network(module, side):
    preprocessing = Preprocessing(side, (side, side))
    return Network.from_module(module.eval(), preprocessing, name="small")


@functools.cache
def made(name):
    torch.manual_seed(0)
    if not name.startswith("timm/"):
        return load_network(name, weights="random", device="cpu")
    kind, options = name.removeprefix("timm/"), {}
    side = 64
    if kind.startswith("vit"):
        side, options = 32, SMALL
    elif kind.startswith("swin"):
        options = {"img_size": 64, "depths": (1, 2), "num_heads": (2, 2)}
    elif kind.startswith("cait"):
        side, options = 32, {**SMALL, "depth": 3}
    return as_network(timm.create_model(kind, **options), side)


def addresses(network, *names):
    return [tap.address for tap in resolve_layers(network, names)]


@pytest.mark.parametrize(
    ("name", "n_blocks", "last_block", "stages"),
    [
        ("timm/vit_tiny_patch16_224", 6, "blocks.5", ()),
        ("timm/vit_small_patch14_reg4_dinov2", 6, "blocks.5", ()),
        ("timm/cait_xxs24_224", 3, "blocks.2", ()),
        (
            *("timm/swin_tiny_patch4_window7_224", 3, "layers.1.blocks.1"),
            ("layers.0", "layers.1"),
        ),
        (
            *("timm/convnext_atto", 12, "stages.3.blocks.1"),
            ("stages.0", "stages.1", "stages.2", "stages.3"),
        ),
        (
            *("timm/regnety_002", 13, "s4.b7"),
            ("s1", "s2", "s3", "s4"),
        ),
        ("resnet18", 8, "layer4.1", ("layer1", "layer2", "layer3", "layer4")),
        (
            *("efficientnet_lite0", 16, "blocks.6.0"),
            tuple(f"blocks.{k}" for k in range(7)),
        ),
        ("squeezenet1_1", 8, "features.12", ()),
        ("mobilenet_v2", 17, "features.17", ()),
        ("googlenet", 0, None, ()),
        ("alexnet", 0, None, ()),
        pytest.param(
            *("swin_t", 12, "features.7.1"),
            ("features.1", "features.3", "features.5", "features.7"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *("vit_b_16", 12, "encoder.layers.encoder_layer_11", ()),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_blocks_and_stages_are_those_of_the_network(name, n_blocks, last_block, stages):
    network = made(name)
    found = blocks_of(network)
    assert len(found.blocks) == n_blocks
    assert found.stages == stages
    if n_blocks:
        assert found.blocks[-1] == last_block
        last = n_blocks - 1
        assert addresses(network, f"block.{last}", "block.-1") == [last_block] * 2
        assert addresses(network, "block.*") == [*found.blocks]
    if stages:
        assert addresses(network, "stage.1", f"stage.-{len(stages) - 1}") == [
            stages[1],
            stages[1],
        ]


def test_a_range_is_spelled_out_and_numbers_keep_their_name():
    network = made("timm/vit_tiny_patch16_224")
    taps = resolve_layers(network, ["block.-4..-1", "block.-1"])
    assert [tap.name for tap in taps] == [
        *(f"block.{k}" for k in range(2, 6)),
        "block.-1",
    ]
    assert addresses(network, "block.0:in") == ["blocks.0:in"]
    (tap,) = resolve_layers(network, ["block.1:norm"])
    assert (tap.name, tap.address) == ("block.1:norm", "blocks.1:norm")
    assert addresses(network, tap.address) == [tap.address]


def test_dotted_names_come_first():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())

        def forward(self, x):
            return self.block(x)

    assert addresses(as_network(Own(), 8), "block.1", "block.*") == [
        "block.1",
        "block.0",
    ]


@pytest.mark.parametrize(
    ("model", "name", "message"),
    [
        ("resnet18", "block.8", "'resnet18' has blocks 0 to 7 and stages 0 to 3;"),
        ("resnet18", "stage.-5", "'resnet18' has blocks 0 to 7 and stages 0 to 3;"),
        ("resnet18", "block.3..1", "block.1 comes before block.3"),
        ("alexnet", "block.0", "'alexnet' has no blocks that are named so; cnnfeat"),
        ("resnet18", "stage.3:norm", "has no norm after its last block, and layer4"),
        ("resnet18", "layer4:pre", "or with the final norm of a transformer"),
        ("timm/vit_tiny_patch16_224", "stage.0", "has blocks 0 to 5;"),
        ("timm/vit_tiny_patch16_224", "block.0:pre", "block.0:norm after it"),
        ("timm/vit_tiny_patch16_224", "blocks.0:pre", "or with norm; use MODULE:in"),
        (
            "timm/swin_tiny_patch4_window7_224",
            "stage.0:norm",
            "has a final norm of width 192, and layers.0 has the shape (16, 16, 96)",
        ),
    ],
)
def test_numbers_that_are_not_there_say_what_is(model, name, message):
    with pytest.raises(LayerError, match=re.escape(message)) as caught:
        resolve_layers(made(model), [name])
    assert "\n" not in str(caught.value)


def pooled(network, images, pool, *names):
    taps = resolve_layers(network, names)
    with Tapper(network, taps, lambda tap, a: pool_activation(a, pool, tap)) as tapper:
        return tapper(images)


def test_four_blocks_are_one_line_with_and_without_the_final_norm():
    network = made("timm/vit_small_patch14_reg4_dinov2")
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    for suffix, norm in ((":norm", True), ("", False)):
        found = pooled(network, images, "cls+mean", f"block.-4..-1{suffix}")
        assert list(found) == [f"block.{k}{suffix}" for k in range(2, 6)]
        with torch.no_grad():
            expected = network.module.get_intermediate_layers(
                images, n=4, norm=norm, return_prefix_tokens=True
            )
        for rows, (patches, prefix) in zip(found.values(), expected, strict=True):
            both = torch.cat([prefix[:, 0], patches.mean(1)], dim=1)
            assert (rows - both).abs().max() <= 1e-5 * both.abs().max()


def test_before_the_final_norm_is_what_it_reads():
    network = made("timm/vit_tiny_patch16_224")
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    names = ("norm:pre", "block.-1", "norm", "block.-1:norm")
    raw, block, norm, normed = pooled(network, images, "none", *names).values()
    assert torch.equal(raw, block) and torch.equal(norm, normed)
    assert (raw - norm).abs().max() > 1e-3


def test_the_list_tells_places_grid_and_tokens_before_the_patches():
    from cnnfeat.describe import describe_layers

    rows = {row["name"]: row for row in describe_layers("vit_b_16")}
    block = rows["encoder.layers.encoder_layer_11"]
    assert (block["place"], block["grid"]) == ("block.11", (14, 14))
    assert block["n_prefix_tokens"] == 1
    assert rows["conv_proj"]["grid"] is None
    (layer3,) = describe_layers("resnet50", "stage.2")
    assert (layer3["name"], layer3["place"]) == ("layer3", "stage.2")


def test_the_printed_list_has_them(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = CliRunner().invoke(cli, ["layers", "vit_b_16"]).stdout.splitlines()
    assert " ".join(lines[:2]).count("tokens: 1 + 14×14 patches") == 1
    assert any(
        re.match(r"encoder.layers.encoder_layer_11 +block.11 ", x) for x in lines
    )
    lines = CliRunner().invoke(cli, ["layers", "resnet18"]).stdout.splitlines()
    assert any(re.match(r"layer4 +stage.3 ", line) for line in lines)
    assert "tokens" not in lines[0]
