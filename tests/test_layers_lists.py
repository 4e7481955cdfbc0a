"""The lists of layers: the shipped table, the short list, globs over names."""

import functools
import json

import pytest
from click.testing import CliRunner
from hypothesis import given, strategies as st
from tiny import make_tiny_network
from torch import nn

from cnnfeat.cli.main import cli
from cnnfeat.describe import describe_layers
from cnnfeat.errors import CnnfeatWarning, LayerError
from cnnfeat.layers import (
    all_layers,
    computing_layers,
    default_layer,
    known_layers,
    layer_table,
    main_layers,
    matching_layers,
    resolve_layers,
)
from cnnfeat.layers._globs import compile_glob
from cnnfeat.networks import known_networks, load_network

KNOWN = [name for name in known_networks() if not name.startswith("timm/")]


@functools.cache
def _random(name):
    return load_network(name, weights="random", device="cpu")


def run(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    "name",
    [
        *("efficientnet_lite0", "alexnet", "resnet18", "squeezenet1_1", "densenet121"),
        pytest.param("swin_t", marks=pytest.mark.slow),
        pytest.param("vit_b_16", marks=pytest.mark.slow),
    ],
)
def test_the_shipped_table_is_what_the_library_says(name):
    assert known_layers(name) == all_layers(_random(name))


def test_the_shipped_table_has_every_network_that_is_built_here_by_name():
    assert all(known_layers(name) for name in KNOWN)
    assert known_layers("alex") is None
    assert known_layers("timm/resnet18") is None


@pytest.mark.parametrize("name", KNOWN)
def test_the_short_list_is_short_whole_and_marks_one_default(name):
    rows = known_layers(name)
    short = main_layers(rows)
    assert 5 <= len(short) <= 45
    assert [row.is_default for row in short].count(True) == 1
    assert len({row.name for row in short}) == len(short)
    for total in ("parameters", "macs"):
        expected = sum(getattr(row, total) for row in computing_layers(rows))
        assert sum(getattr(row, total) for row in short) == expected
    if name != "inception_v3":  # published with its auxiliary classifier
        published = known_networks()[name].n_parameters
        assert sum(row.parameters for row in short) == published


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "vit_b_16"])
def test_every_name_of_the_short_list_can_be_tapped(name):
    network = _random(name)
    for row in main_layers(all_layers(network)):
        (tap,) = resolve_layers(network, [row.name])
        assert tap.shape == row.shape


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("efficientnet_lite0", {"blocks.2", "blocks.6", "global_pool", "classifier"}),
        ("resnet152", {"layer1", "layer4", "maxpool", "avgpool", "fc"}),
        ("vit_b_16", {"conv_proj", "encoder.layers.encoder_layer_0", "heads.head"}),
        ("mobilenet_v2", {"features.1", "features.18", "classifier.1"}),
    ],
)
def test_blocks_stages_pools_and_classifier_are_listed(model, names):
    assert names <= {row.name for row in main_layers(known_layers(model))}


@pytest.mark.parametrize("model", ["alexnet", "vgg16"])
def test_the_papers_names_are_the_short_list(model):
    aliases = [row.alias for row in main_layers(known_layers(model)) if row.alias]
    fives = [f"{kind}5" for kind in ("conv", "pool")]
    assert aliases[-5:] == [*fives, "fc6", "fc7", "fc8"]


def test_the_default_that_is_the_classifiers_input_has_a_row():
    rows = main_layers(known_layers("vit_b_16"))
    (row,) = [row for row in rows if row.is_default]
    assert (row.name, row.shape) == ("heads.head:in", (768,))
    assert default_layer(_random("vit_b_16")) == row.name


def test_the_layer_table_is_as_it_was(tiny_network):
    names = [row.name for row in layer_table(tiny_network)]
    assert names == [*(f"features.{k}" for k in range(5)), "flatten", "classifier"]
    assert {row.name for row in all_layers(tiny_network)} - {*names} >= {"features"}


