"""Layer names resolve to what they promise; the table agrees with other counts."""

import functools
import re

import pytest
import torch
from tiny import wrap
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cnnfeat.errors import LayerError
from cnnfeat.layers import layer_table, network_stages, paper_names, resolve_layers
from cnnfeat.layers._tracing import trace_network
from cnnfeat.networks import load_network


@functools.cache
def _random(name):
    return load_network(name, weights="random", device="cpu")


@pytest.fixture(scope="module")
def alexnet():
    return _random("alexnet")


def _addresses(network, *names):
    return [tap.address for tap in resolve_layers(network, names)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("alexnet", "classifier.5"),
        ("vgg11", "classifier.4"),
        ("resnet18", "avgpool"),
        ("squeezenet1_1", "features.12"),
        ("mobilenet_v2", "classifier.0"),
        ("densenet121", "classifier:in"),
        ("efficientnet_lite0", "global_pool"),
        ("timm/resnet18", "global_pool"),
        pytest.param("vgg16", "classifier.4", marks=pytest.mark.slow),
        pytest.param("vit_b_16", "heads.head:in", marks=pytest.mark.slow),
    ],
)
def test_the_default_is_the_layer_before_the_classifier(name, expected):
    network = _random(name)
    (tap,) = resolve_layers(network)
    assert tap.name == tap.address == expected
    assert not tap.before_nonlinearity


def test_papers_names_of_alexnet(alexnet):
    names = ["fc6", "conv1", "conv5", "pool1", "pool2", "pool5", "fc7", "fc8"]
    assert _addresses(alexnet, *names) == [
        *("classifier.2", "features.1", "features.11", "features.2", "features.5"),
        *("features.12", "classifier.5", "classifier.6"),
    ]
    assert _addresses(alexnet, "fc6:pre", "conv3:pre") == [
        "classifier.2:in",
        "features.7:in",
    ]
    assert all(t.before_nonlinearity for t in resolve_layers(alexnet, ["fc6:pre"]))
    for name in ("fc8:pre", "pool5:pre"):
        with pytest.raises(LayerError, match="no non-linearity follows"):
            resolve_layers(alexnet, [name])


@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn"])
def test_papers_names_of_vgg(name):
    network = _random(name)
    modules = dict(network.module.named_modules())
    names = paper_names(network)
    shapes = {
        "conv1": (64, 224, 224),
        "conv3": (256, 56, 56),
        "conv3_1": (256, 56, 56),
        "conv5_2": (512, 14, 14),
        "pool5": (512, 7, 7),
        "fc6": (4096,),
        "fc8": (1000,),
    }
    for tap in resolve_layers(network, list(shapes)):
        assert tap.shape == shapes[tap.name]
    assert names["conv3"] == names["conv3_2"] != names["conv3_1"]
    assert all(isinstance(modules[names[f"conv{k}"]], nn.ReLU) for k in range(1, 6))
    assert len([n for n in names if "_" in n]) == 8


def test_globs_and_all_keep_network_order_and_the_asked_order(tiny_network):
    assert _addresses(tiny_network, "features.*") == [f"features.{k}" for k in range(5)]
    assert _addresses(tiny_network, "classifier", "features.?", "features.1") == [
        "classifier",
        *(f"features.{k}" for k in range(5)),
    ]
    assert _addresses(tiny_network, "all") == [
        *(f"features.{k}" for k in range(5)),
        "flatten",
        "classifier",
    ]
    assert _addresses(tiny_network, "features.*:in")[1] == "features.1:in"


def test_modules_called_twice_are_numbered():
    network = _random("resnet18")
    names = ["layer1.0.relu", "layer1.0.relu#1", "layer1.0.relu#2"]
    last, first, second = resolve_layers(network, names)
    assert (last.call, first.call, second.call) == (None, 1, 2)
    every = [tap.name for tap in resolve_layers(network, ["all"])]
    assert "layer1.0.relu#1" in every and "layer1.0.relu" not in every
    assert len(every) == len(set(every))
    assert _addresses(network, "layer1.*.relu#1") == [
        "layer1.0.relu#1",
        "layer1.1.relu#1",
    ]
    with pytest.raises(LayerError, match=r"called 2 time\(s\); the bare name"):
        resolve_layers(network, ["layer1.0.relu#3"])


class _Several(nn.Module):
    """Returns a tuple, then a dict, then one tensor and None."""

    class Pair(nn.Module):
        def forward(self, x):
            return x + 1, x * 2

    class Named(nn.Module):
        def forward(self, x):
            return {"left": x[0], "right": x[1]}

    class One(nn.Module):
        def forward(self, x):
            return x["left"] + x["right"], None

    class Rows(nn.Module):
        def forward(self, x):
            return x.reshape(-1, 4)

    def __init__(self):
        super().__init__()
        self.pair, self.named, self.one = self.Pair(), self.Named(), self.One()
        self.rows, self.unused = self.Rows(), nn.Linear(2, 2)

    def forward(self, x):
        out = self.one(self.named(self.pair(x)))[0]
        self.rows(out)
        return out


