"""Values of more than 8 bits to 8 bits, by a `ValueRange`.

The range says which values become 0 and 255; what lies outside is cut. `full` takes
integers as 0 to 65535, and floats as 0 to 1, or 0 to 255 where one is above 1; it
refuses what lies outside. NaN and infinite values are refused, whatever the range.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from PIL import Image

from cnnfeat.errors import ImageError
from cnnfeat.value_range import AUTO, FULL, MINMAX, ValueRange

Open = Callable[[], Image.Image]
FLAT, CUT = "flat", "cut"  # see `cnnfeat.images._decode.decode_with_notes`
_LEAST_SPAN = 26  # grey levels; a tenth of 255 is 25.5
_CURE = "choose `value_range=minmax`, P1,P99 or LO,HI"
_SIXTEEN_BITS = re.compile(r"((?:RGB|RGBA|RGBX|LA);16)([BLN])")
_SWAPPED = {"B": "L", "L": "B", "N": "B" if np.little_endian else "L"}


def is_deep(image: Image.Image) -> bool:
    """Return whether an image that is not loaded yet has more than 8 bits a channel."""
    return image.mode[0] in "IF" or _swapped_tiles(image) is not None


def read_values(image: Image.Image, open_again: Open) -> np.ndarray:
    """Load a deep image and return its values.

    Parameters
    ----------
    image : PIL.Image.Image
        Deep, and not loaded yet.
    open_again : callable () -> Image
        Opens the same image once more.

    Returns
    -------
    ndarray of shape (h, w), or (h, w, n_channels) for colours; int64 or float32

    Notes
    -----
    PIL has no mode for colours of 16 bits and reads their high bytes. Told that the
    bytes lie the other way round, it reads the low ones.
    """
    image.load()
    if image.mode == "F":
        return np.asarray(image)
    values = np.asarray(image, dtype=np.int64)
    if image.mode[0] == "I":
        return values
    with open_again() as twin:
        setattr(twin, "tile", _swapped_tiles(twin))  # noqa: B010 (of ImageFile)
        twin.load()
        return 256 * values + np.asarray(twin, dtype=np.int64)


def values_to_rgb(
    values: np.ndarray, value_range: ValueRange
) -> tuple[Image.Image, list[str]]:
    """Return the RGB image of some values, and what is worth a warning of them.

    Parameters
    ----------
    values : ndarray of shape (h, w) or (h, w, n_channels)
        A second or fourth channel is opacity, and keeps its own full range.

    Returns
    -------
    image : PIL.Image.Image
        Composited on white where there is opacity.
    notes : list of str
        `FLAT`, `CUT`: see `decode_with_notes`.
    """
    n_channels = values.shape[2] if values.ndim == 3 else 1
    has_opacity = n_channels in (2, 4)
    colours = values[..., : n_channels - 1] if has_opacity else values
    pixels = to_bytes(colours, value_range)
    notes = spans_little(pixels)
    if value_range.kind == "values" and colours.max() > value_range.high:
        notes.append(CUT)
    if not has_opacity:
        return Image.fromarray(pixels).convert("RGB"), notes
    if n_channels == 2:
        pixels = np.repeat(pixels, 3, axis=2)
    opacity = (values[..., -1:] >> 8).astype(np.uint8)
    return flatten(Image.fromarray(np.concatenate([pixels, opacity], axis=2))), notes


def flatten(rgba: Image.Image) -> Image.Image:
    """Return an RGBA image on white."""
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    white.alpha_composite(rgba)
    return white.convert("RGB")


def spans_little(pixels: np.ndarray) -> list[str]:
    """Return `[FLAT]` where uint8 values span under a tenth of 0 to 255, else []."""
    return [FLAT] if int(pixels.max()) - int(pixels.min()) < _LEAST_SPAN else []


def to_bytes(values: np.ndarray, value_range: ValueRange) -> np.ndarray:
    """Return values as uint8 of the same shape, the range stretched over 0 to 255.

    Raises
    ------
    ImageError
        If a value is NaN or infinite, or outside of what `full` takes.
    """
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        n_bad = int((~np.isfinite(values)).sum())
        raise ImageError(
            f"{n_bad:,} of {values.size:,} float values are NaN or infinite: which "
            "colour they are is not known; fill them and save the image again"
        )
    if value_range.kind in (AUTO, FULL):
        return _full(values)
    low, high = _bounds(values, value_range)
    if high <= low:  # one value only
        return np.zeros(values.shape, np.uint8)
    stretched = (values.astype(np.float64) - low) * (255 / (high - low))
    return np.rint(stretched.clip(0, 255)).astype(np.uint8)


def _bounds(values: np.ndarray, value_range: ValueRange) -> tuple[float, float]:
    """Return the values that become 0 and 255."""
    if value_range.kind == MINMAX:
        return float(values.min()), float(values.max())
    if value_range.kind == "percentiles":
        low, high = np.percentile(values, [value_range.low, value_range.high])
        return float(low), float(high)
    return value_range.low, value_range.high


def _full(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), values.max()
    if values.dtype.kind == "f":
        if low < 0 or high > 255:
            raise ImageError(
                f"float values {low:g} to {high:g}: expected [0, 1] or [0, 255]; "
                f"{_CURE}"
            )
        return np.rint(values * 255 if high <= 1 else values).astype(np.uint8)
    if low < 0 or high > 65535:
        raise ImageError(
            f"32-bit integer values {low} to {high}: expected 0 to 65535; {_CURE}"
        )
    # 65535 = 255 * 257: white stays white.
    return ((values + 128) // 257).astype(np.uint8)


def _swapped_tiles(image: Image.Image) -> list[object] | None:
    """Return the tiles of a 16-bit colour image with its bytes swapped; else None."""
    swapped: list[object] = []
    for tile in getattr(image, "tile", ()):
        arguments = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        match = _SIXTEEN_BITS.fullmatch(str(arguments[0])) if arguments else None
        if match is None:
            return None
        changed = (match[1] + _SWAPPED[match[2]], *arguments[1:])
        args = changed if isinstance(tile.args, tuple) else changed[0]
        swapped.append(tile._replace(args=args))
    return swapped or None
