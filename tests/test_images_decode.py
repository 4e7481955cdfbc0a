"""`decode_image`: every kind of image against known pixels, every damage its reason."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile, TiffImagePlugin

from cnnfeat.errors import ImageError
from cnnfeat.images import DecodeLimits, Reading, decode_image

COLOUR = (200, 100, 50)


def encode(image, file_format, **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def plain(size=(16, 12), colour=COLOUR, mode="RGB"):
    return Image.new(mode, size, colour)


def textured(size=(48, 40), seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def png(width, height, depth, colour_type, rows):
    """Return a PNG written by hand: kinds that PIL reads but does not write."""

    def chunk(kind, body):
        crc = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    signature = b"\x89PNG\r\n\x1a\n"
    return b"".join(
        [signature, chunk(b"IHDR", header), chunk(b"IDAT", body), chunk(b"IEND", b"")]
    )


def palette_image(transparent=None):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, *COLOUR])
    if transparent is not None:
        image.info["transparency"] = transparent
    return image


def rotated_jpeg(orientation):
    """Return a 32 x 16 JPEG whose left half is white, tagged with an orientation."""
    image = Image.new("RGB", (32, 16))
    image.paste((255, 255, 255), (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(image, "JPEG", quality=95, exif=exif)


def frames(file_format, **options):
    first, second = plain(), plain(colour=(0, 0, 0))
    return encode(first, file_format, save_all=True, append_images=[second], **options)


def grey16(file_format):
    values = np.full((12, 16), 50 * 257, dtype=np.uint16)
    return encode(Image.fromarray(values), file_format)


def floats(value):
    return encode(Image.fromarray(np.full((4, 4), value, dtype=np.float32)), "TIFF")


def integers(value):
    return encode(Image.fromarray(np.full((4, 4), value, dtype=np.int32)), "TIFF")


GREY_50 = (50, 50, 50)
KINDS = {
    "rgb png": (encode(plain(), "PNG"), COLOUR),
    "rgb jpeg": (encode(plain(), "JPEG", quality=95), COLOUR),
    "progressive jpeg": (encode(plain(), "JPEG", progressive=True), COLOUR),
    "bmp": (encode(plain(), "BMP"), COLOUR),
    "ppm": (encode(plain(), "PPM"), COLOUR),
    "tiff": (encode(plain(), "TIFF"), COLOUR),
    "tiff with lzw": (encode(plain(), "TIFF", compression="tiff_lzw"), COLOUR),
    "webp": (encode(plain(), "WEBP", lossless=True), COLOUR),
    "jpeg 2000": (encode(plain(), "JPEG2000"), COLOUR),
    "ico": (encode(plain((16, 16)), "ICO"), COLOUR),
    "mpo": (frames("MPO"), COLOUR),
    "grey png": (encode(plain(colour=50, mode="L"), "PNG"), GREY_50),
    "grey jpeg": (encode(plain(colour=50, mode="L"), "JPEG"), GREY_50),
    "1-bit white": (encode(plain(colour=1, mode="1"), "PNG"), (255,) * 3),
    "1-bit black": (encode(plain(colour=0, mode="1"), "TIFF"), (0,) * 3),
    "palette png": (encode(palette_image(), "PNG"), COLOUR),
    "palette gif": (encode(palette_image(), "GIF"), COLOUR),
    "palette, transparent": (encode(palette_image(1), "PNG"), (255,) * 3),
    "palette, other transparent": (encode(palette_image(0), "PNG"), COLOUR),
    "gif, transparent": (encode(palette_image(1), "GIF", transparency=1), (255,) * 3),
    "rgb with a transparent key": (
        encode(plain(), "PNG", transparency=COLOUR),
        (255,) * 3,
    ),
    "rgba opaque": (encode(plain(colour=(*COLOUR, 255), mode="RGBA"), "PNG"), COLOUR),
    "rgba clear": (
        encode(plain(colour=(*COLOUR, 0), mode="RGBA"), "PNG"),
        (255, 255, 255),
    ),
    "rgba two fifths": (  # 0.4 * colour + 0.6 * 255
        encode(plain(colour=(*COLOUR, 102), mode="RGBA"), "PNG"),
        (233, 193, 173),
    ),
    "rgba webp": (
        encode(plain(colour=(*COLOUR, 0), mode="RGBA"), "WEBP", lossless=True),
        (255, 255, 255),
    ),
    "la": (encode(plain(colour=(50, 102), mode="LA"), "PNG"), (173, 173, 173)),
    "cmyk jpeg": (  # (255 - C) (255 - K) / 255
        encode(plain(colour=(55, 155, 205, 0), mode="CMYK"), "JPEG", quality=95),
        (200, 100, 50),
    ),
    "cmyk tiff": (
        encode(plain(colour=(55, 155, 205, 0), mode="CMYK"), "TIFF"),
        (200, 100, 50),
    ),
    "16-bit grey png": (grey16("PNG"), GREY_50),
    "16-bit grey tiff": (grey16("TIFF"), GREY_50),
    "16-bit grey pgm": (b"P5 2 2 65535\n" + struct.pack(">4H", *[12850] * 4), GREY_50),
    "16-bit rgb png": (
        png(
            2, 2, 16, 2, [struct.pack(">6H", *[v * 256 + 255 for v in COLOUR] * 2)] * 2
        ),
        COLOUR,
    ),
    "16-bit rgba png": (
        png(1, 1, 16, 6, [struct.pack(">4H", 51200, 25600, 12800, 65535)]),
        COLOUR,
    ),
    "float in [0, 1]": (floats(50 / 255), GREY_50),
    "float in [0, 255]": (floats(50.4), GREY_50),
    "32-bit integers of 16 bits": (integers(50 * 257), GREY_50),
    "animated gif": (frames("GIF"), COLOUR),
    "animated webp": (frames("WEBP", lossless=True), COLOUR),
    "animated png": (frames("PNG"), COLOUR),
    "multi-page tiff": (frames("TIFF"), COLOUR),
    "one pixel": (encode(plain((1, 1)), "PNG"), COLOUR),
    "one pixel jpeg": (encode(plain((1, 1)), "JPEG", quality=95), COLOUR),
    "bytes after the end": (encode(plain(), "PNG") + b"spam" * 9, COLOUR),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_known_pixel_of_each_kind(kind):
    data, colour = KINDS[kind]
    image = decode_image(data)
    assert image.mode == "RGB"
    pixels = np.asarray(image, dtype=int)
    assert np.abs(pixels - colour).max() <= (2 if data[:2] == b"\xff\xd8" else 0)


@pytest.mark.parametrize("value", [0, 1, 128, 129, 256, 257, 32768, 65534, 65535])
def test_sixteen_bits_are_scaled_and_not_clipped(value):
    data = encode(Image.fromarray(np.full((1, 1), value, dtype=np.uint16)), "PNG")
    assert decode_image(data).getpixel((0, 0)) == (round(value / 257),) * 3


def test_ycck_jpeg_is_read_as_the_cmyk_it_stands_for():
    # PIL writes CMYK with Adobe's transform 0; the same colour through YCCK has
    # transform 2, which only libjpeg's reader needs to know.
    data = bytearray(KINDS["cmyk jpeg"][0])
    at = data.find(b"Adobe")
    assert data[at + 11] == 0
    data[at + 11] = 2
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "CMYK"
        expected = image.convert("RGB").getpixel((5, 5))
    assert decode_image(bytes(data)).getpixel((5, 5)) == expected


# Where the white half of `rotated_jpeg` lies once the image is upright (EXIF 2.32).
UPRIGHT = {1: "left", 2: "right", 3: "right", 4: "left", 5: "top", 6: "top"}
UPRIGHT |= {7: "bottom", 8: "bottom"}
SIDES = {"left": (4, 8), "right": (28, 8), "top": (8, 4), "bottom": (8, 28)}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation):
    image = decode_image(rotated_jpeg(orientation))
    side = UPRIGHT[orientation]
    assert image.size == ((32, 16) if orientation < 5 else (16, 32))
    opposite = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
    assert min(image.getpixel(SIDES[side])) > 250
    assert max(image.getpixel(SIDES[opposite[side]])) < 5


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_none(orientation):
    assert decode_image(rotated_jpeg(orientation)).size == (32, 16)


def test_damaged_exif_leaves_the_pixels():
    data = encode(plain(), "JPEG", quality=95, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    assert np.abs(np.subtract(decode_image(data).getpixel((3, 3)), COLOUR)).max() <= 2


def test_tiff_orientation_is_undone_once():
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[0x0112] = 6
    image = Image.new("RGB", (32, 16))
    image.paste((255, 255, 255), (0, 0, 16, 16))
    upright = decode_image(encode(image, "TIFF", tiffinfo=tags))
    assert upright.size == (16, 32)
    assert upright.getpixel((8, 4)) == (255, 255, 255)


def truncated(file_format, part=0.6, **options):
    data = encode(textured(), file_format, **options)
    return data[: int(len(data) * part)]


def png_with_size(width, height):
    return png(width, height, 8, 2, [b"\0"])


def corrupted(file_format, **options):
    data = bytearray(encode(textured(), file_format, **options))
    middle = len(data) // 2
    data[middle : middle + 40] = b"\xff" * 40
    return bytes(data)


BROKEN = {
    "zero bytes": (b"", "empty"),
    "one byte": (b"\xff", "not an image"),
    "text": (b"a page of text, named .jpg", "not an image"),
    "html": (b"<!DOCTYPE html><html>404</html>", "not an image"),
    "pdf": (b"%PDF-1.7\n%....", "not an image"),
    "postscript": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "not an image",
    ),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
    "zip": (b"PK\x03\x04" + b"\0" * 60, "not an image"),
    "zeros": (bytes(4096), "not an image"),
    "jpeg header alone": (b"\xff\xd8\xff\xe0", "not an image|damaged"),
    "png signature alone": (b"\x89PNG\r\n\x1a\n", "not an image|damaged"),
    "gif header alone": (b"GIF89a", "not an image|damaged"),
    "truncated jpeg": (truncated("JPEG"), "damaged: .*truncated"),
    "jpeg cut near its end": (truncated("JPEG", 0.97), "damaged: .*truncated"),
    "truncated progressive": (truncated("JPEG", progressive=True), r"truncated"),
    "truncated png": (truncated("PNG"), "damaged"),
    "truncated gif": (truncated("GIF"), "damaged: .*truncated"),
    "truncated webp": (truncated("WEBP"), "damaged|not an image"),
    "truncated tiff": (truncated("TIFF"), "damaged|not an image"),
    "truncated tiff lzw": (truncated("TIFF", compression="tiff_lzw"), "damaged|not an"),
    "truncated bmp": (truncated("BMP"), "damaged: .*truncated"),
    "truncated ppm": (truncated("PPM"), "damaged"),
    "truncated jpeg 2000": (truncated("JPEG2000", 0.1), "damaged|not an image"),
    "png with a bad checksum": (corrupted("PNG"), "damaged"),
    "png of no width": (png_with_size(0, 9), "damaged|not an image"),
    "png whose data are short": (png_with_size(9, 9), "damaged"),
    "png of 2^31 x 2^31": (png_with_size(2**31 - 1, 2**31 - 1), "over the limit"),
    "gigapixel png": (png_with_size(40_000, 30_000), "1,200,000,000 pixels is over"),
    "just over the limit": (png_with_size(2**14 + 1, 2**14), "268,451,840 pixels"),
    "bmp of negative size": (
        b"BM"
        + struct.pack("<IHHIIiiHHIIiiII", 70, 0, 0, 54, 40, -5, 5, 1, 24, *[0] * 6),
        "over the limit",
    ),
    "ppm that promises too much": (b"P6 99999 99999 255\n", "over the limit"),
    "float nan": (floats(np.nan), "16 of 16 float values are NaN or infinite"),
    "float out of range": (floats(1000.0), "expected .0, 1. or .0, 255."),
    "negative float": (floats(-0.5), "float values -0.5"),
    "32-bit integers": (integers(70_000), "expected 0 to 65535"),
    "negative integers": (integers(-1), "32-bit integer values -1"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_images_are_refused_with_a_reason(kind):
    data, reason = BROKEN[kind]
    with pytest.raises(ImageError, match=reason) as caught:
        decode_image(data)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


def test_every_prefix_of_a_jpeg_is_refused_until_its_last_bytes():
    data = encode(textured(), "JPEG")
    for end in range(0, len(data) - 40, 7):
        with pytest.raises(ImageError):
            decode_image(data[:end])


def test_limits_are_kept():
    data = encode(textured((40, 30)), "PNG")
    assert decode_image(data, DecodeLimits(pixels=1200)).size == (40, 30)
    with pytest.raises(ImageError, match="1,200 pixels is over the limit of 1,199"):
        decode_image(data, DecodeLimits(pixels=1199))
    with pytest.raises(ImageError, match=r"bytes is over the limit of 9$"):
        decode_image(data, DecodeLimits(file_bytes=9))


def test_an_out_of_memory_decoder_is_a_reason(monkeypatch):
    def exhausted(self):
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", exhausted)
    with pytest.raises(ImageError, match="not enough memory"):
        decode_image(encode(plain(), "BMP"))


def test_pil_settings_and_warning_filters_are_put_back(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    before = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    with pytest.raises(ImageError, match="truncated"):
        decode_image(truncated("JPEG"))
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before
    assert ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize(("size", "decoded"), [(64, 100), (60, 100), (24, 25), (5, 25)])
def test_a_draft_keeps_the_sides_it_was_asked_for(size, decoded):
    data = encode(textured((300, 200)), "JPEG", quality=95)
    image = decode_image(data, reading=Reading(draft_size=size))
    assert min(image.size) == decoded
    assert min(image.size) >= size
    full = np.asarray(
        decode_image(data).resize(image.size, Image.Resampling.BOX), float
    )
    assert np.abs(np.asarray(image, float) - full).mean() < 3


def test_a_draft_changes_nothing_where_there_is_nothing_to_gain():
    jpeg = encode(textured((300, 200)), "JPEG")
    assert decode_image(jpeg, reading=Reading(draft_size=150)).size == (300, 200)
    png_of = encode(textured((300, 200)), "PNG")
    assert decode_image(png_of, reading=Reading(draft_size=5)).size[0] == 300


def mutants(n_mutants, seed):
    rng = np.random.default_rng(seed)
    formats = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP")
    seeds = [encode(textured((24, 20), k), f) for k, f in enumerate(formats)]
    seeds += [frames("GIF"), frames("WEBP"), frames("TIFF"), rotated_jpeg(6)]
    seeds += [encode(textured((24, 20)), "TIFF", compression="tiff_lzw")]
    seeds += [encode(textured((24, 20)), "JPEG", progressive=True)]
    for k in range(n_mutants):
        data = bytearray(seeds[k % len(seeds)])
        # Half of the changes fall in the header, where they do the most.
        reach = len(data) if rng.random() < 0.5 else min(len(data), 64)
        for at in rng.integers(0, reach, rng.integers(1, 8)):
            data[at] = rng.integers(0, 256)
        if rng.random() < 0.2:
            data = data[: rng.integers(0, len(data) + 1)]
        yield bytes(data)


def survive(n_mutants, seed):
    limits = DecodeLimits(pixels=10**6)
    n_decoded = 0
    for data in mutants(n_mutants, seed):
        try:
            image = decode_image(data, limits)
        except ImageError as error:
            assert str(error).isprintable()
        else:
            assert image.mode == "RGB"
            n_decoded += 1
    assert 0 < n_decoded < n_mutants


def test_mutated_bytes_give_an_image_or_an_image_error():
    survive(3000, seed=0)


@pytest.mark.slow
def test_twenty_thousand_mutants_do_not_grow_memory():
    import resource

    survive(5000, seed=1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    survive(20_000, seed=2)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KiB
    assert grown < 64 * 1024
