"""Ranges of values and pages: what images of 16 bits, floats and stacks become."""

import io
import struct
import tarfile

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image
from test_images_decode import encode, floats, frames, grey16, integers, png

from cnnfeat.errors import CnnfeatWarning, DataError, ImageError
from cnnfeat.images import (
    Preprocessing,
    Reading,
    decode_image,
    list_images,
    load_batches,
    locate,
    relist_images,
    settle_range,
    take_pages,
)
from cnnfeat.value_range import ValueRange, read_range

WHOLE = Preprocessing(8, (8, 8), "nearest")


def grey(values, file_format="TIFF"):
    return encode(Image.fromarray(np.asarray(values)), file_format)


def read(data, wanted="full", page=0):
    reading = Reading(page, read_range(wanted))
    return np.asarray(decode_image(data, reading=reading))


def colours16(values, colour_type=2):
    """Return a 16-bit PNG of one row of pixels."""
    return png(len(values), 1, 16, colour_type, [np.asarray(values, ">u2").tobytes()])


def write_images(folder, images):
    folder.mkdir(exist_ok=True)
    for name, data in images.items():
        (folder / name).write_bytes(data)
    return list_images(folder)


def ramp(high, shape=(8, 8)):
    return np.linspace(0, high, shape[0] * shape[1]).astype(np.uint16).reshape(shape)


# ---- the word


@pytest.mark.parametrize("text", ["auto", "full", "minmax", "P1,P99", "0,4095"])
def test_a_range_is_written_as_it_is_read(text):
    assert str(read_range(text)) == text


@given(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)).map(sorted))
def test_values_of_a_range_come_back(bounds):
    wanted = ValueRange("values", *(float(f"{value:.6g}") for value in bounds))
    if wanted.low < wanted.high:
        assert read_range(str(wanted)) == wanted


@pytest.mark.parametrize(
    "text", ["", "12bit", "5,1", "3,3", "P1,99", "1,P99", "P-1,P50", "P0,P101", "0,nan"]
)
def test_what_is_no_range_is_refused(text):
    with pytest.raises(DataError, match="range"):
        read_range(text)


# ---- values


def test_a_12_bit_image_is_nearly_black_under_full_and_not_under_its_own_range():
    data = grey(ramp(4095))
    assert read(data).max() == 16  # round(4095 / 257)
    expected = np.rint(ramp(4095) * (255 / 4095)).astype(np.uint8)
    np.testing.assert_array_equal(read(data, "0,4095")[..., 0], expected)


def test_the_full_range_of_16_bits_is_what_it_was():
    expected = (ramp(65535).astype(np.int64) + 128) // 257
    np.testing.assert_array_equal(read(grey(ramp(65535)))[..., 1], expected)
    np.testing.assert_array_equal(read(grey(ramp(65535)), "auto")[..., 1], expected)


@given(st.integers(0, 60000), st.integers(20, 5000))
def test_minmax_takes_each_image_from_black_to_white(low, span):
    values = (low + ramp(span)).astype(np.uint16)
    found = read(grey(values, "PNG"), "minmax")
    assert (found.min(), found.max()) == (0, 255)
    assert (np.diff(found[..., 0].ravel().astype(int)) >= 0).all()


def test_percentiles_leave_a_hot_pixel_out():
    values = ramp(1000, (20, 20))
    values[0, 0] = 65535
    assert read(grey(values), "minmax").mean() < 5
    found = read(grey(values), "P1,P99")
    assert 120 < found.mean() < 135
    low, high = np.percentile(values, [1, 99])
    expected = np.rint(((values - low) * (255 / (high - low))).clip(0, 255))
    np.testing.assert_array_equal(found[..., 0], expected)


def test_colours_of_16_bits_share_one_range():
    data = colours16([[4095, 0, 2048], [0, 1024, 300]])
    expected = np.rint(np.array([[4095, 0, 2048], [0, 1024, 300]]) * (255 / 4095))
    np.testing.assert_array_equal(read(data, "0,4095")[0], expected)
    np.testing.assert_array_equal(read(data, "minmax")[0], expected)
    np.testing.assert_array_equal(read(data)[0], [[15, 0, 8], [0, 4, 1]])


def test_opacity_keeps_its_own_range():
    data = colours16([[4095, 0, 0, 65535], [0, 0, 0, 0]], colour_type=6)
    np.testing.assert_array_equal(
        read(data, "0,4095")[0], [[255, 0, 0], [255, 255, 255]]
    )


