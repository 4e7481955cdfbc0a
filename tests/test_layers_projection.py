"""Activations back to pixels, each method against a route of its own."""

import numpy as np
import pytest
import torch
from tiny import make_tiny_network, wrap
from torch import nn
from torch.nn import functional

from cnnfeat.errors import LayerError
from cnnfeat.layers import (
    Aim,
    class_maps,
    is_rectified,
    last_maps,
    project,
    resolve_layers,
    strongest_units,
)
from cnnfeat.layers._backward_rules import BackwardRule
from cnnfeat.networks import load_network


def tap_of(network, name):
    (tap,) = resolve_layers(network, [name])
    return tap


def images_of(network, n=2, dtype=torch.float32):
    height, width = network.weights.preprocessing.crop_size
    generator = torch.Generator().manual_seed(1)
    return torch.randn((n, 3, height, width), generator=generator, dtype=dtype)


RELUS = {
    "module": nn.ReLU(),
    "module in place": nn.ReLU(inplace=True),
    "function": functional.relu,
    "function in place": lambda x: functional.relu(x, True),
    "method": lambda x: x.relu(),
    "method in place": lambda x: x.relu_(),
    "in place, the result not used": lambda x: (functional.relu_(x), x)[1],
    "clamp": lambda x: x.clamp(min=0),
    "clamp_min": lambda x: torch.clamp_min(x, 0),
    "relu6 in place": nn.ReLU6(inplace=True),
    "hardtanh": nn.Hardtanh(0.0, 6.0, inplace=True),
    "threshold": nn.Threshold(0, 0),
}


@pytest.mark.parametrize("relu", RELUS.values(), ids=RELUS)
@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("gradient", [0, 1, -1, 0]),
        ("deconvnet", [1, 1, 0, 0]),
        ("guided", [0, 1, 0, 0]),
    ],
)
def test_a_relu_of_any_spelling_takes_the_signal_back_by_the_rule(relu, rule, expected):
    x = torch.tensor([-1.0, 2.0, 3.0, -4.0], requires_grad=True)
    with BackwardRule(rule):
        y = relu(x * 1)
    assert y.tolist() == [0, 2, 3, 0]
    (y * torch.tensor([1.0, 1.0, -1.0, -1.0])).sum().backward()
    assert x.grad.tolist() == expected


def explicit_deconvnet(module, image, layer, unit, unpool):
    """Zeiler and Fergus's section 2.1, layer by layer: unpool, rectify, filter."""
    steps, value = [], image
    for child in list(module.features)[: layer + 1]:
        size = value.shape[-2:]
        if isinstance(child, nn.MaxPool2d):
            value, switches = functional.max_pool2d(
                value, child.kernel_size, child.stride, return_indices=True
            )
            steps.append((child, size, switches))
        else:
            value = child(value.clone())
            steps.append((child, size, None))
    signal = torch.zeros_like(value)
    at = value[0, unit].argmax()
    signal[0, unit].view(-1)[at] = value[0, unit].view(-1)[at]
    for child, size, switches in reversed(steps):
        if isinstance(child, nn.MaxPool2d):
            signal = unpool(signal, switches, size)
        elif isinstance(child, nn.ReLU):
            signal = signal.clamp(min=0)
        else:
            height, width = size
            signal = transposed(signal, child, height, width)
    return signal


def transposed(signal, conv, height, width):
    """Filter a signal by the transposed filters, to a map of a known size."""
    stride, padding, kernel = conv.stride[0], conv.padding[0], conv.kernel_size[0]
    least = [(n - 1) * stride - 2 * padding + kernel for n in signal.shape[-2:]]
    more = (height - least[0], width - least[1])
    return functional.conv_transpose2d(
        signal, conv.weight, None, stride, padding, output_padding=more
    )


def adding(signal, switches, size):
    flat = torch.zeros(*signal.shape[:2], size[0] * size[1])
    flat.scatter_add_(2, switches.flatten(2), signal.flatten(2))
    return flat.unflatten(2, size)


def overwriting(signal, switches, size):
    flat = torch.zeros(*signal.shape[:2], size[0] * size[1])
    flat.scatter_(2, switches.flatten(2), signal.flatten(2))
    return flat.unflatten(2, size)


