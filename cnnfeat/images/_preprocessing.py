"""How a decoded image becomes the pixels that a network was trained on.

`Preprocessing` holds the constants that belong to a set of weights and does the two
steps that follow from them: `apply` (resize and crop, on a PIL image, in uint8) and
`normalize` (on a batch, on its device). Both equal torchvision's `ImageClassification`
preset on PIL input, bit for bit. NumPy and PIL only: torch is imported by nobody here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cnnfeat.errors import DataError, ImageError

if TYPE_CHECKING:
    import torch

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# Crops of one image; "ten-stacked" differs from "ten" in what becomes of the features.
N_CROPS = {"center": 1, "ten": 10, "ten-stacked": 10}
# A 1 x 65,000 image would grow to 256 x 16,640,000: refused rather than allocated.
MAX_RESIZED_PIXELS = 2**28


@dataclass(frozen=True)
class Preprocessing:
    """Resize, crop and normalise constants of one set of weights.

    Parameters
    ----------
    resize_size : int or tuple of (int, int)
        Pixels. An int is the length of the short side, the long one follows as in
        torchvision (rounded down); a pair (height, width) is taken exactly.
    crop_size : tuple of (int, int)
        Height and width of a crop in pixels; zero-padded where the image is smaller.
    interpolation : {"nearest", "bilinear", "bicubic", "lanczos"}
        PIL's filters, antialiased except for nearest.
    mean, std : tuple of 3 floats
        R, G, B, on the [0, 1] range.

    Raises
    ------
    DataError
        If a value is out of its range; the message names the field.
    """

    resize_size: int | tuple[int, int]
    crop_size: tuple[int, int]
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        resize = self.resize_size
        _check("resize_size", _is_size(resize) or _is_size_pair(resize), resize)
        _check("crop_size", _is_size_pair(self.crop_size), self.crop_size)
        _check(
            "interpolation",
            isinstance(self.interpolation, str)
            and self.interpolation in INTERPOLATIONS,
            self.interpolation,
        )
        _check("mean", _is_rgb(self.mean), self.mean)
        _check("std", _is_rgb(self.std) and min(self.std) > 0, self.std)

    @property
    def shortest_side(self) -> int:
        """Return the side in pixels that a reduced decode may not fall below."""
        size = self.resize_size
        return size if isinstance(size, int) else max(size)

    def resized_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the (width, height) in pixels that an image is resized to.

        References
        ----------
        torchvision's `_compute_resized_output_size`: the long side is cut to an
        integer, not rounded.
        """
        if isinstance(self.resize_size, tuple):
            return self.resize_size[1], self.resize_size[0]
        short, long = sorted((width, height))
        new_long = int(self.resize_size * long / short)
        if width <= height:
            return self.resize_size, new_long
        return new_long, self.resize_size

    def apply(self, image: Image.Image, crops: str = "center") -> np.ndarray:
        """Resize and crop one RGB image.

        Parameters
        ----------
        image : PIL.Image.Image
            Mode RGB, at least 1 x 1.
        crops : {"center", "ten", "ten-stacked"}
            Ten are Krizhevsky's patches of the resized image in this order: top left,
            top right, bottom left, bottom right, centre, then the mirror image (left
            to right) of each of the five.

        Returns
        -------
        ndarray of shape (n_crops, crop_h, crop_w, 3), dtype=uint8
            n_crops is 1 or 10.

        Raises
        ------
        ImageError
            If the image is so long and thin that its resized form exceeds
            `MAX_RESIZED_PIXELS`.
        DataError
            If `crops` is none of the three.

        References
        ----------
        Krizhevsky, Sutskever and Hinton, NIPS 2012, section 4.1 (ten patches).
        """
        if crops not in N_CROPS:
            raise DataError(
                f"crops: expected one of {sorted(N_CROPS)}, found {crops!r}"
            )
        width, height = self.resized_size(*image.size)
        if width * height > MAX_RESIZED_PIXELS:
            raise ImageError(
                f"too long and thin: {image.width} x {image.height} pixels would be "
                f"resized to {width} x {height}"
            )
        # Resized whole, then cropped: neither `resize(box=...)`, whose box is float32,
        # nor two passes, whose order PIL picks by size, gives the same bits; and no
        # faster way was found that does.
        resized = image.resize((width, height), INTERPOLATIONS[self.interpolation])
        return self.crop(resized, crops)

    def crop(self, resized: Image.Image, crops: str = "center") -> np.ndarray:
        """Return the patches of `apply` from an image that is resized already."""
        if crops == "center":
            box = _center_box(*resized.size, self.crop_size)
            patches = [np.asarray(resized.crop(box))]
        else:
            patches = self._ten_crops(resized)
        return np.stack(patches)

    def normalize(self, images_nhwc: torch.Tensor) -> torch.Tensor:
        """Return (x / 255 - mean) / std in float32, on the tensor's device.

        Parameters
        ----------
        images_nhwc : Tensor of shape (..., h, w, 3), dtype=uint8
            Values 0 to 255, R, G, B.

        Returns
        -------
        Tensor of shape (..., 3, h, w), dtype=float32
            Channels last in memory; equal to torchvision's ConvertImageDtype and
            Normalize, bit for bit.
        """
        # The one place where the channel axis moves. It is a view, and `float` keeps
        # the memory layout: a channels-last network takes the result without a copy.
        scaled = images_nhwc.movedim(-1, -3).float().div_(255)
        mean, std = (scaled.new_tensor(values) for values in (self.mean, self.std))
        return scaled.sub_(mean[:, None, None]).div_(std[:, None, None])

    def to_dict(self) -> dict[str, Any]:
        """Return the constants as JSON-safe numbers, strings and lists."""
        size = self.resize_size
        return {
            "resize_size": size if isinstance(size, int) else list(size),
            "crop_size": list(self.crop_size),
            "interpolation": self.interpolation,
            "mean": list(self.mean),
            "std": list(self.std),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Return what `to_dict` described.

        Raises
        ------
        DataError
            If a field is missing, unknown or out of its range.
        """
        if not isinstance(values, Mapping):
            raise DataError(f"preprocessing: expected an object, found {values!r}")
        expected, found = {field.name for field in fields(cls)}, set(values)
        if expected != found:
            raise DataError(
                f"preprocessing: expected the fields {', '.join(sorted(expected))}; "
                f"found {', '.join(sorted(map(str, found))) or 'none'}"
            )
        # JSON knows lists only. The constructor checks every value.
        constants: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in values.items()
        }
        return cls(**constants)

    def source_box(
        self,
        size: tuple[int, int],
        box: tuple[float, float, float, float] | None = None,
        *,
        crops: str = "center",
        crop: int = 0,
    ) -> tuple[float, float, float, float]:
        """Return where a part of a crop lies in the original image.

        Parameters
        ----------
        size : (width, height)
            Pixels of the original image, upright.
        box : (left, upper, right, lower), optional
            In pixels of the crop, edges as in PIL; default: the whole crop.
        crops : {"center", "ten", "ten-stacked"}
            As for `apply`.
        crop : int
            Which of its crops, in [0, n_crops).

        Returns
        -------
        (left, upper, right, lower)
            In pixels of the original image. Outside of it where the crop is padded. The
            resizing filter mixes in a few pixels from around the box.
        """
        height, width = self.crop_size
        left, upper, right, lower = box or (0, 0, width, height)
        if crop >= 5:  # mirrored left to right
            left, right = width - right, width - left
        resized = self.resized_size(*size)
        corners = self._corners(*resized) if N_CROPS[crops] > 1 else []
        centre = _center_box(*resized, self.crop_size)[:2]
        x, y = [*corners, centre][crop % 5]
        across, down = size[0] / resized[0], size[1] / resized[1]
        return (
            (left + x) * across,
            (upper + y) * down,
            (right + x) * across,
            (lower + y) * down,
        )

    def _ten_crops(self, resized: Image.Image) -> list[np.ndarray]:
        """Return the (h, w, 3) patches of `apply(crops="ten")`, in its order."""
        height, width = self.crop_size
        centre = _center_box(*resized.size, self.crop_size)[:2]
        five = [
            np.asarray(resized.crop((x, y, x + width, y + height)))
            for x, y in [*self._corners(*resized.size), centre]
        ]
        return five + [patch[:, ::-1] for patch in five]

    def _corners(self, width: int, height: int) -> list[tuple[int, int]]:
        """Return the (left, top) of the four corner crops of a resized image."""
        crop_h, crop_w = self.crop_size
        box = _center_box(width, height, self.crop_size)
        # Where the image is smaller than the crop, corners are those of the padded one.
        lefts = sorted({min(0, box[0]), max(box[0], width - crop_w)})
        tops = sorted({min(0, box[1]), max(box[1], height - crop_h)})
        return [(x, y) for y in (tops[0], tops[-1]) for x in (lefts[0], lefts[-1])]


def _center_box(
    width: int, height: int, crop_size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return torchvision's centre crop as a PIL box; negative where it is padded."""
    crop_h, crop_w = crop_size
    left, top = _center_start(width, crop_w), _center_start(height, crop_h)
    return left, top, left + crop_w, top + crop_h


def _center_start(length: int, crop: int) -> int:
    if crop > length:
        return -((crop - length) // 2)
    return round((length - crop) / 2.0)  # halves to even, as torchvision


def _check(field: str, is_valid: bool, value: object) -> None:
    if not is_valid:
        raise DataError(f"preprocessing: {field} is out of range: {value!r}")


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**16


def _is_size_pair(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(_is_size, value))


def _is_rgb(value: object) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 3
        and all(isinstance(v, int | float) and math.isfinite(v) for v in value)
    )
