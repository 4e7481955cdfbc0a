"""`Preprocessing` equals torchvision's preset on PIL input, bit for bit."""

import json

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings, strategies as st
from PIL import Image
from torchvision.transforms import functional as F
from torchvision.transforms._presets import ImageClassification

from cnnfeat.errors import DataError, ImageError
from cnnfeat.images import Preprocessing, decode_image, list_images, locate
from cnnfeat.images._preprocessing import INTERPOLATIONS

MODES = {name: F.InterpolationMode(name) for name in INTERPOLATIONS}


def noise(width, height, seed=0):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def torchvision_pixels(image, resize, crop, interpolation):
    size = [resize] if isinstance(resize, int) else list(resize)
    resized = F.resize(image, size, MODES[interpolation], antialias=True)
    return pixels_nhwc(F.center_crop(resized, list(crop)))


def pixels_nhwc(image):
    return F.pil_to_tensor(image).permute(1, 2, 0).numpy()  # (h, w, 3)


@settings(deadline=None, max_examples=150)
@given(
    width=st.integers(1, 150),
    height=st.integers(1, 150),
    resize=st.integers(1, 90) | st.tuples(st.integers(1, 90), st.integers(1, 90)),
    crop=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    interpolation=st.sampled_from(sorted(INTERPOLATIONS)),
    seed=st.integers(0, 9),
)
@example(1, 1, 1, (1, 1), "nearest", 0)
@example(5, 3, 8, (13, 9), "bicubic", 0)
@example(64, 64, 64, (64, 64), "lanczos", 0)
@example(33, 150, 40, (31, 31), "lanczos", 1)
def test_apply_equals_torchvision(width, height, resize, crop, interpolation, seed):
    image = noise(width, height, seed)
    pixels = Preprocessing(resize, crop, interpolation).apply(image)
    expected = torchvision_pixels(image, resize, crop, interpolation)
    np.testing.assert_array_equal(pixels[0], expected)


@pytest.mark.parametrize("size", [(500, 375), (300, 197), (241, 640), (1200, 900)])
@pytest.mark.parametrize("interpolation", sorted(INTERPOLATIONS))
def test_apply_equals_torchvision_at_usual_sizes(size, interpolation):
    image = noise(*size)
    pixels = Preprocessing(256, (224, 224), interpolation).apply(image)
    expected = torchvision_pixels(image, 256, (224, 224), interpolation)
    np.testing.assert_array_equal(pixels[0], expected)


def test_apply_then_normalize_equals_the_whole_preset():
    image = noise(320, 240)
    ours = Preprocessing(232, (224, 224), "bilinear")
    theirs = ImageClassification(crop_size=224, resize_size=232)(image)
    pixels = ours.normalize(torch.from_numpy(ours.apply(image)))
    assert pixels.dtype == torch.float32
    assert torch.equal(pixels[0], theirs)


def test_normalizing_moves_the_channels_and_leaves_the_memory_as_it_is():
    pixels = Preprocessing(40, (32, 24)).apply(noise(60, 50))
    assert pixels.shape == (1, 32, 24, 3)
    assert pixels.dtype == np.uint8
    normalized = Preprocessing(40, (32, 24)).normalize(torch.from_numpy(pixels))
    assert normalized.shape == (1, 3, 32, 24)
    assert normalized.is_contiguous(memory_format=torch.channels_last)


def test_ten_crops_are_corners_centre_and_their_mirror_images():
    image = noise(50, 40)
    ours = Preprocessing(40, (32, 24))  # 40 is the short side: nothing is resized
    pixels = ours.apply(image, "ten")
    five = [pixels_nhwc(crop) for crop in F.five_crop(image, [32, 24])]
    np.testing.assert_array_equal(pixels[:5], five)
    np.testing.assert_array_equal(pixels[5:], np.flip(pixels[:5], axis=2))
    np.testing.assert_array_equal(pixels[4], ours.apply(image)[0])


