"""`cnnfeat visualize`: what is told, what is drawn, what is refused."""

import json
import re

import numpy as np
import pytest
from click.testing import CliRunner
from tiny import make_tiny_network

from cnnfeat.cli.main import cli
from cnnfeat.networks import load_network
from cnnfeat.report import mosaic, signed_image
from cnnfeat.visualize import (
    FiltersOptions,
    ProjectOptions,
    look_at_filters,
    project_image,
)

RANDOM = ("--model", "squeezenet1_1", "--weights", "random")


def run(*words, status=0):
    result = CliRunner().invoke(cli, ["visualize", *map(str, words)])
    assert result.exit_code == status, result.output
    return result


@pytest.fixture
def picture(image_dir):
    return image_dir / "ant" / "0.png"


@pytest.fixture
def tiny(monkeypatch):
    """Put the miniature network in the place of any other."""
    monkeypatch.setattr(
        "cnnfeat.networks._request.load_network", lambda *_, **__: make_tiny_network()
    )


def test_the_group_lists_its_commands_and_offers_the_nearest():
    listed = run("--help").stdout
    assert "filters" in listed and "project" in listed
    told = run("fliters", status=2).stderr
    assert "no command 'visualize fliters'; did you mean 'filters'?" in told
    result = CliRunner().invoke(cli, ["visualise"])
    assert "did you mean 'visualize'" in result.stderr


def test_options_of_two_words_have_their_variables(tmp_path):
    env = {"CNNFEAT_VISUALIZE_FILTERS_MODEL": "squeezenet1_0"}
    words = ["visualize", "filters", "--weights", "random", "--json"]
    told = json.loads(CliRunner().invoke(cli, words, env=env).stdout)
    assert told["networks"][0]["model"] == "squeezenet1_0"


def test_a_look_is_a_picture_a_page_and_numbers(tmp_path):
    words = ("filters", *RANDOM, "-o", tmp_path / "f.svg", "--html", tmp_path / "page")
    told = json.loads(run(*words, "--json").stdout)
    assert told["networks"][0]["shape"] == [64, 3, 3, 3]
    assert (tmp_path / "f.svg").read_text().startswith("<?xml")
    page = (tmp_path / "page" / "index.html").read_text()
    digest = load_network("squeezenet1_1", weights="random").weights.sha256
    assert digest in page and "data:image/png" in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)


def test_a_folder_made_for_a_page_goes_with_it(tmp_path):
    words = ("filters", *RANDOM, "--layer", "nowhere", "--html", tmp_path / "page")
    assert "unknown layer 'nowhere'" in run(*words, status=1).stderr
    assert list(tmp_path.iterdir()) == []


def test_norms_are_those_of_the_kernels_and_dead_ones_are_named(tiny, monkeypatch):
    network = make_tiny_network()
    network.module.features[0].weight.data[2] *= 1e-3
    monkeypatch.setattr(
        "cnnfeat.networks._request.load_network", lambda *_, **__: network
    )
    (told,) = look_at_filters(FiltersOptions())["networks"]
    weight = network.module.features[0].weight
    expected = [float(kernel.norm()) for kernel in weight]
    np.testing.assert_allclose(told["norms"], expected, rtol=1e-5)
    assert told["weak"] == [2] and told["layer"] == "features.0"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--layer", "features.1"), "has no kernels; these have: features.0"),
        (("--layer", "features.3.squeeze", "--as", "colours"), "use --as norms"),
        (("--layer", "features.3.squeeze", "--as", "slices"), "are of 1 x 1"),
    ],
)
def test_kernels_that_cannot_be_drawn_so_are_one_line(words, told):
    assert told in run("filters", *RANDOM, *words, status=1).stderr


