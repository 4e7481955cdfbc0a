"""What speaks for the classes of a head: exact gradients, maps that are tested."""

import itertools
import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tiny import make_tiny_network

from cnnfeat import extraction, heads
from cnnfeat.cli.main import cli
from cnnfeat.errors import LayerError, OptionError
from cnnfeat.images import list_images
from cnnfeat.layers import resolve_layers, score_gradients
from cnnfeat.visualize import ExplainOptions, explain_image
from cnnfeat.visualize._explain import _by_cell, _cells, _masks
from cnnfeat.visualize._occluded import MaskedSource, OccludedSource
from cnnfeat.visualize._pixels import normalized, see_image


@pytest.fixture
def picture(colour_dir):
    return str(colour_dir / "red" / "0.png")


@pytest.mark.parametrize(
    ("how", "pool"),
    [
        ({"scale": "none"}, "none"),
        ({"scale": "l2", "signed_sqrt": True}, "avg"),
        ({"scale": "l2"}, "none"),
        ({"scale": "standard"}, "avg"),
        ({"scale": "mean-norm", "n_components": 3}, "none"),
    ],
)
def test_the_gradient_of_a_score_runs_through_every_transform(how, pool):
    network = make_tiny_network()
    taps = resolve_layers(network, ["features.4", "features.0"])
    images = torch.rand((9, 3, 32, 32), generator=torch.Generator().manual_seed(2))
    features = []

    def keep(X):
        features.append(X.detach())
        return X.sum(1)

    score_gradients(network, taps, pool, images, keep)
    transform = heads.FeatureTransform(**how).fit(features[0].numpy())
    width = transform.transform(features[0]).shape[1]
    w = torch.linspace(-1, 1, width)

    def score(X):
        return transform.transform(X) @ w + 0.5

    step = torch.randn(images.shape, generator=torch.Generator().manual_seed(3))
    gradient, values = score_gradients(network, taps, pool, images, score)
    expected = transform.transform(features[0].numpy()) @ w.numpy() + 0.5
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)
    e = 1e-3
    ahead, behind = (
        score_gradients(network, taps, pool, images + sign * e * step, score)[1]
        for sign in (1, -1)
    )
    slopes = (gradient * step.numpy()).sum((1, 2, 3))
    scale = np.abs(slopes).max()
    np.testing.assert_allclose((ahead - behind) / (2 * e), slopes, atol=0.05 * scale)


def test_scores_are_those_of_predict_and_their_difference(colour_head, picture):
    told = explain_image(
        str(colour_head), picture, ExplainOptions(top=3, stride=88, size=48)
    )
    words = ["predict", colour_head, picture, "--top", 3, "--engine", "eager", "--json"]
    result = CliRunner().invoke(cli, list(map(str, [*words, "--quiet"])))
    (predicted,) = json.loads(result.stdout)["predictions"]
    scores = {one["class"]: one["score"] for one in told["classes"]}
    assert list(scores) == predicted["labels"]
    np.testing.assert_allclose(list(scores.values()), predicted["scores"], rtol=1e-4)
    first, second = list(scores)[:2]
    options = ExplainOptions(class_name=first, against=second, stride=88)
    (both,) = explain_image(str(colour_head), picture, options)["classes"]
    assert both["score"] == pytest.approx(scores[first] - scores[second], rel=1e-4)
    assert both["class"] == f"{first} against {second}"


def test_curves_go_from_the_whole_image_to_none_of_it_and_back():
    rng = np.random.default_rng(0)
    masks = _masks(rng.permutation(14**2), (40, 50))
    gone, left = masks[:14], ~masks[14:]
    shares = gone.mean((1, 2))
    np.testing.assert_allclose(shares, np.arange(1, 15) / 15, atol=0.02)
    assert (gone == left).all()
    assert all((a <= b).all() for a, b in itertools.pairwise(gone))


def test_the_cells_that_a_map_names_go_first():
    values = np.zeros((42, 56))
    values[9:12, 20:24] = 1.0  # the cell of row 3 and column 5, whole
    order = np.argsort(-_by_cell(values), kind="stable")
    assert order[0] == 3 * 14 + 5
    assert (_cells(values.shape)[9:12, 20:24] == 3 * 14 + 5).all()
    assert _masks(order, values.shape)[0][9:12, 20:24].all()