def tiff_of_colours(values):
    """Return a 16-bit RGB TIFF, which PIL reads and does not write."""
    raw = np.asarray(values, "<u2")
    buffer = io.BytesIO()
    height, width = raw.shape[:2]
    data = raw.tobytes()
    entries = [
        *((256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, 8), (259, 3, 1, 1)),
        *((262, 3, 1, 2), (273, 4, 1, 14), (277, 3, 1, 3), (278, 3, 1, height)),
        (279, 4, 1, len(data)),
    ]
    buffer.write(struct.pack("<2sHI", b"II", 42, 14 + len(data)))
    buffer.write(struct.pack("<3H", 16, 16, 16))  # at byte 8
    buffer.write(data)
    buffer.write(struct.pack("<H", len(entries)))
    for tag, kind, count, value in entries:
        buffer.write(struct.pack("<HHII", tag, kind, count, value))
    buffer.write(struct.pack("<I", 0))
    return buffer.getvalue()


def test_colours_of_16_bits_in_tiff_too():
    values = [[[4095, 0, 2048], [0, 1024, 300]]]
    found = read(tiff_of_colours(values), "0,4095")
    np.testing.assert_array_equal(found, np.rint(np.array(values) * (255 / 4095)))


@pytest.mark.parametrize("wanted", ["full", "minmax", "P1,P99", "0,10", "auto"])
def test_images_of_8_bits_never_change(wanted):
    data = encode(Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)), "PNG")
    np.testing.assert_array_equal(read(data, wanted), read(data))


