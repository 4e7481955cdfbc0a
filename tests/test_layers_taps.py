"""Tapped values agree with references computed without cnnfeat."""

import copy

import pytest
import torch
from tiny import make_tiny_network
from torch import nn
from torch.nn import functional
from torchvision.models.feature_extraction import create_feature_extractor

from cnnfeat.errors import LayerError
from cnnfeat.layers import (
    Tap,
    Tapper,
    pool_activation,
    pooled_shape,
    resolve_layers,
    trace_of,
)
from cnnfeat.networks import load_network


def _tap(network, names, images, reduce=None):
    with Tapper(network, resolve_layers(network, names), reduce=reduce) as tapper:
        return tapper(images)


def _images(n, side=224, seed=0):
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


def _without_inplace(module):
    module = copy.deepcopy(module)
    for child in module.modules():
        if hasattr(child, "inplace"):
            child.inplace = False
    return module


def _assert_close(found, expected):
    scale = expected.abs().max()
    assert (found - expected).abs().max() <= 1e-5 * scale


@pytest.mark.parametrize(
    ("name", "pre", "post"),
    [
        ("alexnet", "conv2:pre", "conv2"),
        ("alexnet", "features.3", "features.4"),
        ("vgg11", "conv1:pre", "conv1"),
        ("resnet18", "bn1", "relu"),
        ("resnet18", "layer1.0.bn1", "layer1.0.relu#1"),
        ("squeezenet1_1", "features.3.squeeze", "features.3.squeeze_activation"),
    ],
)
def test_a_tap_before_the_non_linearity_is_before_it(name, pre, post):
    network = load_network(name, weights="random", device="cpu")
    taps = resolve_layers(network, [post, pre])
    assert [tap.before_nonlinearity for tap in taps] == [False, True]
    with Tapper(network, taps) as tapper:
        found = tapper(_images(2))
    assert list(found) == [post, pre]
    assert found[pre].min() < 0
    assert torch.equal(functional.relu(found[pre]), found[post])


@pytest.mark.parametrize("name", ["squeezenet1_1", "alexnet", "resnet18"])
def test_tapped_values_agree_with_torchvisions_extractor(name):
    network = load_network(name, weights="random", device="cpu")
    taps = [tap for tap in resolve_layers(network, ["all"]) if "#" not in tap.name]
    module = _without_inplace(network.module)
    kinds = dict(module.named_modules())
    names = [tap.name for tap in taps]
    # torchvision's tracer leaves out what does nothing in evaluation.
    names = [name for name in names if not isinstance(kinds[name], nn.Dropout)]
    reference = create_feature_extractor(module, names)
    images = _images(3)
    with torch.inference_mode():
        expected = reference(images)
    whole = _tap(network, names, images)
    single = [_tap(network, names, images[k : k + 1]) for k in range(3)]
    for layer in names:
        _assert_close(whole[layer], expected[layer])
        _assert_close(torch.cat([part[layer] for part in single]), expected[layer])


def test_every_value_of_the_tiny_network_by_hand(tiny_network):
    images = _images(4, side=32)
    found = _tap(tiny_network, ["all", "features.1:in", "classifier:in"], images)
    value = images
    modules = _without_inplace(tiny_network.module)
    with torch.inference_mode():
        for k, module in enumerate(modules.features):
            value = module(value)
            _assert_close(found[f"features.{k}"], value)
        _assert_close(found["classifier:in"], value.flatten(1))
        _assert_close(found["classifier"], modules.classifier(value.flatten(1)))
    assert torch.equal(found["features.1:in"], found["features.0"])


def test_no_later_pass_changes_what_was_returned(tiny_network):
    taps = resolve_layers(tiny_network, ["all", "features.0:in"])
    images = _images(2, side=32)
    with Tapper(tiny_network, taps) as tapper:
        first = tapper(images)
        kept = {name: value.clone() for name, value in first.items()}
        images.zero_()
        tapper(images)
    assert all(torch.equal(first[name], kept[name]) for name in kept)


def test_the_pass_stops_after_the_deepest_tap(tiny_network):
    ran = []
    for name, module in tiny_network.module.named_modules():
        module.register_forward_pre_hook(lambda m, a, name=name: ran.append(name))
    _ = trace_of(tiny_network)
    ran.clear()
    _tap(tiny_network, ["features.2", "features.0"], _images(1, side=32))
    assert ran == ["", "features", "features.0", "features.1", "features.2"]
    ran.clear()
    _tap(tiny_network, ["features.3:in"], _images(1, side=32))
    assert ran[-1] in ("features.2", "features.3")
    assert "features.4" not in ran


