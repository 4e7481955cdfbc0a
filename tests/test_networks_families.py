"""One of each family of backbones: taps agree with timm, MACs with a counter."""

import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from cnnfeat.images import Preprocessing
from cnnfeat.layers import (
    Tapper,
    blocks_of,
    layer_table,
    pool_activation,
    resolve_layers,
)
from cnnfeat.networks import Network, load_network

SMALL = {"embed_dim": 48, "depth": 2, "num_heads": 3}
# Families as small as their code allows: name, options, side, what timm's levels are.
FAMILIES = {
    "DINOv2": ("vit_small_patch14_dinov2", {**SMALL, "img_size": 28}, 28, "block"),
    "DINOv3": ("vit_small_patch16_dinov3", {**SMALL, "img_size": 32}, 32, "block"),
    "CLIP": ("vit_base_patch32_clip_224", {**SMALL, "img_size": 64}, 64, "block"),
    "SigLIP": ("vit_base_patch16_siglip_224", {**SMALL, "img_size": 32}, 32, "block"),
    "EVA": ("eva02_tiny_patch14_224", {**SMALL, "img_size": 28}, 28, "block"),
    "SAM": (
        "samvit_base_patch16_224",
        {**SMALL, "img_size": 64, "global_attn_indexes": (1,), "window_size": 2},
        64,
        "block",
    ),
    "ConvNeXt V2": ("convnextv2_atto", {"depths": (1, 1, 2, 1)}, 64, "stage"),
    "MobileNetV4": ("mobilenetv4_conv_small_035", {}, 64, "stage"),
}


@pytest.fixture(params=FAMILIES, scope="module")
def network(request):
    name, options, side, _ = FAMILIES[request.param]
    torch.manual_seed(0)
    module = timm.create_model(name, **options).eval()
    size = Preprocessing(side, (side, side))
    found = Network.from_module(module, size, name=request.param)
    found.n_classes = module.num_classes
    return found


def images_of(network, n=2):
    side = network.weights.preprocessing.crop_size[0]
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 3, side, side, generator=generator)


def test_taps_are_timms_intermediates(network):
    images, word = images_of(network), FAMILIES[network.name][3]
    with torch.no_grad():
        levels = network.module.forward_intermediates(
            images, norm=False, intermediates_only=True
        )
    taps = resolve_layers(network, [f"{word}.*"])
    pool = "patches" if word == "block" else "none"
    with Tapper(network, taps, lambda tap, a: pool_activation(a, pool, tap)) as tapper:
        found = list(tapper(images).values())
    if word == "block":  # (n, h, w, c)
        assert len(found) == len(levels) == 2
        found = [rows.permute(0, 3, 1, 2) for rows in found]
    for level in levels[-4:]:  # before them is a convnet's stem
        same = [rows for rows in found if rows.shape == level.shape]
        assert any(
            (rows - level).abs().max() <= 1e-5 * level.abs().max() for rows in same
        )


def test_macs_are_an_independent_count(network):
    counter = FlopCounterMode(display=False)
    # Without gradients attention is fused and hides its products from the counter.
    with counter:
        parameter = next(network.module.parameters()).requires_grad_(True)
        network.module(images_of(network, 1))
        parameter.requires_grad_(False)
    rows = layer_table(network)
    assert sum(row.macs for row in rows) == counter.get_total_flops() // 2
    n_parameters = sum(p.numel() for p in network.module.parameters())
    assert sum(row.parameters for row in rows) == n_parameters


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_each_loads_by_name_with_random_weights(family):
    name, _, _, word = FAMILIES[family]
    found = load_network(f"timm/{name}", weights="random", device="cpu")
    blocks = blocks_of(found)
    assert blocks.blocks and (word == "block" or blocks.stages)