@pytest.mark.parametrize("wanted", ["full", "minmax", "P1,P99", "0,10"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_are_refused_whatever_the_range(wanted, value):
    values = np.ones((4, 4), np.float32)
    values[1, 1] = value
    with pytest.raises(ImageError, match="1 of 16 float values are NaN or infinite"):
        read(grey(values), wanted)


def test_floats_and_large_integers_have_ranges():
    values = np.linspace(-3, 5, 64, dtype=np.float32).reshape(8, 8)
    with pytest.raises(ImageError, match="`value_range=minmax`"):
        read(grey(values))
    assert read(grey(values), "minmax")[0, 0, 0] == 0
    assert read(grey(values), "-3,13")[-1, -1, 0] == 128  # (5 + 3) / 16 of 255
    assert (read(integers(70_000), "0,140000") == 128).all()


def test_one_value_has_no_range_and_is_black():
    assert (read(grey16("PNG"), "minmax") == 0).all()


# ---- settled once for a list


@pytest.mark.parametrize(
    ("largest", "settled"),
    [(200, "0,255"), (1000, "0,1023"), (4095, "0,4095"), (4096, "0,16383")],
)
def test_auto_takes_the_bits_that_all_images_fit_in(tmp_path, largest, settled):
    images = {"a.tif": grey(ramp(largest)), "b.png": grey(ramp(100), "PNG")}
    table = write_images(tmp_path / "images", images)
    assert settle_range(table, "auto").value_range == settled


@pytest.mark.parametrize(
    ("images", "settled"),
    [
        ({"a.tif": grey(ramp(16384))}, "full"),
        ({"a.tif": grey(ramp(4095)), "b.tif": grey(ramp(65535))}, "full"),
        ({"a.tif": grey(np.zeros((4, 4), np.uint16))}, "full"),
        ({"a.png": encode(Image.new("RGB", (4, 4)), "PNG")}, "auto"),
        ({"a.tif": floats(0.5)}, "auto"),
        ({"a.png": b"no image"}, "auto"),
        ({"a.png": colours16([[4095, 0, 7]])}, "0,4095"),
    ],
)
def test_auto_keeps_the_full_range_else(tmp_path, images, settled):
    table = write_images(tmp_path / "images", images)
    assert settle_range(table, "auto").value_range == settled


def test_a_range_that_is_given_is_taken_without_a_look(tmp_path):
    table = write_images(tmp_path / "images", {"a.tif": grey(ramp(4095))})
    assert settle_range(table, "P1,P99").value_range == "P1,P99"
    assert settle_range(table, "minmax").take(np.array([0])).value_range == "minmax"


# ---- what is warned of


def load(table, workers=0):
    batches = load_batches(table, WHOLE, batch_size=2, workers=workers)
    return np.concatenate([batch.images_nhwc for batch in batches])


@pytest.mark.parametrize("workers", [0, 1])
def test_images_that_use_little_of_the_range_are_counted_once(tmp_path, workers):
    images = {f"{k}.tif": grey(ramp(4095)) for k in range(3)}
    images["z.tif"] = grey(ramp(65535))
    table = write_images(tmp_path / "images", images)
    with pytest.warns(CnnfeatWarning) as caught:
        load(table, workers)
    (message,) = [str(one.message) for one in caught]
    assert message.startswith("3 of 4 images (first: 0.tif) use under a tenth of")
    assert "`value_range=full`" in message


def test_values_above_the_range_are_told(tmp_path):
    table = write_images(tmp_path / "images", {"a.tif": grey(ramp(5000))})
    with pytest.warns(CnnfeatWarning, match="1 of 1 .* above `value_range=0,4095`"):
        load(settle_range(table, "0,4095"))


def test_pixels_do_not_depend_on_the_workers(tmp_path):
    images = {f"{k}.tif": grey(ramp(1000 + k)) for k in range(4)}
    table = settle_range(write_images(tmp_path / "images", images), "P5,P95")
    np.testing.assert_array_equal(load(table), load(table, 2))


# ---- pages

STACK = ("TIFF", {}), ("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})


@pytest.mark.parametrize(("file_format", "options"), STACK)
def test_the_first_page_is_never_taken_in_silence(tmp_path, file_format, options):
    table = write_images(tmp_path / "images", {"a.tif": frames(file_format, **options)})
    with pytest.warns(CnnfeatWarning, match="1 of 1 images .* hold several pages"):
        first = load(table)
    assert (first == 0).sum() == 0  # the first frame is coloured, the second black


@pytest.mark.parametrize(("file_format", "options"), STACK)
def test_every_page_is_a_row_of_its_own(tmp_path, file_format, options):
    images = {
        "a.tif": frames(file_format, **options),
        "b.png": encode(Image.new("L", (8, 8), 99), "PNG"),
    }
    table = take_pages(write_images(tmp_path / "images", images), "all")
    assert table.paths == ("a.tif#page=1", "a.tif#page=2", "b.png")
    pixels = load(table)  # nothing to warn of
    assert pixels[0].max() == 200
    assert pixels[1].max() == 0
    assert (pixels[2] == 99).all()


def test_a_page_by_its_number(tmp_path):
    images = {
        "a.tif": frames("TIFF"),
        "b.png": encode(Image.new("L", (8, 8), 99), "PNG"),
    }
    table = take_pages(write_images(tmp_path / "images", images), "2")
    (batch,) = load_batches(table, WHOLE, batch_size=2)
    assert batch.images_nhwc[0].max() == 0
    assert batch.errors == ("", "has 1 pages: there is no page 2")


def test_pages_are_named_in_lists_and_come_back(tmp_path):
    (tmp_path / "a.tif").write_bytes(frames("TIFF"))
    manifest = tmp_path / "list.csv"
    manifest.write_text("path,label\na.tif#page=2,x\na.tif#page=1,y\n")
    table = list_images(manifest)
    assert [locate(table, row).page for row in (0, 1)] == [2, 1]
    assert load(table)[0].max() == 0
    np.testing.assert_array_equal(load(relist_images(table)), load(table))
    (alone,) = list_images(f"{tmp_path}/a.tif#page=2").paths
    assert alone == "a.tif#page=2"


def test_a_file_may_be_named_like_a_page(tmp_path):
    name = "a.tif#page=2"
    (tmp_path / name).write_bytes(encode(Image.new("L", (8, 8), 99), "PNG"))
    table = list_images(iter_of(tmp_path, name))
    assert (load(table) == 99).all()


def iter_of(folder, name):
    manifest = folder / "list.csv"
    manifest.write_text(f"path\n{name}\n")
    return manifest


def test_pages_in_a_tar_come_back(tmp_path):
    (tmp_path / "a.tif").write_bytes(frames("TIFF"))
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        tar.add(tmp_path / "a.tif", "x/a.tif")
    table = take_pages(list_images(tmp_path / "all.tar"), "all")
    assert table.paths == ("x/a.tif#page=1", "x/a.tif#page=2")
    np.testing.assert_array_equal(load(relist_images(table)), load(table))


def test_what_is_no_page_is_refused(tmp_path):
    table = write_images(tmp_path / "images", {"a.tif": frames("TIFF")})
    for pages in ("0", "-1", "last", ""):
        with pytest.raises(DataError, match="first, all or a number"):
            take_pages(table, pages)


def test_what_has_eight_bits_or_is_huge_is_not_decoded_to_settle_the_range(
    tmp_path, monkeypatch
):
    def decoded(data, limits, page):
        seen.append(limits.pixels)
        return None

    seen = []
    monkeypatch.setattr("cnnfeat.images._settling.largest_integer", decoded)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    Image.new("L", (8, 8)).save(tmp_path / "b.jpg")
    Image.new("I;16", (8, 8)).save(tmp_path / "c.png")
    settle_range(list_images(str(tmp_path)), "auto")
    assert seen == [2**25]  # of c.png alone
