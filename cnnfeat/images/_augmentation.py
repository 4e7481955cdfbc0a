"""Random changes of the training images, the same whoever makes them.

Each image's changes are drawn from a generator of its own, seeded by (seed, epoch,
row), so workers, ranks and an interrupted run change nothing. The operations are
torchvision's v2 functionals on uint8 tensors.
"""

import json
import math
import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.transforms.v2 import functional as F

from cnnfeat.errors import DataError, InputError, OptionError
from cnnfeat.images._preprocessing import Preprocessing

Range = tuple[float, float]
PRESETS = ("none", "light", "classic")
_SCALARS = (
    *("flip", "translation", "shear"),
    *("brightness", "contrast", "saturation", "hue"),
)


def _pair(name: str, value: Any) -> Range:
    is_pair = isinstance(value, tuple) and len(value) == 2
    _check(name, is_pair and all(_is_number(v) for v in value), value)
    return value


def _check(name: str, is_valid: bool, value: Any) -> None:
    if not is_valid:
        raise DataError(f"augmentation: {name} is out of range: {value!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


@dataclass(frozen=True)
class Augmentation:
    """Ranges that changes are drawn from; the defaults change nothing.

    Attributes
    ----------
    crop_area, crop_aspect : (low, high)
        Random resized crop: its share of the area (uniform) and its width over height
        (log-uniform); (1, 1) for none.
    flip : float
        Probability of the mirror image, left to right.
    rotation : (low, high)
        Degrees, uniform.
    translation : float
        Pixels, uniform in ± along each axis.
    rescale : (low, high)
        Factor, log-uniform.
    shear : float
        Degrees, uniform in ±.
    stretch : (low, high)
        Factor along x by which y is divided, log-uniform.
    brightness, contrast, saturation : float
        Factors uniform in 1 ± value.
    hue : float
        Uniform in ± value, as a share of the colour circle, at most 0.5.
    """

    crop_area: Range = (1.0, 1.0)
    crop_aspect: Range = (1.0, 1.0)
    flip: float = 0.0
    rotation: Range = (0.0, 0.0)
    translation: float = 0.0
    rescale: Range = (1.0, 1.0)
    shear: float = 0.0
    stretch: Range = (1.0, 1.0)
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        for name in ("crop_area", "crop_aspect", "rescale", "stretch", "rotation"):
            low, high = _pair(name, getattr(self, name))
            positive = name == "rotation" or low > 0
            _check(name, low <= high and positive, getattr(self, name))
        for name in _SCALARS:
            _check(name, _is_number(getattr(self, name)), getattr(self, name))
        _check("crop_area", self.crop_area[1] <= 1, self.crop_area)
        _check("shear", 0 <= self.shear < 90, self.shear)
        _check("translation", self.translation >= 0, self.translation)
        for name in ("flip", "brightness", "contrast", "saturation", "hue"):
            most = 0.5 if name == "hue" else 1
            _check(name, 0 <= getattr(self, name) <= most, getattr(self, name))

    @property
    def changes_nothing(self) -> bool:
        """True where every image stays as it is."""
        return self == Augmentation()

    @property
    def is_affine(self) -> bool:
        """True where the changes of geometry are more than a crop and a flip."""
        moves = ("rotation", "translation", "rescale", "shear", "stretch")
        still = Augmentation()
        return any(getattr(self, name) != getattr(still, name) for name in moves)


LIGHT = Augmentation(
    # Narrower than the (0.08, 1) of training from scratch: few images, few epochs.
    crop_area=(0.5, 1.0),
    crop_aspect=(3 / 4, 4 / 3),
    flip=0.5,
    brightness=0.2,
    contrast=0.2,
    saturation=0.2,
)
# S. Dieleman et al. 2015, "Classifying plankton with deep neural networks".
CLASSIC = Augmentation(
    rotation=(0.0, 360.0),
    translation=10.0,
    rescale=(1 / 1.6, 1.6),
    flip=0.5,
    shear=20.0,
    stretch=(1 / 1.3, 1.3),
)


def read_augmentation(choice: str) -> Augmentation:
    """Return a preset, or the ranges of a TOML or JSON file.

    Raises
    ------
    OptionError
        If it is neither.
    InputError
        If the file is missing or cannot be read.
    DataError
        If a field is unknown or out of its range; it is named.
    """
    if choice in PRESETS:
        return {"none": Augmentation(), "light": LIGHT, "classic": CLASSIC}[choice]
    path = Path(choice)
    if path.suffix not in (".toml", ".json"):
        raise OptionError(
            f"`augment={choice}`: expected {', '.join(PRESETS)}, or a .toml or .json "
            "file of ranges"
        )
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    known = [field.name for field in fields(Augmentation)]
    unknown = sorted(set(values) - set(known)) if isinstance(values, dict) else ["it"]
    if unknown:
        raise DataError(
            f"{path}: unknown {', '.join(unknown)}; known: {', '.join(known)}"
        )
    ranges: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
    }
    return Augmentation(**ranges)