def test_a_mosaic_has_each_tile_whole_on_white():
    tiles = [np.full((4, 5, 3), k, np.uint8) for k in range(5)]
    sheet = mosaic(tiles, 3, gap=2)
    assert sheet.shape == (2 * 4 + 2, 3 * 5 + 2 * 2, 3)
    for k in range(5):
        y, x = k // 3 * 6, k % 3 * 7
        assert (sheet[y : y + 4, x : x + 5] == k).all()
    assert (sheet[4:6] == 255).all() and (sheet[6:, 14:] == 255).all()


def test_signed_values_are_colours_around_grey():
    values = np.array([[-2.0, 0.0, 2.0], [1.0, -1.0, 4.0]])
    assert signed_image(values, 2.0).tolist() == [[0, 128, 255], [191, 64, 255]]
    assert signed_image(np.zeros((2, 3))).tolist() == [[128] * 3] * 2


def test_a_projection_stays_within_what_its_position_sees(tiny, picture, tmp_path):
    options = ProjectOptions(layer="features.4", unit=3, position="0,2")
    told = project_image(str(picture), options)
    assert told["method"] == "deconvnet" and told["position"] == [0, 2]
    # conv 3/2/1, pool 2, conv 3/2/1: fields of 13 pixels, 8 apart, the first from -5.
    assert told["region"] == [11, -5, 24, 8]
    # The crop of 32 pixels is out of 43 x 36, from 48 x 40.
    left, upper, *_ = told["source_box"]
    assert left == pytest.approx((11 + 6) * 48 / 43, abs=0.6)
    assert upper == pytest.approx((-5 + 2) * 40 / 36, abs=0.6)


def test_sanity_goes_from_the_top_down_and_leaves_what_lies_above(tiny, picture):
    told = project_image(str(picture), ProjectOptions(sanity=True, method="gradient"))
    names = [one["from"] for one in told["rank_correlation"]]
    assert names == ["classifier", "features.3", "features.0"]
    below = ProjectOptions(layer="features.1", sanity=True)
    names = [
        one["from"] for one in project_image(str(picture), below)["rank_correlation"]
    ]
    assert "classifier" not in names


def test_the_class_is_the_most_probable_or_the_one_named(tiny, picture):
    told = project_image(str(picture), ProjectOptions(method="layer-cam"))
    scores = [
        project_image(
            str(picture), ProjectOptions(method="gradient", class_name=f"class {k}")
        )["activation"]
        for k in range(5)
    ]
    assert told["class"] == f"class {int(np.argmax(scores))}"
    assert told["activation"] == pytest.approx(max(scores), rel=1e-5)


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("--unit", 3), 2, "--unit is of a --layer"),
        (("--layer", "features.4", "--class", "class 0"), 2, "contradict each other"),
        (("--layer", "features.4", "--position", "x"), 2, "--position x is none"),
        (("--position", "all"), 2, "give --layer"),
        (("--class", "clas 1"), 1, "no class 'clas 1'; nearest: class 1"),
        (("--layer", "features.4", "--unit", 9), 1, "6 units, 0 to 5; found 9"),
        (("--layer", "features.9"), 1, "unknown layer 'features.9'"),
        (("--layer", "features.*"), 1, "stands for 5 layers"),
    ],
)
def test_what_cannot_be_projected_is_one_line(tiny, picture, words, status, told):
    lines = run("project", picture, *words, status=status).stderr
    assert told in lines and lines.count("\n") <= 3


def test_what_cannot_be_looked_at_is_one_line(tiny, picture, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    for path in (tmp_path / "broken.png", tmp_path / "none.png", picture.parent):
        lines = run("project", path, status=1).stderr.splitlines()
        assert len(lines) == 1 and path.name in lines[0]


def test_a_look_is_never_written_over_what_it_reads(tiny, picture):
    before = picture.read_bytes()
    told = run("project", picture, "-o", picture, "--overwrite", status=1).stderr
    assert "is read by this command" in told
    assert picture.read_bytes() == before


def test_a_suffix_that_is_no_picture_s_is_refused(tiny, picture):
    told = run("project", picture, "-o", "x.gif", status=2).stderr
    assert "expected a name that ends in .pdf or .png or .svg" in told
