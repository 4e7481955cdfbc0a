"""Tokens are what timm, torchvision and the papers mean by them."""

import csv
import re
from dataclasses import replace

import h5py
import numpy as np
import pytest
import timm
import torch
from click.testing import CliRunner
from torchvision.models import VisionTransformer

from cnnfeat.cli.main import cli
from cnnfeat.describe import describe_file
from cnnfeat.errors import CnnfeatWarning, LayerError, ProvenanceError
from cnnfeat.evaluate import EvaluationOutputs, evaluate_head
from cnnfeat.extract import ExtractOptions, extract_arrays, extract_features
from cnnfeat.extraction import Extractor
from cnnfeat.images import Preprocessing
from cnnfeat.layers import Tapper, last_tokens, pool_activation, resolve_layers
from cnnfeat.networks import Network
from cnnfeat.predict import predict_images
from cnnfeat.train import TrainOptions, train_head

SIDE = 32
# One of each family, as small as its code allows: grid, tokens before the patches.
FAMILIES = {
    "vit": ("vit_tiny_patch16_224", {}, (2, 2), 1),
    "dinov2 with registers": ("vit_small_patch14_reg4_dinov2", {}, (2, 2), 5),
    "dinov3": ("vit_small_patch16_dinov3", {"use_fc_norm": False}, (2, 2), 5),
    "deit, distilled": ("deit_tiny_distilled_patch16_224", {}, (2, 2), 2),
    "clip": ("vit_base_patch32_clip_224", {}, (1, 1), 1),
    "siglip": ("vit_base_patch16_siglip_224", {}, (2, 2), 0),
    "eva": ("eva02_tiny_patch14_224", {"use_fc_norm": False}, (2, 2), 1),
    "beit": ("beit_base_patch16_224", {"global_pool": "token"}, (2, 2), 1),
    "cait": ("cait_xxs24_224", {}, (2, 2), 1),
}
SMALL = {"embed_dim": 48, "depth": 2, "num_heads": 3}


def network_of(family):
    name, options, _, _ = FAMILIES[family]
    side = 28 if "patch14" in name else SIDE
    torch.manual_seed(0)
    module = timm.create_model(name, img_size=side, **options, **SMALL)
    return as_network(module, side)


def as_network(module, side):
    preprocessing = Preprocessing(side, (side, side))
    return Network.from_module(module.eval(), preprocessing=preprocessing)


@pytest.fixture(params=FAMILIES, scope="module")
def family(request):
    return request.param


@pytest.fixture(scope="module")
def network(family):
    return network_of(family)


@pytest.fixture(scope="module")
def images(network):
    generator = torch.Generator().manual_seed(1)
    sides = network.weights.preprocessing.crop_size
    return torch.randn(3, 3, *sides, generator=generator)


def features(network, images, pool):
    """Return what is stored of the last layer with tokens."""
    taps = resolve_layers(network, [last_tokens(network)])
    with Tapper(network, taps, lambda tap, a: pool_activation(a, pool, tap)) as tapper:
        (found,) = tapper(images).values()
    return found


def timm_pooled(network, images, how):
    """Return timm's own pooling of the last tokens."""
    module = network.module
    with torch.no_grad():
        tokens = module.forward_features(images)
        n_prefix = getattr(module, "num_prefix_tokens", 0)
        pool = timm.layers.global_pool_nlc
        return tokens, pool(tokens, pool_type=how, num_prefix_tokens=n_prefix)


def assert_close(found, expected):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_the_mean_is_timms_average_pooling(network, images, family):
    tokens, expected = timm_pooled(network, images, "avg")
    assert_close(features(network, images, "avg"), expected)
    if FAMILIES[family][3]:  # the fault that this is about
        assert (tokens.mean(1) - expected).abs().max() > 1e-3


def test_the_class_token_is_timms(network, images, family):
    has_class = FAMILIES[family][3] > 0
    if not has_class:
        with pytest.raises(LayerError, match="has no class token: use `tokens=mean`"):
            features(network, images, "cls")
        return
    _, expected = timm_pooled(network, images, "token")
    assert_close(features(network, images, "cls"), expected)
    _, mean = timm_pooled(network, images, "avg")
    both = features(network, images, "cls+mean")
    assert_close(both, torch.cat([expected, mean], dim=1))


def test_the_patches_are_timms_intermediates(network, images, family):
    found = features(network, images, "patches")  # (n, h, w, c)
    assert found.shape[1:3] == FAMILIES[family][2]
    with torch.no_grad():
        (expected,) = network.module.forward_intermediates(
            images, indices=1, norm=True, intermediates_only=True
        )
    if family != "cait":  # its norm comes after two more blocks
        assert_close(found.permute(0, 3, 1, 2), expected)
    assert_close(features(network, images, "max"), found.amax((1, 2)))
    pyramid = features(network, images, "pyramid")
    assert_close(pyramid[:, : found.shape[-1]], found.amax((1, 2)))


def test_the_layout_is_known(network, family):
    _, _, grid, n_prefix = FAMILIES[family]
    (tap,) = resolve_layers(network, [last_tokens(network)])
    assert (tap.tokens.grid, tap.tokens.n_prefix) == (grid, n_prefix)
    assert tap.tokens.has_class == (n_prefix > 0)


def test_registers_stand_between_class_token_and_patches():
    network = network_of("dinov2 with registers")
    images = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tokens = network.module.forward_features(images)
    assert_close(features(network, images, "registers"), tokens[:, 1:5])
    with pytest.raises(LayerError, match="no tokens beside class token and patches"):
        features(network_of("vit"), torch.zeros(1, 3, SIDE, SIDE), "registers")


