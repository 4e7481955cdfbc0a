"""Covering parts of an image: three maps against a plain loop."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tiny import make_tiny_network

from cnnfeat.cli.main import cli
from cnnfeat.errors import LayerError, OptionError
from cnnfeat.images import Preprocessing
from cnnfeat.visualize import OcclusionOptions, occlude_image
from cnnfeat.visualize._occluded import OccludedSource, cover_of
from cnnfeat.visualize._pixels import see_image


@pytest.fixture
def tiny(monkeypatch):
    """Put one miniature network in the place of any other, and return it."""
    network = make_tiny_network()
    monkeypatch.setattr(
        "cnnfeat.networks._request.load_network", lambda *_, **__: network
    )
    return network


@pytest.fixture
def picture(image_dir):
    return str(image_dir / "ant" / "0.png")


def plain_loop(network, pixels, side, stride, colour):
    """Cover one square after the other, and run the whole network on each."""
    starts = [*range(0, 32 - side + 1, stride)]
    starts += [32 - side] if starts[-1] != 32 - side else []
    maps, scores = [], []
    for y in starts:
        for x in starts:
            image = pixels.copy()
            image[y : y + side, x : x + side] = colour
            values = network.weights.preprocessing.normalize(torch.from_numpy(image))
            with torch.no_grad():
                found = network.module.features(values[None])
                maps.append(found.sum((2, 3))[0].numpy())
                logits = network.module.classifier(found.flatten(1))
                scores.append(torch.softmax(logits, 1)[0].numpy())
    n = len(starts)
    return np.array(maps).reshape(n, n, -1), np.array(scores).reshape(n, n, -1), starts


@pytest.mark.parametrize("way", ["incremental", "batches"])
def test_the_three_maps_are_those_of_a_plain_loop(tiny, picture, monkeypatch, way):
    worth_it = 1.0 if way == "incremental" else -1.0
    monkeypatch.setattr("cnnfeat.visualize._occlusion._WORTH_IT", worth_it)
    options = OcclusionOptions(sizes=(9, 16), stride=5, layer="features", batch_size=7)
    told = occlude_image(picture, options)
    pixels = see_image(picture, tiny.weights.preprocessing).pixels
    values = tiny.weights.preprocessing.normalize(torch.from_numpy(pixels))[None]
    with torch.no_grad():
        sums = tiny.module.features(values).sum((2, 3))[0].numpy()
        whole = torch.softmax(tiny.module(values), 1)[0].numpy()
    assert told["unit"] == sums.argmax()
    assert told["activation"] == pytest.approx(sums.max(), rel=1e-5)
    assert told["class"] == f"class {whole.argmax()}"
    assert told["probability"] == pytest.approx(whole.max(), rel=1e-5)
    for one in told["maps"]:
        assert one["computed"] == way
        maps, scores, starts = plain_loop(tiny, pixels, one["size"], 5, 128)
        assert one["upper"] == one["left"] == starts
        found = np.array(one["activation"])
        np.testing.assert_allclose(found, maps[..., told["unit"]], atol=1e-4)
        own = scores[..., whole.argmax()]
        np.testing.assert_allclose(np.array(one["probability"]), own, atol=1e-4)
        assert (np.array(one["most_probable"]) == scores.argmax(-1)).all()
        y, x = np.unravel_index(own.argmin(), own.shape)
        left, upper = starts[x], starts[y]
        region = [left, upper, left + one["size"], upper + one["size"]]
        assert one["lowest"]["region"] == region
        assert one["lowest"]["probability"] == pytest.approx(own.min(), abs=1e-4)


def test_squares_reach_all_edges_and_cover_nothing_else():
    image = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
    cover = np.full_like(image, 7)
    source = OccludedSource(image, cover, 6, 5)
    assert source.starts == ([0, 5, 10, 14], [0, 5, 10, 15, 20, 24])
    batches = list(source.batches(5, 0, lambda: True))
    assert [one.start for one in batches] == [0, 5, 10, 15, 20]
    images = np.concatenate([one.images_nhwc for one in batches])[:, 0]
    assert len(images) == source.n_images == 24
    for (y, x), copy in zip(source.places, images, strict=True):
        there = np.zeros((20, 30), bool)
        there[y : y + 6, x : x + 6] = True
        assert (copy[there] == 7).all() and (copy[~there] == image[~there]).all()


def test_a_cover_is_grey_the_mean_or_the_image_blurred():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    preprocessing = Preprocessing(40, (40, 40), mean=(0.5, 0.25, 1.0))
    assert (cover_of("grey", image, preprocessing) == [128, 64, 255]).all()
    mean = np.round(image.mean((0, 1)))
    assert (cover_of("mean", image, preprocessing) == mean).all()
    blurred = cover_of("blur", image, preprocessing)
    assert blurred.std() < image.std() / 5
    np.testing.assert_allclose(blurred.mean((0, 1)), mean, atol=4)


def test_a_class_is_chosen_and_a_sheet_drawn(tiny, picture, tmp_path):
    words = ["visualize", "occlusion", picture, "--class", "class 3", "--size", 12]
    words += ["--stride", 10, "-o", tmp_path / "o.png", "--json"]
    result = CliRunner().invoke(cli, list(map(str, words)))
    told = json.loads(result.stdout)
    assert told["class"] == "class 3"
    assert set(told["classes"].values()) <= {f"class {k}" for k in range(5)}
    assert (tmp_path / "o.png").read_bytes().startswith(b"\x89PNG")
    result = CliRunner().invoke(cli, list(map(str, words[:-3])))
    assert "share of multiply-adds" in result.stdout


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"sizes": (33,)}, OptionError, "does not fit into the crop of 32 x 32"),
        ({"sizes": (8,), "class_name": "klass 1"}, LayerError, "nearest: class 1"),
        ({"sizes": (8,), "layer": "nowhere"}, LayerError, "unknown layer 'nowhere'"),
    ],
)
def test_what_cannot_be_covered_is_named(tiny, picture, options, error, told):
    with pytest.raises(error, match=told):
        occlude_image(picture, OcclusionOptions(**options))


def test_a_network_without_classes_is_told(picture, monkeypatch):
    network = make_tiny_network()
    network.n_classes = 0
    monkeypatch.setattr(
        "cnnfeat.networks._request.load_network", lambda *_, **__: network
    )
    with pytest.raises(LayerError, match="has no classifier"):
        occlude_image(picture, OcclusionOptions(sizes=(8,)))