@pytest.mark.parametrize(("size", "crop"), [((9, 5), (8, 8)), ((4, 6), (7, 9))])
def test_ten_crops_of_a_small_image_are_those_of_the_padded_one(size, crop):
    ours = Preprocessing(min(size), crop, "nearest")
    image = noise(*size)
    pixels = ours.apply(image, "ten")
    np.testing.assert_array_equal(pixels[4], ours.apply(image)[0])
    pads = [max(0, crop[1] - size[0]), max(0, crop[0] - size[1])]
    padding = [pads[0] // 2, pads[1] // 2, (pads[0] + 1) // 2, (pads[1] + 1) // 2]
    padded = F.pad(image, padding)
    five = [pixels_nhwc(patch) for patch in F.five_crop(padded, crop)]
    np.testing.assert_array_equal(pixels[:5], five)


@settings(max_examples=60)
@given(
    width=st.integers(20, 120),
    height=st.integers(20, 120),
    crop=st.integers(0, 9),
    data=st.data(),
)
def test_a_box_of_a_crop_is_found_in_the_original(width, height, crop, data):
    # One marked pixel, enlarged by a whole factor so that its edges stay sharp.
    factor, short = 4, min(width, height)
    ours = Preprocessing(factor * short, (factor * short // 2,) * 2, "nearest")
    x = data.draw(st.integers(0, width - 1))
    y = data.draw(st.integers(0, height - 1))
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[y, x] = 255
    image = Image.fromarray(pixels)
    if ours.resized_size(width, height) != (factor * width, factor * height):
        return  # the long side was cut
    found = np.argwhere(ours.apply(image, "ten")[crop, :, :, 0])
    if len(found) < factor * factor:
        return  # outside of this crop, or cut by its edge
    (upper, left), (lower, right) = found.min(0), found.max(0) + 1
    box = ours.source_box(
        (width, height), (left, upper, right, lower), crops="ten", crop=crop
    )
    assert box == pytest.approx((x, y, x + 1, y + 1))


def test_the_whole_centre_crop_of_a_padded_image_reaches_beyond_it():
    box = Preprocessing(10, (20, 20)).source_box((10, 10))
    assert box == (-5, -5, 15, 15)


def test_the_long_side_is_cut_to_an_integer():
    assert Preprocessing(256, (224, 224)).resized_size(500, 333) == (384, 256)
    assert Preprocessing(256, (224, 224)).resized_size(333, 500) == (256, 384)
    assert Preprocessing((10, 20), (8, 8)).resized_size(333, 500) == (20, 10)


def test_an_image_too_long_and_thin_is_an_image_error():
    with pytest.raises(ImageError, match=r"too long and thin: 1 x 60000 .* 256 x"):
        Preprocessing(256, (224, 224)).apply(Image.new("RGB", (1, 60000)))


@pytest.mark.parametrize("resize", [256, (224, 200)])
def test_a_dictionary_round_trip_through_json_is_identity(resize):
    before = Preprocessing(resize, (224, 192), "bicubic", (0.5,) * 3, (0.25,) * 3)
    after = Preprocessing.from_dict(json.loads(json.dumps(before.to_dict())))
    assert after == before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("resize_size", 0),
        ("resize_size", True),
        ("resize_size", [3]),
        ("resize_size", "256"),
        ("crop_size", 224),
        ("crop_size", [224, -1]),
        ("interpolation", "area"),
        ("interpolation", None),
        ("mean", [0.5]),
        ("mean", [0.5, 0.5, float("nan")]),
        ("std", [0.5, 0.5, 0]),
    ],
)
def test_a_value_out_of_range_is_named(field, value):
    values = {**Preprocessing(256, (224, 224)).to_dict(), field: value}
    with pytest.raises(DataError, match=f"{field} is out of range"):
        Preprocessing.from_dict(values)


def test_missing_and_unknown_fields_are_named():
    values = Preprocessing(256, (224, 224)).to_dict()
    with pytest.raises(DataError, match=r"found crop_size, interp.*, size, std"):
        del values["mean"]
        Preprocessing.from_dict({**values, "size": 1})
    with pytest.raises(DataError, match="expected an object"):
        Preprocessing.from_dict([1])


def test_unknown_crops_are_refused():
    with pytest.raises(DataError, match="found 'five'"):
        Preprocessing(8, (8, 8)).apply(noise(9, 9), "five")


@pytest.mark.images
def test_real_images_come_out_as_from_torchvisions_weights(caltech101_dir):
    preset = ImageClassification(crop_size=224)  # SqueezeNet1_1_Weights.IMAGENET1K_V1
    ours = Preprocessing(256, (224, 224), "bilinear")
    images = list_images(caltech101_dir)
    for row in range(200):
        data = locate(images, row).read()
        with Image.open(locate(images, row).path) as image:
            expected = preset(image.convert("RGB"))
        pixels = ours.normalize(torch.from_numpy(ours.apply(decode_image(data))[0]))
        assert torch.equal(pixels, expected), images.paths[row]
