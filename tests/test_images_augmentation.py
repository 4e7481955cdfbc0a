"""Augmentation: what each change does, where ranges come from, and which are bad."""

import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from cnnfeat.errors import DataError, InputError, OptionError
from cnnfeat.images import Preprocessing, canvas
from cnnfeat.images._augmentation import (
    CLASSIC,
    LIGHT,
    Augmentation,
    augment_image,
    image_generator,
    read_augmentation,
)


def crops_of(side: int, resize: int | tuple[int, int] = 32) -> Preprocessing:
    return Preprocessing(resize, (side, side), mean=(0.0, 0.0, 0.0))


def checker(side: int = 24) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (side, side, 3), dtype=np.uint8)


def change(image: np.ndarray, augmentation: Augmentation, seed: int = 0) -> np.ndarray:
    rng = image_generator(seed, 0, 0)
    return augment_image(image, augmentation, crops_of(16), rng)


def test_what_comes_into_view_has_the_mean_colour():
    grey = Preprocessing(16, (16, 16), mean=(0.2, 0.4, 0.6))
    image = np.full((16, 16, 3), 255, dtype=np.uint8)
    smaller = Augmentation(rescale=(0.5, 0.5))
    found = augment_image(image, smaller, grey, image_generator(0, 0, 0))
    assert np.array_equal(found[0, 0], [51, 102, 153])
    assert np.array_equal(found[8, 8], [255, 255, 255])


@pytest.mark.parametrize(
    ("resize", "side", "expected"),
    [(32, 24, (32, 32)), (16, 24, (24, 24)), ((20, 40), 24, (24, 40))],
)
def test_the_canvas_is_as_wide_as_the_resized_image(resize, side, expected):
    assert canvas(crops_of(side, resize)).crop_size == expected


def test_nothing_is_the_centre_crop():
    image = checker()
    assert np.array_equal(change(image, Augmentation()), image[4:20, 4:20])


def test_a_flip_is_the_mirror_image():
    image = checker()
    flipped = change(image, Augmentation(flip=1.0))
    assert np.array_equal(flipped, image[4:20, 4:20][:, ::-1])


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (270, 3)])
def test_quarter_turns_are_exact(degrees, turns):
    image = checker(16)
    turned = change(image, Augmentation(rotation=(degrees, degrees)))
    both = [np.rot90(image, k).astype(int) for k in (turns, -turns)]
    assert any(np.abs(turned - one).max() <= 1 for one in both)


def test_rescaling_by_two_shows_the_middle_half():
    image = np.zeros((16, 16, 3), dtype=np.uint8)
    image[4:12, 4:12] = 255
    larger = change(image, Augmentation(rescale=(2.0, 2.0)))
    assert (larger[1:-1, 1:-1] == 255).all()


def test_stretching_keeps_the_area():
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    image[24:40, 24:40] = 255
    rng = image_generator(0, 0, 0)
    stretch = Augmentation(stretch=(1.3, 1.3))
    wide = augment_image(image, stretch, crops_of(64), rng)[:, :, 0].astype(int)
    assert wide.sum() == pytest.approx(255 * 256, rel=0.02)
    assert (wide.sum(0) > 0).sum() > (wide.sum(1) > 0).sum()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), preset=st.sampled_from([LIGHT, CLASSIC]))
def test_presets_give_crops_and_repeat_themselves(seed, preset):
    first, second = (change(checker(), preset, seed) for _ in range(2))
    assert first.shape == (16, 16, 3) and first.dtype == np.uint8
    assert np.array_equal(first, second)


def test_changes_depend_on_seed_epoch_and_row():
    draws = {
        image_generator(*key).random()
        for key in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    }
    assert len(draws) == 4


def test_classic_has_the_published_ranges():
    assert CLASSIC.rotation == (0, 360) and CLASSIC.translation == 10
    assert CLASSIC.rescale == (1 / 1.6, 1.6) and CLASSIC.stretch == (1 / 1.3, 1.3)
    assert CLASSIC.shear == 20 and CLASSIC.flip == 0.5


def test_ranges_come_from_files(tmp_path):
    (tmp_path / "a.toml").write_text("flip = 0.5\nrotation = [-10, 10]\n")
    (tmp_path / "a.json").write_text(json.dumps({"flip": 0.5, "rotation": [-10, 10]}))
    expected = Augmentation(flip=0.5, rotation=(-10, 10))
    assert read_augmentation(str(tmp_path / "a.toml")) == expected
    assert read_augmentation(str(tmp_path / "a.json")) == expected


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("{", InputError, "cannot be read"),
        ('{"spin": 1}', DataError, "unknown spin; known: crop_area"),
        ('{"flip": 2}', DataError, "flip is out of range"),
        ('{"flip": "x"}', DataError, "flip is out of range"),
        ('{"rescale": [2, 1]}', DataError, "rescale is out of range"),
        ('{"rescale": 2}', DataError, "rescale is out of range"),
        ("[]", DataError, "unknown"),
    ],
)
def test_bad_files_of_ranges_are_named(tmp_path, text, error, match):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(error, match=match):
        read_augmentation(str(path))


def test_an_unknown_augmentation_is_named():
    with pytest.raises(OptionError, match="`augment=strong`: expected none, light"):
        read_augmentation("strong")
