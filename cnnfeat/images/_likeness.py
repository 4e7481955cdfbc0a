"""What tells whether two images show the same: their pixels, and a perceptual hash."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.fft import dctn

from cnnfeat.errors import ImageError, InputError
from cnnfeat.image_table import ImageTable
from cnnfeat.images._decode import DEFAULT_LIMITS, Reading, decode_image
from cnnfeat.images._listing import relist_images
from cnnfeat.images._places import locate
from cnnfeat.value_range import read_range

_SIDE = 32  # pixels of the grey image that is transformed
_KEPT = 8  # frequencies each way
HASH_BITS = _KEPT * _KEPT


@dataclass(frozen=True, eq=False)
class Likeness:
    """What an image is known again by.

    Parameters
    ----------
    pixels : str
        A digest of size and pixels.
    bits : ndarray of shape (64,), dtype=bool
        The perceptual hash.
    mirrored : ndarray of shape (64,), dtype=bool
        That of the image seen in a mirror.
    """

    pixels: str
    bits: np.ndarray
    mirrored: np.ndarray

    def distance(self, other: "Likeness") -> tuple[int, bool]:
        """Return how many bits differ, and whether the mirror image is nearer."""
        straight = int((self.bits != other.bits).sum())
        turned = int((self.bits != other.mirrored).sum())
        return min(straight, turned), turned < straight


def likeness(image: Image.Image) -> Likeness:
    """Return what an RGB image is known again by.

    The hash is of the lowest 8 x 8 frequencies of the grey image at 32 x 32 pixels:
    above their median or not (Zauner 2010, section 3.2.1; the constant one counts as
    the others). It hardly changes with size, compression and brightness.
    """
    pixels = hashlib.blake2b(repr(image.size).encode(), digest_size=16)
    pixels.update(image.tobytes())
    grey = np.asarray(image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX))
    straight, turned = (_hash(side) for side in (grey, grey[:, ::-1]))
    return Likeness(pixels.hexdigest(), straight, turned)


def _hash(grey: np.ndarray) -> np.ndarray:
    low = dctn(grey.astype(np.float64), norm="ortho")[:_KEPT, :_KEPT].ravel()
    found: np.ndarray = low > np.median(low)
    return found


def likeness_reader(table: ImageTable) -> Callable[[int], Likeness | None]:
    """Return what gives the likeness of a row's image; None where it is not at hand.

    Parameters
    ----------
    table : ImageTable
        As it was written down, in a feature file for example.
    """
    try:
        found = relist_images(table)
    except InputError:
        return lambda row: None

    def read(row: int) -> Likeness | None:
        location = locate(found, row)
        reading = Reading(location.page, read_range(found.value_range))
        try:
            data = location.read(DEFAULT_LIMITS.file_bytes)
            return likeness(decode_image(data, reading=reading))
        except ImageError:
            return None

    return read