def test_a_pattern_counts_all_inside_a_block():
    rows = known_layers("resnet50")
    (layer4,) = [row for row in matching_layers(rows, "layer4*")]
    inside = [row for row in rows if row.name.startswith("layer4.")]
    assert layer4.parameters == sum(row.parameters for row in inside) == 14_964_736
    assert len(matching_layers(rows, "layer3.*")) == 6
    assert len(matching_layers(rows, "layer3.**")) > 50
    assert {row.kind for row in matching_layers(rows, "downsample.0")} == {"Conv2d"}
    assert [row.name for row in matching_layers(known_layers("alexnet"), "fc7")] == [
        "classifier.5"
    ]


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("blocks.*", ["blocks.0", "blocks.12"], ["blocks", "blocks.0.conv"]),
        ("blocks.**", ["blocks.0", "blocks.0.conv"], ["blocks"]),
        ("**.relu", ["relu", "layer1.0.relu"], ["layer1.0.relu2", "norelu"]),
        ("**relu", ["relu", "layer1.0.relu", "norelu"], ["relu2"]),
        ("layer?.0", ["layer1.0"], ["layer12.0", "layer..0"]),
        ("features.[03]", ["features.0", "features.3"], ["features.1"]),
        ("features.[!03]", ["features.1"], ["features.0", "features.10"]),
        ("a.b", ["a.b"], ["axb"]),
    ],
)
def test_one_star_stays_within_a_level_and_two_cross(pattern, yes, no):
    glob = compile_glob(pattern)
    assert [name for name in [*yes, *no] if glob.fullmatch(name)] == yes


@given(st.lists(st.sampled_from(["a", "bc", "d1"]), min_size=1), st.data())
def test_a_glob_matches_the_name_it_was_made_of(parts, data):
    name = ".".join(parts)
    at = data.draw(st.integers(0, len(parts) - 1))
    within = ".".join([*parts[:at], "*", *parts[at + 1 :]])
    assert compile_glob(within).fullmatch(name)
    assert compile_glob(".".join([*parts[:at], "**"])).fullmatch(name)
    assert not compile_glob(within).fullmatch(f"{name}.more")


class _Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()))
        self.b = nn.Flatten()

    def forward(self, x):
        return self.b(self.a(x))


def test_layers_by_glob_stay_within_a_level_or_say_that_they_do_not():
    from tiny import wrap

    network = wrap(_Nested(), n_classes=0)

    def names(pattern):
        return [tap.name for tap in resolve_layers(network, [pattern])]

    assert names("*") == ["a", "b"]
    assert names("a.*") == ["a.0"]
    assert names("a.**") == ["a.0.0", "a.0.1", "a.0"]
    with pytest.warns(CnnfeatWarning, match=r"'a\*1': \* stays within one level"):
        assert names("a*1") == ["a.0.1"]


def test_layers_of_the_default_network_are_what_readme_and_help_name():
    lines = run("layers").stdout.splitlines()
    assert 10 <= len(lines) - 3 <= 20
    assert any(line.startswith("blocks.2 ") for line in lines)
    assert any(line.startswith("global_pool * ") for line in lines)


@pytest.mark.parametrize("words", [("resnet50",), ("--model", "resnet50")])
def test_the_model_is_an_argument_and_the_pattern_too(words):
    rows = json.loads(run("layers", *words, "layer?", "--json").stdout)["layers"]
    assert [row["name"] for row in rows] == [f"layer{k}" for k in range(1, 5)]


def test_too_many_words_are_wrong_usage():
    result = run("layers", "--model", "resnet50", "alexnet", "layer?")
    assert result.exit_code == 2
    assert "'layer?' is one word too many" in result.stderr


def test_a_pattern_that_nothing_matches_offers_the_nearest():
    with pytest.raises(LayerError, match="nearest: layer4") as caught:
        describe_layers("resnet50", "layer44")
    assert "cnnfeat layers resnet50 --all" in str(caught.value)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", ["efficientnet_lite0", "vit_l_16", "densenet201"])
def test_the_short_list_fits_the_terminal(name, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    lines = run("layers", name).stdout.splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) <= 3 + 24


def test_networks_that_are_not_in_the_table_are_built(monkeypatch):
    network = make_tiny_network()
    monkeypatch.setattr("cnnfeat.networks.load_network", lambda *_, **__: network)
    names = [row["name"] for row in describe_layers("tiny")]
    assert names == [*(f"features.{k}" for k in range(5)), "classifier"]