def test_a_block_of_a_class_attention_network_has_no_class_token():
    network = network_of("cait")
    (tap,) = resolve_layers(network, ["blocks.1"])
    assert (tap.tokens.n_prefix, tap.tokens.has_class) == (0, False)


def test_torchvisions_transformer_has_a_class_token():
    torch.manual_seed(0)
    module = VisionTransformer(SIDE, 16, 2, 3, 48, 96, num_classes=4).eval()
    network = as_network(module, SIDE)
    images = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        reads = []
        module.heads.register_forward_pre_hook(lambda m, args: reads.append(args[0]))
        module(images)
    assert_close(features(network, images, "cls"), reads[0])


def test_a_windowed_transformer_is_a_map():
    module = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=64, depths=(1, 1), num_heads=(2, 2)
    )
    network = as_network(module, 64)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = module.forward_features(images)  # (n, h, w, c)
    assert_close(features(network, images, "patches"), maps)
    assert_close(features(network, images, "avg"), maps.mean((1, 2)))
    with pytest.raises(LayerError, match="has no class token"):
        features(network, images, "cls")


# -- the way to a file and back --------------------------------------------------------


def test_a_file_tells_grid_and_prefix_tokens(image_dir, tmp_path):
    network = network_of("deit, distilled")
    options = ExtractOptions(tokens="cls+mean", engine="eager")
    path = tmp_path / "f.h5"
    report = extract_features(str(image_dir), str(path), options, network=network)
    assert report.layers == {"norm": [96]}
    with h5py.File(path) as file:
        attrs = dict(file["features/norm"].attrs)
    assert attrs["pool"] == "cls+mean"
    assert attrs["token_grid"].tolist() == [2, 2]
    assert attrs["n_prefix_tokens"] == 2


def test_mean_and_avg_are_one(image_dir):
    network = network_of("vit")
    both = [
        extract_arrays(network, str(image_dir), ["norm"], options=options).features
        for options in (
            ExtractOptions(tokens="mean", engine="eager"),
            ExtractOptions(pool="avg", engine="eager"),
        )
    ]
    np.testing.assert_array_equal(both[0]["norm"], both[1]["norm"])


VIT = ExtractOptions(
    model="timm/test_vit", weights="random", layers=("norm",), engine="eager", workers=0
)


def forget_tokens(path):
    """Make a file like those that earlier versions wrote."""
    with h5py.File(path, "r+") as file:
        attrs = file["features/norm"].attrs
        del attrs["token_grid"], attrs["n_prefix_tokens"]
        del file["provenance"].attrs["averaged_tokens"]


def test_averages_of_an_earlier_version_are_not_mixed_with_these(colour_dir, tmp_path):
    now, earlier, head = (str(tmp_path / name) for name in ("n.h5", "e.h5", "h.h5"))
    averaged = replace(VIT, pool="avg")
    for path in (now, earlier):
        extract_features(str(colour_dir), path, averaged)
    assert "notes" not in describe_file(now)
    forget_tokens(earlier)
    (note,) = describe_file(earlier)["notes"]
    assert note.startswith("norm: `pool=avg` of an earlier version took all tokens")
    train_head(earlier, head, TrainOptions(train_per_class=4))
    evaluate_head(head, earlier)
    with pytest.raises(ProvenanceError, match=r"n_prefix_tokens of layer norm is '1'"):
        evaluate_head(head, now)
    with pytest.raises(ProvenanceError, match=r"pooled over all tokens, the 1 before"):
        predict_images(head, str(colour_dir))


def test_heads_on_tokens_predict_as_they_are_evaluated(colour_dir, tmp_path):
    features, head = str(tmp_path / "f.h5"), str(tmp_path / "h.h5")
    extract_features(
        str(colour_dir), features, replace(VIT, layers=(), tokens="cls+mean")
    )
    train_head(features, head, TrainOptions(train_per_class=4))
    table = tmp_path / "p.csv"
    outputs = EvaluationOutputs(predictions_path=str(table))
    evaluate_head(head, features, outputs=outputs)
    with table.open() as lines:
        expected = {row["path"]: row["predicted"] for row in csv.DictReader(lines)}
    with pytest.warns(CnnfeatWarning, match="was trained on"):
        report = predict_images(head, str(colour_dir))
    found = {one.path: one.labels[0] for one in report.predictions}
    assert expected == {path: found[path] for path in expected}
    assert len(expected) == 12


def test_tokens_and_pool_contradict_each_other(image_dir, tmp_path):
    arguments = ["extract", str(image_dir), "-o", str(tmp_path / "f.h5")]
    chosen = ["--tokens", "cls", "--pool", "max"]
    result = CliRunner().invoke(cli, [*arguments, *chosen])
    assert result.exit_code == 2
    assert "--pool and --tokens contradict each other" in result.stderr


def test_tokens_of_a_convnet_are_refused(tiny_network):
    for layers in ((), ("features.0",)):
        with (
            pytest.raises(LayerError, match=re.escape("`tokens`: ")),
            Extractor(tiny_network, layers, tokens="cls"),
        ):
            pass


def test_unknown_tokens_are_averaged_with_a_word():
    class Sequence(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Linear(3, 8)
            self.head = torch.nn.Linear(8, 2)

        def forward(self, images):
            tokens = self.embed(images.flatten(2).transpose(1, 2))
            return self.head(tokens.mean(1))

    network = as_network(Sequence(), 4)
    with pytest.warns(CnnfeatWarning, match="which of its 16 tokens are patches, so"):
        extractor = Extractor(network, ["embed"], pool="avg").open()
    with extractor:
        assert extractor.specs[0].shape == (8,)
        assert extractor.specs[0].token_grid is None
