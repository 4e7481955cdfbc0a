"""From the bytes of one file to one upright RGB image, or to the reason why not.

The format is found in the bytes; a suffix is never looked at. PIL is the reference
decoder. What becomes of each kind of image:

=====================================  ================================================
kind                                   result
=====================================  ================================================
RGB, YCbCr                             as PIL gives it; ICC profiles are ignored
grey, 1-bit                            the value in all three channels; 1-bit: 0 or 255
palette                                the palette's colours
alpha, palette or key transparency     composited on white
16-bit grey                            `full`: round(value / 257)
16-bit colour PNG or TIFF              `full`: the high byte of each value, as PIL reads
                                       it; else one range for all channels
32-bit integers                        `full`: as 16-bit grey; outside 0...65535 refused
float                                  `full`: [0, 1] times 255, else [0, 255], rounded;
                                       values outside both refused
float with NaN or infinite values      refused, whatever the range
16-bit colour in other formats         as PIL gives it
CMYK, YCCK JPEG                        PIL's plain conversion, (255 - C)(255 - K) / 255;
                                       JPEG values are stored inverted, as Adobe does
EXIF, XMP or TIFF orientation          transposed so that the image is upright;
                                       a damaged EXIF block counts as none
multi-page TIFF, animated GIF, WebP,   the page asked for; the first where none was,
APNG, AVIF                             and this is noted
MPO                                    the first: the others are previews or depth
Lab, HSV                               PIL's plain conversion; refused where it has none
1 x 1                                  decoded like any other
zero bytes, not an image               refused
truncated                              refused, never filled with grey
more pixels or bytes than the limits   refused before the pixels are decoded
=====================================  ================================================

`full` is one `ValueRange` of several; the others stretch what they name over 0...255.
Images of 8 bits never change with it.

Damage inside JPEG data that leaves its end in place is mended by libjpeg without a word
and cannot be seen from here.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from cnnfeat.errors import ImageError
from cnnfeat.images._values import (
    flatten,
    is_deep,
    read_values,
    spans_little,
    values_to_rgb,
)
from cnnfeat.value_range import AUTO, FULL, ValueRange

# Formats with a signature in their bytes and a decoder inside PIL. EPS would start
# Ghostscript, TGA has no signature and takes noise for an image.
FORMATS = (
    "JPEG",
    "PNG",
    "GIF",
    "WEBP",
    "TIFF",
    "BMP",
    "PPM",
    "JPEG2000",
    "AVIF",
    "QOI",
    "ICO",
)
DECODERS = ("pil", "fast", "nvjpeg")
_ORIENTATION_TAG = 0x0112  # EXIF 2.32, section 4.6.4
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_MAX_REASON = 160  # characters
_FULL = ValueRange(FULL)
PAGES = "pages"  # see `decode_with_notes`
# PIL's limits and Python's warning filters are global: one image at a time.
_pil_settings_lock = threading.Lock()


@dataclass(frozen=True)
class DecodeLimits:
    """What one image may cost before it becomes a failed row.

    Parameters
    ----------
    pixels : int
        Width times height in the file's header.
    file_bytes : int
        Size of the file.
    seconds : float
        Wall time for reading, decoding and preprocessing; kept by worker processes,
        which try once more before they give up.
    memory_bytes : int
        Address space of a worker process; kept where the system has `RLIMIT_AS`.
    """

    pixels: int = 2**28
    file_bytes: int = 2**30
    seconds: float = 60.0
    memory_bytes: int = 6 * 2**30


DEFAULT_LIMITS = DecodeLimits()


@dataclass(frozen=True)
class Reading:
    """Which image of a file is read, and how.

    Parameters
    ----------
    page : int
        From 1; 0 is the first where the file was named without a page.
    value_range : ValueRange
        Of images with more than 8 bits; see `cnnfeat.images._values`.
    draft_size : int, optional
        Decode a JPEG at 1/2, 1/4 or 1/8 of its size, as long as both sides keep at
        least this many pixels. Faster on large images; the values differ from a full
        decode, so record it (`decoder="fast"`). Other formats are decoded in full.
    """

    page: int = 0
    value_range: ValueRange = _FULL
    draft_size: int | None = None


_PLAIN = Reading()


def decode_image(
    data: bytes, limits: DecodeLimits = DEFAULT_LIMITS, reading: Reading = _PLAIN
) -> Image.Image:
    """Return the upright RGB image in the bytes of a file.

    Parameters
    ----------
    data : bytes
        The whole file.
    limits : DecodeLimits
        Of these `pixels` and `file_bytes` are kept here.
    reading : Reading
        Its first page, in full, `full` range, by default.

    Returns
    -------
    PIL.Image.Image
        Mode RGB, loaded.

    Raises
    ------
    ImageError
        For any bytes that give no image; the message is the reason, on one line.
    """
    return decode_with_notes(data, limits, reading)[0]


def decode_with_notes(
    data: bytes, limits: DecodeLimits, reading: Reading
) -> tuple[Image.Image, tuple[str, ...]]:
    """Return what `decode_image` does, and what is worth a warning about it.

    Returns
    -------
    image : PIL.Image.Image
    notes : tuple of str
        `PAGES`: it has several, and none was asked for. Of images with more than 8
        bits, `FLAT`: under a tenth of the range is used; `CUT`: values above a range
        given as LO,HI became white.
    """
    with _opened(data, limits, reading) as image:
        notes = [PAGES] if not reading.page and _has_pages(image) else []
        if not is_deep(image):
            image.load()
            return _upright(_to_rgb(image), image), tuple(notes)

        def again() -> Image.Image:
            return _open(data, limits, reading)

        rgb, about_values = _deep_to_rgb(image, again, reading.value_range)
        return _upright(rgb, image), (*notes, *about_values)


def largest_integer(data: bytes, limits: DecodeLimits, page: int) -> int | None:
    """Return the largest value of an image of 16 or 32-bit integers; else None.

    Raises
    ------
    ImageError
        As `decode_image`.
    """
    reading = Reading(page)
    with _opened(data, limits, reading) as image:
        if not is_deep(image) or image.mode == "F":
            return None
        values = read_values(image, lambda: _open(data, limits, reading))
        return int(values[..., :3].max() if values.ndim == 3 else values.max())


def count_pages(data: bytes, limits: DecodeLimits = DEFAULT_LIMITS) -> int:
    """Return how many pages or frames an image has; 1 for an MPO.

    Raises
    ------
    ImageError
        As `decode_image`.
    """
    with _opened(data, limits, _PLAIN) as image:
        return int(getattr(image, "n_frames", 1)) if _has_pages(image) else 1


def plain_jpeg_size(data: bytes, limits: DecodeLimits) -> tuple[int, int] | None:
    """Return the (width, height) of a plain JPEG, or None for anything else.

    Plain: grey or YCbCr, one image, upright as it lies, within the limits. Only the
    header is read.
    """
    with _pil_contained(limits.pixels):
        try:
            with Image.open(BytesIO(data), formats=["JPEG"]) as image:
                is_plain = (
                    image.format == "JPEG"  # not MPO, several in one file
                    and image.mode in ("L", "RGB")
                    and image.info.get("adobe_transform") != 0  # stored as RGB
                    and image.getexif().get(_ORIENTATION_TAG, 1) == 1
                )
                return image.size if is_plain else None
        # As in `decode_image`; it will give the reason.
        except Exception:
            return None


@contextmanager
def _opened(
    data: bytes, limits: DecodeLimits, reading: Reading
) -> Iterator[Image.Image]:
    """Give the image, not loaded; whatever goes wrong with it becomes ImageError."""
    if not data:
        raise ImageError("the file is empty (zero bytes)")
    if len(data) > limits.file_bytes:
        raise ImageError(
            f"{len(data):,} bytes is over the limit of {limits.file_bytes:,}"
        )
    with _pil_contained(limits.pixels):
        try:
            with _open(data, limits, reading) as image:
                yield image
        except ImageError:
            raise
        # A decoder may raise anything on damaged bytes: OSError, SyntaxError,
        # ValueError, struct.error, IndexError, MemoryError, RecursionError ...
        # One bad image must not stop the others, so all of it becomes the reason.
        except Exception as error:
            raise ImageError(_reason(error, limits.pixels)) from error


def _open(data: bytes, limits: DecodeLimits, reading: Reading) -> Image.Image:
    Image.init()  # registers the formats that PIL does not load at import
    formats = [name for name in FORMATS if name in Image.OPEN]  # AVIF is optional
    image = Image.open(BytesIO(data), formats=formats)
    if reading.draft_size is not None:
        image.draft(None, (reading.draft_size, reading.draft_size))
    if reading.page > 1:
        _turn_to(image, reading.page, limits.pixels)
    return image


def _turn_to(image: Image.Image, page: int, max_pixels: int) -> None:
    """Go to a page; its size is looked at, as that of the first one was."""
    n_pages = int(getattr(image, "n_frames", 1))
    if page > n_pages:
        raise ImageError(f"has {n_pages} pages: there is no page {page}")
    image.seek(page - 1)
    if image.width * image.height > max_pixels:
        raise ImageError(
            f"{image.width * image.height:,} pixels is over the limit of {max_pixels:,}"
        )


def _has_pages(image: Image.Image) -> bool:
    return image.format != "MPO" and bool(getattr(image, "is_animated", False))


def _upright(rgb: Image.Image, source: Image.Image) -> Image.Image:
    """Return `rgb` turned as the file that it came from says."""
    try:
        orientation = source.getexif().get(_ORIENTATION_TAG)
    # The block is parsed by hand-written code that meets arbitrary bytes; whatever it
    # raises, the pixels are good.
    except Exception:
        orientation = None
    # A tag of the wrong type may be a tuple, bytes or a string: none is a key.
    method = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return rgb if method is None else rgb.transpose(method)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        return flatten(image.convert("RGBA"))
    if image.mode == "RGB":
        return image
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise ImageError(f"colour mode {image.mode} cannot become RGB") from error


def _deep_to_rgb(
    image: Image.Image, again: Callable[[], Image.Image], value_range: ValueRange
) -> tuple[Image.Image, list[str]]:
    """Return a deep image at 8 bits, and what is worth a warning of its values."""
    if image.mode[0] not in "IF" and value_range.kind in (AUTO, FULL):
        image.load()
        rgb = _to_rgb(image)
        return rgb, spans_little(np.asarray(rgb))
    values = read_values(image, again)
    return values_to_rgb(values, value_range)


@contextmanager
def _pil_contained(max_pixels: int) -> Iterator[None]:
    """Keep PIL's warnings in, its pixel limit ours, and truncated files errors."""
    with _pil_settings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
        Image.MAX_IMAGE_PIXELS = max_pixels
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = before


def _reason(error: Exception, max_pixels: int) -> str:
    """Return why the image cannot be read: one line, the same on every run."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or damaged in its first bytes"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    # Object addresses differ between runs, and features files must not.
    text = re.sub(r" at 0x[0-9a-fA-F]+", "", " ".join(str(error).split()))
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        n_pixels = re.findall(r"\d+", text)[0]
        return f"{int(n_pixels):,} pixels is over the limit of {max_pixels:,}"
    if not text.isprintable():
        text = ascii(text)
    return f"damaged: {text or type(error).__name__}"[:_MAX_REASON]