def test_a_masked_copy_is_covered_where_the_mask_says():
    rng = np.random.default_rng(1)
    image = rng.integers(0, 200, (6, 7, 3), dtype=np.uint8)
    cover = np.full_like(image, 255)
    masks = rng.random((5, 6, 7)) < 0.5
    source = MaskedSource(image, cover, masks)
    copies = np.concatenate(
        [one.images_nhwc[:, 0] for one in source.batches(2, 0, lambda: True)]
    )
    assert len(copies) == source.n_images == 5
    assert ((copies == 255).all(-1) == masks).all()
    assert (copies[~masks] == np.broadcast_to(image, copies.shape)[~masks]).all()


def test_what_squares_cost_is_spread_over_the_pixels_that_they_cover():
    image = np.zeros((8, 8, 3), np.uint8)
    source = OccludedSource(image, image, 4, 4)
    spread = source.spread(np.array([1.0, 2.0, 3.0, 4.0]))
    assert spread[:4, :4].tolist() == [[1.0] * 4] * 4
    assert spread[4:, 4:].tolist() == [[4.0] * 4] * 4


def test_occlusion_of_a_score_is_that_of_covered_images(
    colour_head, picture, monkeypatch
):
    kept = []
    spread = OccludedSource.spread
    monkeypatch.setattr(
        OccludedSource,
        "spread",
        lambda self, values: kept.append((self, values)) or spread(self, values),
    )
    options = ExplainOptions(class_name="red", stride=176)
    told = explain_image(str(colour_head), picture, options)
    source, lost = kept[0]
    extractor = extraction.Extractor(
        make_colour_network(), ["features.1"], pool="avg", engine="eager"
    )
    from cnnfeat.store import load_head

    head = load_head(colour_head)
    with extractor:
        images = next(source.batches(9, 0, lambda: True)).images_nhwc
        X = extractor(images)["features.1"]
    red = list(head.class_names).index("red")
    covered = head.scores(X)[:, red]
    score = told["classes"][0]["score"]
    np.testing.assert_allclose(lost, score - covered, atol=1e-4)


def make_colour_network():
    from cnnfeat.networks import load_network

    return load_network("squeezenet1_1", weights="random", device="cpu")


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"class_name": "rad"}, LayerError, "no class 'rad'; nearest: red"),
        ({"against": "red"}, OptionError, "give `class_name`"),
        ({"size": 500}, OptionError, "does not fit into the crop"),
    ],
)
def test_what_cannot_be_explained_is_named(colour_head, picture, options, error, told):
    with pytest.raises(error, match=told):
        explain_image(str(colour_head), picture, ExplainOptions(**options))


def test_a_feature_file_is_no_head(colour_features, picture):
    words = ["visualize", "explain", str(colour_features), picture]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 1 and len(result.stderr.splitlines()) == 1


def test_the_image_is_seen_as_it_is_extracted(colour_dir, picture):
    network = make_colour_network()
    seen = see_image(picture, network.weights.preprocessing)
    source = extraction.ImageSource(
        list_images(picture), network.weights.preprocessing, workers=0
    )
    (batch,) = source.batches(1)
    assert (batch.images_nhwc[0, 0] == seen.pixels).all() and seen.size == (48, 40)
    assert tuple(normalized(network, seen.pixels[None]).shape) == (1, 3, 224, 224)


def test_a_feature_that_is_nothing_has_no_slope():
    network = make_tiny_network()
    network.module.features[3].weight.data[1] = -1.0  # a unit that is 0 everywhere
    network.module.features[3].bias.data[1] = -9.0
    taps = resolve_layers(network, ["features.4"])
    images = torch.rand((1, 3, 32, 32), generator=torch.Generator().manual_seed(2))
    transform = heads.FeatureTransform(signed_sqrt=True).fit(np.ones((3, 6)))
    gradient, _ = score_gradients(
        network, taps, "avg", images, lambda X: transform.transform(X).sum(1)
    )
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