def test_modules_that_return_several_tensors_name_each():
    network = wrap(_Several(), n_classes=0)
    asked = ["pair[1]", "named[left]", "one"]
    assert [tap.element for tap in resolve_layers(network, asked)] == ["1", "left", "0"]
    with pytest.raises(LayerError, match=re.escape("pair[0], pair[1]")):
        resolve_layers(network, ["pair"])
    with pytest.raises(LayerError, match=re.escape("named[left], named[right]")):
        resolve_layers(network, ["named[top]"])
    every = [tap.name for tap in resolve_layers(network, ["all"])]
    assert every == ["pair[0]", "pair[1]", "named[left]", "named[right]", "one"]
    with pytest.raises(LayerError, match="first axis is not the images'"):
        resolve_layers(network, ["rows"])
    with pytest.raises(LayerError, match="never calls it"):
        resolve_layers(network, ["unused"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("feature.3", "nearest: features.3"),
        ("conv6", "nearest: conv5"),
        ("nothing*", "unknown layer 'nothing*'"),
        ("", "unknown layer ''"),
        ("features.3:pre", "':pre' goes with a paper's name"),
        ("features.3[1]", "it returns one bare tensor"),
    ],
)
def test_a_name_that_cannot_be_tapped_says_why(alexnet, name, message):
    with pytest.raises(LayerError, match=re.escape(message)) as caught:
        resolve_layers(alexnet, [name])
    assert "\n" not in str(caught.value)
    if message.startswith(("nearest", "unknown")):
        assert "cnnfeat layers alexnet --all" in str(caught.value)


def test_tracing_leaves_the_network_as_it_was(tiny_network):
    before = {k: v.clone() for k, v in tiny_network.module.state_dict().items()}
    state = torch.get_rng_state()
    trace_network(tiny_network)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(
        torch.equal(before[k], v) for k, v in tiny_network.module.state_dict().items()
    )
    assert not any(
        m._forward_hooks or m._forward_pre_hooks for m in tiny_network.module.modules()
    )


@pytest.mark.parametrize(
    "name",
    [
        "alexnet",
        "resnet18",
        "squeezenet1_1",
        "efficientnet_lite0",
        "swin_t",
        "vit_b_16",
    ],
)
def test_parameters_and_macs_agree_with_independent_counts(name):
    network = _random(name)
    table = layer_table(network)
    n_parameters = sum(p.numel() for p in network.module.parameters())
    assert sum(row.parameters for row in table) == n_parameters
    counter = FlopCounterMode(display=False)
    # Without gradients attention is fused and hides its products from the counter.
    with counter:
        parameter = next(network.module.parameters()).requires_grad_(True)
        network.module(torch.rand(1, 3, 224, 224))
        parameter.requires_grad_(False)
    assert sum(row.macs for row in table) == counter.get_total_flops() // 2
    assert len({row.name for row in table}) == len(table)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v2"])
def test_stages_count_down_to_the_classifier(name):
    network = _random(name)
    numbers = [row.stage for row in layer_table(network) if row.parameters]
    assert numbers == sorted(numbers, reverse=True)
    assert set(numbers) == set(range(1, len(network_stages(network)) + 1))


def test_layers_between_two_stages_have_no_number():
    stage = {row.name: row.stage for row in layer_table(_random("resnet18"))}
    assert stage["conv1"] == stage["bn1"] == 6
    assert stage["maxpool"] is None and stage["avgpool"] is None
    assert stage["layer4.1.relu#2"] == 2 and stage["fc"] == 1


def test_macs_of_convolutions_follow_their_definition(alexnet):
    modules = dict(alexnet.module.named_modules())
    for row in layer_table(alexnet):
        module = modules[row.name]
        n_positions = row.shape[1] * row.shape[2] if len(row.shape) == 3 else 1
        weight = getattr(module, "weight", None)
        assert row.macs == (0 if weight is None else weight.numel() * n_positions)


def test_receptive_fields_of_alexnet(alexnet):
    rows = {row.alias: row for row in layer_table(alexnet) if row.alias}
    fields = {name: row.receptive_field for name, row in rows.items()}
    assert fields == {
        **{"conv1": 11, "pool1": 19, "conv2": 51, "pool2": 67, "conv3": 99},
        **{"conv4": 131, "conv5": 163, "pool5": 195},
        **{"fc6": None, "fc7": None, "fc8": None},
    }
    assert [rows[n].stride for n in ("conv1", "pool1", "conv3", "pool5")] == [
        4,
        8,
        16,
        32,
    ]


def _gradient_support(features, upto, size):
    """Side of the image region that the middle position of a layer depends on."""
    image = torch.rand(1, 3, size, size, requires_grad=True)
    out = features[:upto](image)
    middle = out.shape[-1] // 2
    out[..., middle, middle].sum().backward()
    rows = image.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    return int(rows.max() - rows.min()) + 1


@pytest.mark.parametrize("upto", [1, 3, 4, 6, 7])
def test_receptive_fields_agree_with_the_gradients_support(alexnet, upto):
    modules = []
    for module in alexnet.module.features:
        if isinstance(module, nn.MaxPool2d):  # its gradient reaches the maximum alone
            module = nn.AvgPool2d(module.kernel_size, module.stride)
        elif isinstance(module, nn.Conv2d):
            geometry = (module.stride, module.padding)
            module = nn.Conv2d(
                module.in_channels, module.out_channels, module.kernel_size, *geometry
            )
            nn.init.constant_(module.weight, 1e-3)
        modules.append(module)
    row = layer_table(alexnet)[upto - 1]
    assert _gradient_support(nn.Sequential(*modules), upto, 224) == row.receptive_field


def test_the_receptive_field_of_branches_is_their_union():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide = nn.Conv2d(3, 2, 7, padding=3)
            self.narrow = nn.Conv2d(3, 2, (1, 3), padding=(0, 1))
            self.last = nn.Conv2d(2, 2, 3, stride=2, dilation=2)

        def forward(self, x):
            return self.last(self.wide(x) + self.narrow(x))

    rows = {row.name: row for row in layer_table(wrap(Branches(), n_classes=2))}
    assert rows["narrow"].receptive_field == 3
    assert rows["last"].receptive_field == 7 + 2 * 2
    assert rows["last"].stride == 2
