"""What is computed again only where it has changed is what whole passes give."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from tiny import make_tiny_network, wrap
from torch import nn

from cnnfeat.extraction import IncrementalExtractor, NoFixedGraphError
from cnnfeat.layers import ROOT, Tapper, pool_activation, resolve_layers
from cnnfeat.networks import load_network

SIDE = 32


class Branches(nn.Module):
    """Strides, dilation, groups, margins, pools, sums and joins, all in one."""

    def __init__(self, has_gates=False):
        super().__init__()
        self.stem = nn.Sequential(
            nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8)
        )
        self.wide = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4)
        self.narrow = nn.Conv2d(8, 8, 1)
        self.largest = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.average = nn.AvgPool2d(2)
        self.act = nn.ReLU6(inplace=True)
        self.has_gates = has_gates
        self.last = nn.Conv2d(16, 6, 3, padding=1)
        self.classifier = nn.Linear(6, 5)

    def forward(self, images):
        x = self.act(self.stem(images))
        if self.has_gates:
            x = x * torch.sigmoid(x.mean((2, 3), keepdim=True))
        x = self.act(self.wide(x) + self.narrow(x))
        x = torch.cat([self.largest(x), self.average(x)], 1)
        x = nn.functional.silu(self.last(x), inplace=True) * 2 - 0.5
        return self.classifier(x.mean((2, 3)))


def build(has_gates=False):
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(0)
        module = Branches(has_gates)
        module.stem[2].running_mean.normal_()
    return wrap(module, n_classes=5)


NETWORKS = {"branches": build(), "gates": build(True), "tiny": make_tiny_network()}
LAYERS = {"branches": "wide", "gates": "wide", "tiny": "features"}


def both(network, layer, places, side, batch_size=4):
    """Return features by the incremental extractor, by whole passes, and the share."""
    rng = np.random.default_rng(7)
    height, width = network.weights.preprocessing.crop_size
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    changed = np.repeat(image[None, None], len(places), 0)
    for k, (y, x) in enumerate(places):
        square = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        changed[k, 0, y : y + side, x : x + side] = square
    taps = resolve_layers(network, [layer, ROOT])
    extractor = IncrementalExtractor(network, taps, image, places, side, batch_size)
    parts = [
        extractor.finish(extractor.start(changed[k : k + batch_size]))
        for k in range(0, len(places), batch_size)
    ]
    found = {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}
    pixels = network.weights.preprocessing.normalize(torch.from_numpy(changed[:, 0]))
    with Tapper(network, taps, lambda t, a: pool_activation(a, "avg", t)) as tapper:
        expected = tapper(pixels.contiguous())
    return found, {name: one.numpy() for name, one in expected.items()}, extractor.share


@settings(max_examples=15)
@given(st.data(), st.sampled_from(sorted(NETWORKS)), st.integers(1, 12))
def test_windows_give_what_whole_passes_give(data, name, side):
    corner = st.tuples(*[st.integers(0, SIDE - side)] * 2)
    places = data.draw(st.lists(corner, min_size=1, max_size=6))
    network = NETWORKS[name]
    found, expected, share = both(network, LAYERS[name], places, side)
    for layer, values in expected.items():
        np.testing.assert_allclose(found[layer], values, atol=1e-5)
    assert 0 < share <= 1


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18"])
def test_networks_that_are_used_are_computed_in_part(name):
    network = load_network(name, weights="random", device="cpu")
    places = [(0, 0), (0, 200), (200, 0), (100, 93)]
    layer = {"squeezenet1_1": "features.6", "resnet18": "layer2"}[name]
    found, expected, share = both(network, layer, places, 24)
    for one, values in expected.items():
        scale = np.abs(values).max()
        np.testing.assert_allclose(found[one] / scale, values / scale, atol=1e-5)
    assert share < 0.6


def test_behind_a_global_average_everything_is_computed():
    _, _, share = both(NETWORKS["gates"], "wide", [(3, 4)], 4)
    _, _, without = both(NETWORKS["branches"], "wide", [(3, 4)], 4)
    assert share > without + 0.1


def test_a_network_that_writes_in_another_way_is_refused():
    class Writes(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 5, 3)

        def forward(self, images):
            x = self.conv(images)
            x[:, 0] = 0
            return x.mean((2, 3))

    network = wrap(Writes(), n_classes=5)
    taps = resolve_layers(network, [ROOT])
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    with pytest.raises(NoFixedGraphError, match="writes over a part of a tensor"):
        IncrementalExtractor(network, taps, image, [(0, 0)], 4, 1)
