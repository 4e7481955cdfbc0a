"""A Source of copies of one image, each with a square of it covered."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from cnnfeat.errors import OptionError
from cnnfeat.images import Batch, Preprocessing

_BLUR = 10.0  # standard deviation in pixels


@dataclass(frozen=True, eq=False)
class OccludedSource:
    """Copies of an image, row by row of a grid of squares.

    Parameters
    ----------
    image_nhwc : ndarray of shape (h, w, 3), dtype=uint8
    cover : ndarray of shape (h, w, 3), dtype=uint8
        What a square shows.
    side : int
        Of a square, in pixels.
    stride : int
        Between two squares; the last of a row, and of a column, lies at the edge.
    """

    image_nhwc: np.ndarray
    cover: np.ndarray
    side: int
    stride: int

    @property
    def starts(self) -> tuple[list[int], list[int]]:
        """Upper edges of the squares, and left ones."""
        height, width = self.image_nhwc.shape[:2]
        found = []
        for length in (height, width):
            last = length - self.side
            own = list(range(0, last + 1, self.stride))
            found.append(own if own[-1] == last else [*own, last])
        return found[0], found[1]

    @property
    def places(self) -> list[tuple[int, int]]:
        """Upper left corners of the squares."""
        upper, left = self.starts
        return [(y, x) for y in upper for x in left]

    @property
    def n_images(self) -> int:
        """Rows in all."""
        return len(self.places)

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Return the mean of what squares were given, at each pixel that they cover.

        Parameters
        ----------
        values : ndarray of shape (n_images,), floating

        Returns
        -------
        ndarray of shape (h, w), dtype=float64
            0 where no square lies.
        """
        total = np.zeros(self.image_nhwc.shape[:2])
        count = np.zeros_like(total)
        for value, (y, x) in zip(values, self.places, strict=True):
            square = slice(y, y + self.side), slice(x, x + self.side)
            total[square] += value
            count[square] += 1
        spread: np.ndarray = total / np.maximum(count, 1)
        return spread

    def batches(
        self, batch_size: int, first_row: int, is_wanted: Callable[[], bool]
    ) -> Generator[Batch, None, None]:
        """Yield batches of covered copies."""
        places = self.places
        for start in range(first_row, len(places), batch_size):
            part = places[start : start + batch_size]
            images = np.repeat(self.image_nhwc[None, None], len(part), 0)
            for image, (y, x) in zip(images[:, 0], part, strict=True):
                square = slice(y, y + self.side), slice(x, x + self.side)
                image[square] = self.cover[square]
            ok = np.ones(len(part), dtype=bool)
            yield Batch(start, images, ok, ("",) * len(part))


@dataclass(frozen=True, eq=False)
class MaskedSource:
    """Copies of an image, each covered where a mask says so.

    Parameters
    ----------
    image_nhwc, cover : ndarray of shape (h, w, 3), dtype=uint8
    masks : ndarray of shape (n_images, h, w) or what broadcasts to it, dtype=bool
    """

    image_nhwc: np.ndarray
    cover: np.ndarray
    masks: np.ndarray

    @property
    def n_images(self) -> int:
        """Rows in all."""
        return len(self.masks)

    def batches(
        self, batch_size: int, first_row: int, is_wanted: Callable[[], bool]
    ) -> Generator[Batch, None, None]:
        """Yield batches of masked copies."""
        for start in range(first_row, self.n_images, batch_size):
            masks = self.masks[start : start + batch_size, ..., None]
            images = np.where(masks, self.cover, self.image_nhwc)[:, None]
            ok = np.ones(len(masks), dtype=bool)
            yield Batch(start, images, ok, ("",) * len(masks))


def cover_of(
    fill: str, image_nhwc: np.ndarray, preprocessing: Preprocessing
) -> np.ndarray:
    """Return what squares show, for the whole image: uint8 (h, w, 3).

    Parameters
    ----------
    fill : {"grey", "mean", "blur"}
    image_nhwc : ndarray of shape (h, w, 3), dtype=uint8
    preprocessing : Preprocessing
    """
    if fill == "blur":
        return gaussian_filter(image_nhwc, sigma=(_BLUR, _BLUR, 0))
    colour = 255 * np.array(preprocessing.mean)
    if fill == "mean":
        colour = image_nhwc.mean((0, 1))
    cover = np.empty_like(image_nhwc)
    cover[:] = np.round(colour).astype(np.uint8)
    return cover


def check_side(side: int, size: tuple[int, int]) -> None:
    """Refuse a square that does not fit.

    Raises
    ------
    OptionError
        If it is larger than the crop of (height, width).
    """
    if not 1 <= side <= min(size):
        raise OptionError(
            f"`sizes={side}` does not fit into the crop of {size[0]} x {size[1]} pixels"
        )