@pytest.mark.parametrize("layer", [5, 12])  # pool2 and pool5
def test_the_deconvnet_is_transposed_filters_and_unpooling_that_adds(layer):
    network = load_network("alexnet", weights="random", device="cpu")
    image, unit = images_of(network, 1), 7
    found = project(
        network, tap_of(network, f"features.{layer}"), image, Aim([unit]), "deconvnet"
    )
    expected = explicit_deconvnet(network.module, image, layer, unit, adding).numpy()
    scale = np.abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(found.signal / scale, expected / scale, atol=1e-5)
    if layer == 12:  # one position of the last pool: the windows below overlap
        other = explicit_deconvnet(network.module, image, layer, unit, overwriting)
        difference = np.abs(other.numpy() - expected).max() / scale
        assert difference > 1e-3


def test_where_windows_do_not_overlap_unpooling_has_nothing_to_decide():
    network = make_tiny_network()
    tap, image = tap_of(network, "features.4"), images_of(network, 1)
    unit = int(strongest_units(network, tap, image)[0].argmax())
    found = project(network, tap, image, Aim([unit]), "deconvnet")
    for unpool in (adding, overwriting):
        expected = explicit_deconvnet(network.module, image, 4, unit, unpool).numpy()
        assert np.abs(expected).max() > 0
        np.testing.assert_allclose(found.signal, expected, atol=1e-6)


@pytest.mark.parametrize("layer", ["features.0", "features.4", "(network)"])
def test_the_gradient_is_that_of_finite_differences(layer):
    network = make_tiny_network()
    tap, images = tap_of(network, layer), images_of(network, 2, torch.float64)
    network.module.double()
    units, positions = [1, 3], [(0, 0), (0, 0)]
    aim = Aim(units, positions)
    found = project(network, tap, images, aim, "gradient")
    step = torch.randn(
        images.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
    )
    e = 1e-6
    ahead, behind = (
        project(network, tap, images + sign * e * step, aim, "gradient").activations
        for sign in (1, -1)
    )
    expected = (ahead - behind) / (2 * e)
    slopes = (found.signal * step.numpy()).sum((1, 2, 3))
    np.testing.assert_allclose(slopes, expected, rtol=1e-5, atol=1e-8)


def test_gradient_x_input_is_the_product():
    network = make_tiny_network()
    tap, images = tap_of(network, "features.4"), images_of(network)
    aim = Aim([0, 1], whole=True)
    gradient = project(network, tap, images, aim, "gradient").signal
    found = project(network, tap, images, aim, "gradient-x-input").signal
    np.testing.assert_allclose(found, gradient * images.numpy(), rtol=1e-6)


@pytest.mark.parametrize("whole", [False, True])
def test_integrated_gradients_are_complete(whole):
    network = make_tiny_network()
    tap, images = tap_of(network, "features.4"), images_of(network)
    found = project(network, tap, images, Aim([0, 4], whole=whole), "integrated")
    aim = Aim([0, 4], found.positions, whole)
    base = project(network, tap, torch.zeros_like(images), aim, "gradient")
    change = found.activations - base.activations
    assert found.completeness <= 0.01
    np.testing.assert_allclose(found.signal.sum((1, 2, 3)), change, rtol=0.01)


def test_grad_cam_and_layer_cam_are_their_papers_equations():
    network = make_tiny_network()
    images, units = images_of(network, 3), [0, 3, 4]
    # conv - relu in place: the layer before it is written over, and still right.
    tap = tap_of(network, "features.4")
    with torch.no_grad():
        A = network.module.features(images)
        scores = network.module(images)
    W = network.module.classifier.weight[units].unflatten(1, A.shape[1:])
    expected = {
        "grad-cam": (W.mean((2, 3), keepdim=True) * A).sum(1).clamp(min=0),
        "layer-cam": (W.clamp(min=0) * A).sum(1).clamp(min=0),
    }
    for method, maps in expected.items():
        found, told = class_maps(network, tap, images, units, method)
        np.testing.assert_allclose(found, maps.numpy(), atol=1e-6)
        np.testing.assert_allclose(told, scores[[0, 1, 2], units].numpy(), atol=1e-6)


