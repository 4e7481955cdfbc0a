"""Where positions of a map look, against where gradients say that they look."""

import pytest
import torch
from torch import nn

from cnnfeat.images import Preprocessing
from cnnfeat.layers import Tapper, resolve_layers, trace_of
from cnnfeat.networks import Network, load_network

SIDE = 97  # odd: strides do not come out even


def evenly_weighted(module):
    """Make every path from a pixel count: gradients are then zero where none leads."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            fan_in = child.weight[0].numel()
            nn.init.constant_(child.weight, 1 / fan_in)
            if child.bias is not None:
                nn.init.zeros_(child.bias)
        for name, inner in child.named_children():
            if isinstance(inner, nn.MaxPool2d):  # its gradient takes one path alone
                mean = nn.AvgPool2d(
                    inner.kernel_size,
                    inner.stride,
                    inner.padding,
                    ceil_mode=inner.ceil_mode,
                )
                setattr(child, name, mean)
    return module.double()


def network_at_side(name):
    loaded = load_network(name, weights="random", device="cpu")
    small = Preprocessing(SIDE, (SIDE, SIDE))
    return Network.from_module(loaded.module, small, name=name)


def seen_by_gradient(network, layer, i, j):
    """The box of pixels whose change changes position (i, j) of the layer's map."""
    # Small values: a ReLU6 must not saturate.
    image = torch.full((1, 3, SIDE, SIDE), 1e-3, dtype=torch.float64)
    image.requires_grad_()
    with Tapper(network, resolve_layers(network, [layer]), grad=True) as tapper:
        tapper(image)[layer][0, :, i, j].sum().backward()
    rows = image.grad[0].abs().sum(dim=(0, 2)).nonzero()
    columns = image.grad[0].abs().sum(dim=(0, 1)).nonzero()
    left, right = int(columns[0]), int(columns[-1]) + 1
    return left, int(rows[0]), right, int(rows[-1]) + 1


@pytest.mark.parametrize(
    "name", ["alexnet", "vgg11", "resnet18", "squeezenet1_1", "efficientnet_lite0"]
)
def test_a_region_is_what_gradients_reach(name):
    network = network_at_side(name)
    grids = {
        call.name: call.outputs[""].grid
        for call in trace_of(network).calls
        if isinstance(call.module, (nn.Conv2d, nn.MaxPool2d))
    }
    layers = [layer for layer, grid in grids.items() if grid is not None]
    evenly_weighted(network.module)
    for layer in layers[:: max(1, len(layers) // 6)]:
        grid = grids[layer]
        for i, j in {(0, 0), (grid.size[0] // 2, grid.size[1] - 1)}:
            left, upper, right, lower = grid.region(i, j)
            inside = (max(left, 0), max(upper, 0), min(right, SIDE), min(lower, SIDE))
            assert seen_by_gradient(network, layer, i, j) == inside, (layer, i, j)


def test_without_grad_nothing_is_recorded():
    network = network_at_side("squeezenet1_1")
    image = torch.ones(1, 3, SIDE, SIDE, requires_grad=True)
    with Tapper(network, resolve_layers(network, ["features.3"])) as tapper:
        assert not tapper(image)["features.3"].requires_grad
