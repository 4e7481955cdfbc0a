"""The strongest patches: which they are, where they lie, what stands beside them."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, strategies as st
from PIL import Image
from tiny import make_tiny_network

from cnnfeat.cli.main import cli
from cnnfeat.errors import LayerError, OptionError
from cnnfeat.images import cut_patch, list_images
from cnnfeat.layer_spec import LayerSpec
from cnnfeat.layers import (
    PEAKS,
    Aim,
    Tap,
    Tapper,
    Tokens,
    pool_activation,
    pooled_shape,
    project,
    resolve_layers,
)
from cnnfeat.networks import NetworkRequest
from cnnfeat.report import signed_image
from cnnfeat.visualize import TopPatchesOptions, find_top_patches
from cnnfeat.visualize._patches import Patch, cut_originals, project_patches
from cnnfeat.visualize._pixels import normalized, see_image
from cnnfeat.visualize._strongest import StrongestSink, shuffled
from cnnfeat.visualize._top_patches import parse_units


@pytest.fixture
def tiny(monkeypatch):
    """Put one miniature network in the place of any other, and return it."""
    network = make_tiny_network()
    monkeypatch.setattr(
        "cnnfeat.networks._request.load_network", lambda *_, **__: network
    )
    return network


QUIET = {"engine": "eager", "workers": 0}


@pytest.mark.parametrize(
    ("tap", "shape"),
    [
        (Tap("a", "a", shape=(3, 4, 5)), (2, 3, 4, 5)),
        (Tap("a", "a", shape=(4, 5, 3), channels_last=True), (2, 4, 5, 3)),
        (Tap("a", "a", shape=(22, 3), tokens=Tokens((4, 5), 2, True)), (2, 22, 3)),
    ],
    ids=["maps", "channels last", "tokens"],
)
def test_peaks_say_where_a_map_is_largest(tap, shape):
    activation = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    maps = activation
    if tap.channels_last:
        maps = activation.permute(0, 3, 1, 2)
    elif tap.tokens:
        maps = activation[:, 2:].transpose(1, 2).reshape(2, 3, 4, 5)
    peaks = pool_activation(activation, PEAKS, tap)
    assert tuple(peaks.shape[1:]) == pooled_shape(tap, PEAKS) == (3, 9)
    for n in range(2):
        for c in range(3):
            i, j = divmod(int(maps[n, c].argmax()), 5)
            assert peaks[n, c, :4].argmax() == i and peaks[n, c, 4:].argmax() == j
            assert peaks[n, c].max() == maps[n, c].max()


@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 12), st.booleans())
def test_a_sink_keeps_what_sorting_everything_finds(seed, n_images, size, has_ties):
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(n_images, 3, 4, 5)).astype(np.float32)
    if has_ties:
        maps = np.round(maps)
    ok = rng.random(n_images) > 0.2
    peaks = np.concatenate([maps.max(3), maps.max(2)], 2)
    sink = StrongestSink([LayerSpec("a", "a", (3, 9))], {"a": 4}, 4)
    for start in range(0, n_images, size):
        part = slice(start, start + size)
        errors = ["" if one else "bad" for one in ok[part]]
        sink.write(start, {"a": peaks[part]}, ok[part], errors)
    for unit in range(3):
        largest = maps[:, unit].reshape(n_images, -1).max(1)
        order = np.lexsort((shuffled(np.arange(n_images)), -largest))
        order = [k for k in order if ok[k]][:4]
        kept = sink.rows["a"][unit]
        assert kept[kept >= 0].tolist() == order
        np.testing.assert_array_equal(
            sink.values["a"][unit][: len(order)], largest[order]
        )
        if not has_ties:
            for k, row in enumerate(order):
                i, j = sink.places["a"][unit, k]
                assert maps[row, unit, i, j] == largest[row]
    assert sorted(sink.failures) == np.flatnonzero(~ok).tolist()


def test_patches_are_those_of_the_whole_maps(tiny, image_dir):
    options = TopPatchesOptions(layers=("features.4",), units="all", top=5, **QUIET)
    told = find_top_patches(str(image_dir), options)
    table = list_images(image_dir)
    taps = resolve_layers(tiny, ["features.4"])
    preprocessing = tiny.weights.preprocessing
    pixels = np.stack(
        [
            see_image(table.absolute_path(k), preprocessing).pixels
            for k in range(len(table))
        ]
    )
    with Tapper(tiny, taps) as tapper:
        maps = tapper(normalized(tiny, pixels))["features.4"].numpy()
    (layer,) = told["layers"]
    assert layer["n_units"] == 6 and told["n_images"] == 12
    assert layer["n_dead"] == int((maps.max((0, 2, 3)) <= 0).sum())
    shares = []
    for one in layer["units"]:
        own = maps[:, one["unit"]].reshape(12, -1)
        order = [k for k in np.argsort(-own.max(1), kind="stable") if own[k].max() > 0]
        assert [p["path"] for p in one["patches"]] == [
            table.paths[k] for k in order[:5]
        ]
        for patch, k in zip(one["patches"], order, strict=False):
            i, j = patch["position"]
            assert maps[k, one["unit"], i, j] == pytest.approx(patch["activation"])
            assert patch["activation"] == pytest.approx(own[k].max(), rel=1e-5)
            assert patch["region"] == [8 * j - 5, 8 * i - 5, 8 * j + 8, 8 * i + 8]
        counts = np.bincount(table.labels[order[:5]]) if order else []
        shares += [max(counts) / sum(counts)] if len(order) > 1 else []
    assert layer["class_share"] == pytest.approx(np.mean(shares))


def test_a_feature_file_gives_the_same_without_a_pass(
    tiny, image_dir, tmp_path, monkeypatch
):
    line = f"extract {image_dir} -o {tmp_path}/f.h5 --layer features.4,features.2 "
    line += "--pool none --engine eager --workers 0 --quiet"
    assert CliRunner().invoke(cli, line.split()).exit_code == 0
    options = TopPatchesOptions(
        layers=("features.4", "features.2"), units="0-2", top=4, **QUIET
    )
    expected = find_top_patches(str(image_dir), options)

    def refuse(*_, **__):
        raise AssertionError("a pass over images")

    asked = classmethod(lambda cls, told, device: NetworkRequest("tiny"))
    request = "cnnfeat.networks._request.NetworkRequest.of_provenance"
    monkeypatch.setattr(request, asked)
    computing = pytest.MonkeyPatch()
    computing.setattr("cnnfeat.extraction._run.compute", refuse)
    told = find_top_patches(str(tmp_path / "f.h5"), options)
    assert told["layers"] == expected["layers"]
    computing.undo()
    drawn = TopPatchesOptions(units="0-2", top=4, output_path=str(tmp_path / "p.png"))
    told = find_top_patches(str(tmp_path / "f.h5"), drawn)
    assert told["method"] == "deconvnet"
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_pooled_features_have_no_patches(colour_features, image_dir):
    result = CliRunner().invoke(cli, ["visualize", "top-patches", str(colour_features)])
    assert result.exit_code == 1
    assert "no layer in it has maps; extract with --pool none" in result.stderr


def test_a_patch_is_cut_from_the_original(tmp_path, tiny):
    ramp = np.zeros((80, 96, 3), np.uint8)  # twice what images of 48 x 40 are
    ramp[..., 0], ramp[..., 1] = np.arange(96), 2 * np.arange(80)[:, None]
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    patch = Patch(0, 0, 1.0, (1, 1), (8, 10, 16, 20))
    (tile,), (box,) = cut_originals(tiny, list_images(tmp_path / "ramp.png"), [patch])
    # 96 x 80 is resized to 43 x 36 and cropped to 32 x 32 from (6, 2) on.
    expected = [(8 + 6) * 96 / 43, (10 + 2) * 80 / 36]
    assert box[:2] == pytest.approx(expected, abs=1.2)
    centre = (box[0] + box[2]) / 2 - 0.5, (box[1] + box[3]) - 1
    assert tile[..., 0].mean() == pytest.approx(centre[0], abs=1)
    assert tile[..., 1].mean() == pytest.approx(centre[1], abs=2)


def test_beyond_the_edge_a_patch_is_grey():
    white = np.full((10, 10, 3), 255, np.uint8)
    tile = cut_patch(white, (-10, 0, 10, 10), 40)
    assert tile.shape == (40, 40, 3)
    # The filter of the resizing mixes a few pixels around the edge.
    assert (tile[:, :14] == 128).all() and (tile[:, 26:] == 255).all()


def test_the_tile_beside_is_the_projection_of_that_activation(tiny, image_dir):
    table = list_images(image_dir)
    (tap,) = resolve_layers(tiny, ["features.4"])
    patches = [
        Patch(unit, row, 1.0, (i, j), (8 * j - 5, 8 * i - 5, 8 * j + 8, 8 * i + 8))
        for unit, row, i, j in ((0, 3, 1, 2), (5, 0, 0, 0), (1, 3, 2, 2))
    ]
    found = project_patches(tiny, tap, table, patches, "gradient")
    for tile, patch in zip(found, patches, strict=True):
        seen = see_image(table.absolute_path(patch.row), tiny.weights.preprocessing)
        images = normalized(tiny, seen.pixels[None])
        aim = Aim([patch.unit], [patch.position])
        back = project(tiny, tap, images, aim, "gradient").signal[0]
        picture = signed_image(np.moveaxis(back, 0, -1))
        np.testing.assert_array_equal(tile, cut_patch(picture, patch.region, 64))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0-2,7", [0, 1, 2, 7]),
        ("5,3-5", [5, 3, 4]),
        ("all", list(range(9))),
        ("random:99", list(range(9))),
    ],
)
def test_units_are_lists_draws_or_all(text, expected):
    assert parse_units(text, 9) == expected


def test_a_draw_of_units_is_the_same_again():
    assert parse_units("random:3", 100) == parse_units("random:3", 100)
    assert len(set(parse_units("random:3", 100))) == 3


@pytest.mark.parametrize("text", ["", "a", "5-3", "random:0", "-1", "1-"])
def test_units_that_are_none_are_wrong_usage(text, image_dir):
    with pytest.raises(OptionError, match="units"):
        find_top_patches(str(image_dir), TopPatchesOptions(units=text))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"layers": ("flatten",)}, "flatten.* has no maps"),
        ({"layers": ("features.4",), "units": "4-6"}, "features.4: there are 6 units"),
    ],
)
def test_what_a_network_does_not_have_is_named(tiny, image_dir, options, told):
    with pytest.raises(LayerError, match=told):
        find_top_patches(str(image_dir), TopPatchesOptions(**options, **QUIET))


def test_images_that_cannot_be_read_are_counted(tiny, image_dir, tmp_path):
    (image_dir / "ant" / "1.png").write_bytes(b"no image")
    words = ["visualize", "top-patches", image_dir, "-o", tmp_path / "p.png"]
    words += ["--units", "0-1", "--engine", "eager", "--workers", 0, "--json"]
    result = CliRunner().invoke(cli, list(map(str, words)))
    told = json.loads(result.stdout)
    assert told["n_failed"] == 1
    rows = [p["path"] for u in told["layers"][0]["units"] for p in u["patches"]]
    assert "ant/1.png" not in rows