def test_maps_that_are_written_over_keep_their_own_gradient():
    network = make_tiny_network()
    images = images_of(network, 1)
    found, _ = class_maps(
        network, tap_of(network, "features.3"), images, [2], "layer-cam"
    )
    with torch.no_grad():
        A = network.module.features[:4](images)
        W = network.module.classifier.weight[2].unflatten(0, A.shape[1:])
    expected = ((W * (A > 0)).clamp(min=0) * A).sum(1).clamp(min=0)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)


def test_a_batch_is_its_images_one_by_one():
    network = make_tiny_network()
    tap, images = tap_of(network, "features.4"), images_of(network, 20)
    units = [k % 6 for k in range(20)]
    found = project(network, tap, images, Aim(units), "guided")
    for k in (0, 17):
        one = project(network, tap, images[k : k + 1], Aim(units[k : k + 1]), "guided")
        np.testing.assert_allclose(one.signal[0], found.signal[k], atol=1e-6)
        assert one.positions[0] == found.positions[k]


def test_the_strongest_position_and_unit_are_those_of_the_maps():
    network = make_tiny_network()
    tap, images = tap_of(network, "features.4"), images_of(network)
    with torch.no_grad():
        maps = network.module.features(images)
    largest, total = strongest_units(network, tap, images)
    np.testing.assert_allclose(largest, maps.amax((2, 3)), atol=1e-6)
    np.testing.assert_allclose(total, maps.sum((2, 3)), atol=1e-5)
    found = project(network, tap, images, Aim([2, 2]), "gradient")
    for k, (i, j) in enumerate(found.positions):
        assert float(maps[k, 2, i, j]) == pytest.approx(float(maps[k, 2].max()))
        assert found.activations[k] == pytest.approx(float(maps[k, 2].max()))


class Smooth(nn.Module):
    """A network of SiLUs."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.act = nn.SiLU(inplace=True)

    def forward(self, images):
        return self.act(self.conv(images)).mean((2, 3))


@pytest.mark.parametrize("method", ["deconvnet", "guided"])
def test_where_a_method_has_no_meaning_others_are_named(method):
    network = wrap(Smooth(), n_classes=4)
    tap, images = tap_of(network, "act"), images_of(network, 1)
    with pytest.raises(LayerError, match=rf"{method}.*calls silu.*method=gradient"):
        project(network, tap, images, Aim([0]), method)
    assert np.abs(project(network, tap, images, Aim([0]), "gradient").signal).max() > 0
    assert not is_rectified(network, tap)
    assert is_rectified(network, tap_of(network, "conv"))


@pytest.mark.parametrize(
    ("aim", "told"),
    [
        (Aim([6]), "6 units, 0 to 5; found 6"),
        (Aim([0], [(4, 0)]), "4 x 4 positions, from 0,0; found 4,0"),
    ],
)
def test_what_a_layer_does_not_have_is_refused(aim, told):
    network = make_tiny_network()
    with pytest.raises(LayerError, match=told):
        project(
            network,
            tap_of(network, "features.4"),
            images_of(network, 1),
            aim,
            "gradient",
        )


def test_a_layer_without_maps_has_no_class_map():
    network = make_tiny_network()
    with pytest.raises(LayerError, match=r"flatten has no maps.*cnnfeat layers tiny"):
        class_maps(
            network, tap_of(network, "flatten"), images_of(network, 1), [0], "grad-cam"
        )
    assert last_maps(network) == "features"


def test_a_transformer_s_patches_are_its_maps():
    network = load_network("timm/vit_tiny_patch16_224", weights="random", device="cpu")
    tap, images = tap_of(network, "blocks.0"), images_of(network, 1)
    found = project(network, tap, images, Aim([3], [(2, 5)]), "gradient")
    assert found.signal.shape == (1, 3, 224, 224) and np.abs(found.signal).max() > 0
    with pytest.raises(LayerError, match="deconvnet"):
        project(network, tap, images, Aim([3]), "deconvnet")
