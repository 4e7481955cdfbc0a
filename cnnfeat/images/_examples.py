"""A few images for people to look at: small copies, and augmented ones."""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image

from cnnfeat.errors import ImageError, InputError
from cnnfeat.image_table import ImageTable
from cnnfeat.images._augmentation import (
    Augmentation,
    augment_image,
    canvas,
    image_generator,
)
from cnnfeat.images._decode import DEFAULT_LIMITS, Reading, decode_image
from cnnfeat.images._listing import relist_images
from cnnfeat.images._pixel_store import PixelStore
from cnnfeat.images._places import locate
from cnnfeat.images._preprocessing import Preprocessing
from cnnfeat.value_range import read_range

_THUMBNAIL_SIDE = 160  # pixels
_N_IMAGES, _N_COPIES = 6, 7
_OUTSIDE = 128  # grey: beyond the edge of an image


def read_thumbnail(image_list: ImageTable, row: int) -> np.ndarray | None:
    """Return an image no larger than 160 x 160 pixels; None where it cannot be read.

    Returns
    -------
    ndarray of shape (h, w, 3), dtype=uint8, or None
    """
    try:
        image = Image.fromarray(read_original(image_list, row))
    except ImageError:
        return None
    image.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    return np.asarray(image)


def read_original(image_list: ImageTable, row: int) -> np.ndarray:
    """Return an image as it is in its file, upright, before it is resized or cropped.

    Returns
    -------
    ndarray of shape (h, w, 3), dtype=uint8

    Raises
    ------
    ImageError
        If it cannot be read.
    """
    location, value_range = locate(image_list, row), read_range(image_list.value_range)
    data = location.read(DEFAULT_LIMITS.file_bytes)
    return np.asarray(decode_image(data, reading=Reading(location.page, value_range)))


def cut_patch(
    original: np.ndarray, box: tuple[float, float, float, float], side: int
) -> np.ndarray:
    """Return a part of an image, resized to a square; grey where it is outside.

    Parameters
    ----------
    original : ndarray of shape (h, w, 3), dtype=uint8
    box : (left, upper, right, lower)
        In pixels of the image, as from `Preprocessing.source_box`.
    side : int
        Pixels.

    Returns
    -------
    ndarray of shape (side, side, 3), dtype=uint8
    """
    left, upper = (math.floor(value) for value in box[:2])
    right, lower = (math.ceil(value) for value in box[2:])
    patch = np.full((lower - upper, right - left, 3), _OUTSIDE, np.uint8)
    there = original[max(upper, 0) : lower, max(left, 0) : right]
    y, x = max(upper, 0) - upper, max(left, 0) - left
    patch[y : y + there.shape[0], x : x + there.shape[1]] = there
    resized = Image.fromarray(patch).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(resized)


def thumbnail_reader(table: ImageTable) -> Callable[[int], np.ndarray | None]:
    """Return what gives a small image of a row, as `read_thumbnail`; None if all gone.

    Parameters
    ----------
    table : ImageTable
        As it was written down, in a feature file for example.
    """
    try:
        found = relist_images(table)
    except InputError:
        return lambda row: None
    return lambda row: read_thumbnail(found, row)


def augmentation_examples(
    image_list: ImageTable,
    augmentation: Augmentation,
    preprocessing: Preprocessing,
    *,
    seed: int,
) -> list[list[np.ndarray]]:
    """Return some images of a list, each before its copies of the first epochs.

    Returns
    -------
    list of at most 6 lists of 8 ndarrays of shape (h, w, 3), dtype=uint8
        The original is wider than the copies; images that cannot be read are left out.
    """
    rows = np.unique(np.linspace(0, len(image_list) - 1, _N_IMAGES).astype(int))
    store = PixelStore(image_list, canvas(preprocessing), workers=0, memory_bytes=0)
    bad = store.failures(rows)
    rows = np.array([row for row in rows.tolist() if row not in bad], dtype=int)
    examples = []
    pixels = store.batches(list(rows[:, None]))  # one (1, 1, h, w, 3) an image
    for row, ((image_nhwc,),) in zip(rows.tolist(), pixels, strict=True):
        copies = [
            augment_image(
                image_nhwc,
                augmentation,
                preprocessing,
                image_generator(seed, epoch, row),
            )
            for epoch in range(_N_COPIES)
        ]
        examples.append([image_nhwc, *copies])
    return examples