def test_reduce_runs_in_the_hook_on_values_not_yet_overwritten(tiny_network):
    images = _images(3, side=32)
    whole = _tap(tiny_network, ["features.0"], images)["features.0"]
    pooled = _tap(
        tiny_network,
        ["features.0"],
        images,
        lambda tap, a: pool_activation(a, "avg", tap),
    )
    _assert_close(pooled["features.0"], whole.mean((2, 3)))
    view = _tap(tiny_network, ["features.0"], images, lambda tap, a: a[:, :2])
    assert torch.equal(view["features.0"], whole[:, :2])


def test_hooks_are_gone_after_close_and_after_an_error(tiny_network):
    tapper = Tapper(tiny_network, resolve_layers(tiny_network, ["features.*"]))
    with pytest.raises(RuntimeError), tapper:
        tapper(torch.zeros(1, 7, 32, 32))
    tapper.close()
    modules = tiny_network.module.modules()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in modules)
    with pytest.raises(LayerError, match="no layer to tap"):
        Tapper(tiny_network, [])
    other = load_network("squeezenet1_1", weights="random", device="cpu")
    with pytest.raises(LayerError, match=r"calls no module 'features\.12'"):
        Tapper(tiny_network, resolve_layers(other))


def test_a_second_tapper_may_live_beside_the_first(tiny_network):
    images = _images(2, side=32)
    taps = resolve_layers(tiny_network, ["features.1"])
    with Tapper(tiny_network, taps) as one:
        deep = _tap(make_tiny_network(), ["classifier"], images)
        assert torch.equal(one(images)["features.1"], one(images)["features.1"])
    assert deep["classifier"].shape == (2, 5)


def _tap_of(*shape, channels_last=False):
    return Tap("layer", "layer", shape=shape, channels_last=channels_last)


@pytest.mark.parametrize("shape", [(2, 6, 7, 5), (1, 3, 1, 1), (2, 4, 2, 3)])
@pytest.mark.parametrize("pool", ["none", "avg", "max", "pyramid"])
def test_pooled_shape_tells_what_pooling_returns(shape, pool):
    activation = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    tap = _tap_of(*shape[1:])
    found = pool_activation(activation, pool, tap)
    assert tuple(found.shape[1:]) == pooled_shape(tap, pool)
    turned = activation.permute(0, 2, 3, 1)
    tap = _tap_of(*turned.shape[1:], channels_last=True)
    last = pool_activation(turned, pool, tap)
    assert torch.equal(last, found if pool != "none" else turned)


def test_pooling_takes_means_and_maxima_over_positions():
    maps, tap = torch.arange(32.0).reshape(1, 2, 4, 4), _tap_of(2, 4, 4)
    assert pool_activation(maps, "avg", tap).tolist() == [[7.5, 23.5]]
    assert pool_activation(maps, "max", tap).tolist() == [[15, 31]]
    pyramid = pool_activation(maps, "pyramid", tap)[0].tolist()
    assert pyramid[:2] == [15, 31]
    assert pyramid[2:10] == [5, 7, 13, 15, 21, 23, 29, 31]
    assert pyramid[10:] == list(range(32))
    tokens = torch.tensor([[[1.0, 5], [3, 1]]])  # (1, t=2, c=2)
    assert pool_activation(tokens, "avg", _tap_of(2, 2)).tolist() == [[2, 3]]
    assert pool_activation(tokens, "max", _tap_of(2, 2)).tolist() == [[3, 5]]
    flat = torch.ones(2, 3)
    assert pool_activation(flat, "pyramid", _tap_of(3)) is flat


def test_pooling_that_does_not_apply_is_refused():
    with pytest.raises(LayerError, match="`pool=pyramid` does not apply"):
        pool_activation(torch.ones(1, 4, 3), "pyramid", _tap_of(4, 3))
    with pytest.raises(LayerError, match="unknown pooling 'sum': expected one of none"):
        pooled_shape(_tap_of(3, 2, 2), "sum")
    with pytest.raises(LayerError, match="does not apply to layer, an activation of"):
        pooled_shape(_tap_of(2, 3, 4, 5), "avg")


def test_channels_last_activations_are_known():
    network = load_network("swin_t", weights="random", device="cpu")
    names = ["features.0.0", "features.1", "features.7", "permute"]
    taps = resolve_layers(network, names)
    assert [tap.channels_last for tap in taps] == [False, True, True, False]
    assert pooled_shape(taps[1], "avg") == (96,)
    convnext = load_network("timm/convnext_atto", weights="random", device="cpu")
    (tap,) = resolve_layers(convnext, ["stages.0.blocks.0"])
    assert not tap.channels_last