def augment_image(
    image_nhwc: np.ndarray,
    augmentation: Augmentation,
    preprocessing: Preprocessing,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return one changed image.

    Parameters
    ----------
    image_nhwc : ndarray of shape (H, W, 3), dtype=uint8
        At least as large as the crop: see `canvas`.
    augmentation : Augmentation
    preprocessing : Preprocessing
        The crop's size; its mean colour fills what comes into view from outside.
    rng : numpy.random.Generator
        See `image_generator`.

    Returns
    -------
    ndarray of shape (h, w, 3), dtype=uint8
    """
    flip = rng.random() < augmentation.flip
    image = torch.from_numpy(image_nhwc).permute(2, 0, 1)  # torchvision's (3, H, W)
    if augmentation.is_affine:
        coefficients = _affine(augmentation, image.shape[-2:], rng)
        # The colour that is zero once normalised.
        fill = [255.0 * value for value in preprocessing.mean]
        image = F.perspective(image, None, None, fill=fill, coefficients=coefficients)
    image = _random_crop(image, augmentation, preprocessing.crop_size, rng)
    if flip:
        image = F.horizontal_flip(image)
    image = _recolour(image, augmentation, rng)
    changed: np.ndarray = image.permute(1, 2, 0).numpy()
    return changed


def canvas(preprocessing: Preprocessing) -> Preprocessing:
    """Return the preprocessing of images that are yet to be augmented.

    The centre of the resized image as large as its short side: wider than the crop, of
    one size for all images.
    """
    resize = preprocessing.resize_size
    sides = (resize, resize) if isinstance(resize, int) else resize
    height, width = (
        max(a, b) for a, b in zip(sides, preprocessing.crop_size, strict=True)
    )
    return replace(preprocessing, crop_size=(height, width))


def image_generator(seed: int, epoch: int, row: int) -> np.random.Generator:
    """Return the generator of one image's changes in one epoch."""
    return np.random.default_rng((seed, epoch, row))


def _affine(
    augmentation: Augmentation, size: torch.Size, rng: np.random.Generator
) -> list[float]:
    """Return the map from output to input pixels as `perspective` takes it.

    The image is stretched, sheared, scaled, rotated and moved about its centre, in one
    resampling: y = T R S H D x, and what is needed is the way back.
    """
    angle = math.radians(rng.uniform(*augmentation.rotation))
    shear = math.radians(rng.uniform(-augmentation.shear, augmentation.shear))
    scale, stretch = (
        math.exp(rng.uniform(math.log(low), math.log(high)))
        for low, high in (augmentation.rescale, augmentation.stretch)
    )
    shift = rng.uniform(-augmentation.translation, augmentation.translation, 2)
    rotate = np.array(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    forward = rotate * scale @ np.array([[1.0, math.tan(shear)], [0.0, 1.0]])
    forward = forward @ np.diag([stretch, 1 / stretch])
    back = np.linalg.inv(forward)
    height, width = size
    # The centre in torchvision's coordinates, where pixel k covers [k, k + 1].
    centre = np.array([width / 2, height / 2])
    offset = centre - back @ (centre + shift)
    (a, b), (d, e) = back.tolist()
    return [a, b, float(offset[0]), d, e, float(offset[1]), 0.0, 0.0]


def _random_crop(
    image: torch.Tensor,
    augmentation: Augmentation,
    crop_size: tuple[int, int],
    rng: np.random.Generator,
) -> torch.Tensor:
    """Return a random part resized to the crop, or the plain centre crop."""
    if augmentation.crop_area == augmentation.crop_aspect == (1.0, 1.0):
        return F.center_crop(image, list(crop_size))
    height, width = image.shape[-2:]
    area = height * width * rng.uniform(*augmentation.crop_area)
    low, high = (math.log(value) for value in augmentation.crop_aspect)
    aspect = math.exp(rng.uniform(low, high))
    h = min(height, max(1, round(math.sqrt(area / aspect))))
    w = min(width, max(1, round(math.sqrt(area * aspect))))
    top = int(rng.integers(0, height - h + 1))
    left = int(rng.integers(0, width - w + 1))
    return F.resized_crop(image, top, left, h, w, list(crop_size), antialias=True)


def _recolour(
    image: torch.Tensor, augmentation: Augmentation, rng: np.random.Generator
) -> torch.Tensor:
    for name in ("brightness", "contrast", "saturation"):
        reach = getattr(augmentation, name)
        if reach:
            image = getattr(F, f"adjust_{name}")(image, 1 + rng.uniform(-reach, reach))
    if augmentation.hue:
        image = F.adjust_hue(image, rng.uniform(-augmentation.hue, augmentation.hue))
    return image
