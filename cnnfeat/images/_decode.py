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
16-bit grey                            round(value / 257)
16-bit RGB or RGBA PNG                 the high byte of each value (what PIL reads)
16-bit values in 32-bit integers       round(value / 257); outside 0...65535 refused
float                                  [0, 1] times 255, else [0, 255], rounded; values
                                       outside both, NaN or infinite: refused
CMYK, YCCK JPEG                        PIL's plain conversion, (255 - C)(255 - K) / 255;
                                       JPEG values are stored inverted, as Adobe does
EXIF, XMP or TIFF orientation          transposed so that the image is upright;
                                       a damaged EXIF block counts as none
animated GIF, WebP, APNG, AVIF         the first frame
multi-page TIFF, MPO                   the first page
Lab, HSV                               PIL's plain conversion; refused where it has none
1 x 1                                  decoded like any other
zero bytes, not an image               refused
truncated                              refused, never filled with grey
more pixels or bytes than the limits   refused before the pixels are decoded
=====================================  ================================================

Damage inside JPEG data that leaves its end in place is mended by libjpeg without a word
and cannot be seen from here.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from cnnfeat.errors import ImageError

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


def decode_image(
    data: bytes, limits: DecodeLimits = DEFAULT_LIMITS, draft_size: int | None = None
) -> Image.Image:
    """Return the upright RGB image in the bytes of a file.

    Parameters
    ----------
    data : bytes
        The whole file.
    limits : DecodeLimits
        Of these `pixels` and `file_bytes` are kept here.
    draft_size : int, optional
        Decode a JPEG at 1/2, 1/4 or 1/8 of its size, as long as both sides keep at
        least this many pixels. Faster on large images; the values differ from a full
        decode, so record it (`decoder="fast"`). Other formats are decoded in full.

    Returns
    -------
    PIL.Image.Image
        Mode RGB, loaded.

    Raises
    ------
    ImageError
        For any bytes that give no image; the message is the reason, on one line.
    """
    if not data:
        raise ImageError("the file is empty (zero bytes)")
    if len(data) > limits.file_bytes:
        raise ImageError(
            f"{len(data):,} bytes is over the limit of {limits.file_bytes:,}"
        )
    with _pil_contained(limits.pixels):
        try:
            return _decode(data, draft_size)
        except ImageError:
            raise
        # A decoder may raise anything on damaged bytes: OSError, SyntaxError,
        # ValueError, struct.error, IndexError, MemoryError, RecursionError ...
        # One bad image must not stop the others, so all of it becomes the reason.
        except Exception as error:
            raise ImageError(_reason(error, limits.pixels)) from error


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


def _decode(data: bytes, draft_size: int | None) -> Image.Image:
    Image.init()  # registers the formats that PIL does not load at import
    formats = [name for name in FORMATS if name in Image.OPEN]  # AVIF is optional
    with Image.open(BytesIO(data), formats=formats) as image:
        if draft_size is not None:
            image.draft(None, (draft_size, draft_size))
        image.load()
        return _to_rgb(_upright(image))


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG)
    # The block is parsed by hand-written code that meets arbitrary bytes; whatever it
    # raises, the pixels are good.
    except Exception:
        orientation = None
    # A tag of the wrong type may be a tuple, bytes or a string: none is a key.
    method = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _integers_to_rgb(np.asarray(image, dtype=np.int64))
    if image.mode == "F":
        return _floats_to_rgb(np.asarray(image))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        white.alpha_composite(rgba)
        return white.convert("RGB")
    if image.mode == "RGB":
        return image
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise ImageError(f"colour mode {image.mode} cannot become RGB") from error


def _integers_to_rgb(values: np.ndarray) -> Image.Image:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ImageError(
            f"32-bit integer values {low} to {high}: expected 0 to 65535; "
            "convert the image to 8 or 16 bits"
        )
    # 65535 = 255 * 257: white stays white.
    return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")


def _floats_to_rgb(values: np.ndarray) -> Image.Image:
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 255):  # also where either is NaN
        raise ImageError(
            f"float values {low:g} to {high:g}: expected [0, 1] or [0, 255]; "
            "convert the image to 8 bits"
        )
    scaled = values * 255 if high <= 1 else values
    return Image.fromarray(np.rint(scaled).astype(np.uint8)).convert("RGB")


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
