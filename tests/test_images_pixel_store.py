"""Pixels asked for again and again, and the images that people look at."""

import numpy as np
import pytest
from PIL import Image

from cnnfeat.images import (
    Augmentation,
    PixelStore,
    Preprocessing,
    StoredImages,
    augmentation_examples,
    decode_image,
    list_images,
    locate,
    read_thumbnail,
)

SMALL = Preprocessing(24, (16, 20))
ROW_BYTES = 3 * 16 * 20


@pytest.fixture
def images(image_dir):
    """Twelve images; the sixth cannot be read."""
    listed = list_images(image_dir)
    (image_dir / listed.paths[5]).write_bytes(b"not an image")
    return listed


def expected(images, row):
    image = decode_image(locate(images, row).read())
    return SMALL.apply(image)  # (1, h, w, 3)


# Enough memory for all, for one image too few, for none.
MEMORY = [12 * ROW_BYTES, 12 * ROW_BYTES - 1, 0]


@pytest.mark.parametrize("memory", MEMORY)
def test_batches_of_any_sizes_hold_the_rows_asked_for(images, memory):
    store = PixelStore(images, SMALL, workers=0, memory_bytes=memory)
    batches = [np.array(rows) for rows in ([11, 0], [3], [7, 6, 8, 2], [0, 11])]
    for rows, pixels in zip(batches, store.batches(batches), strict=True):
        assert pixels.shape == (len(rows), 1, 16, 20, 3) and pixels.dtype == np.uint8
        for row, image in zip(rows, pixels, strict=True):
            assert np.array_equal(image, expected(images, row))


@pytest.mark.parametrize("memory", MEMORY)
def test_unreadable_rows_are_known_with_their_reasons(images, memory):
    store = PixelStore(images, SMALL, workers=0, memory_bytes=memory)
    assert store.failures(np.array([0, 1])) == {}
    for _ in range(2):
        (failure,) = store.failures(np.arange(12)).items()
        assert failure[0] == 5 and "image" in failure[1]


def test_kept_pixels_are_decoded_once(images, image_dir):
    store = PixelStore(images, SMALL, workers=0, memory_bytes=MEMORY[0])
    rows = np.array([0, 1, 2])
    (before,) = store.batches([rows])
    for path in images.paths[:3]:
        (image_dir / path).unlink()
    (after,) = store.batches([rows])
    assert np.array_equal(before, after)


def test_stored_images_come_in_nearly_equal_batches(images):
    store = PixelStore(images, SMALL, workers=0, memory_bytes=0)
    source = StoredImages(store, np.array([9, 1, 2, 3, 4, 6, 7]))
    batches = list(source.batches(3))
    assert source.n_images == 7
    assert [(batch.start, len(batch.ok)) for batch in batches] == [
        (0, 3),
        (3, 2),
        (5, 2),
    ]
    assert np.array_equal(batches[0].images_nhwc[0], expected(images, 9))
    assert [batch.start for batch in source.batches(3, first_row=5)] == [5]


def test_a_thumbnail_keeps_the_shape_and_unreadable_ones_are_none(images, image_dir):
    Image.new("RGB", (400, 200)).save(image_dir / images.paths[0])
    assert read_thumbnail(images, 0).shape == (80, 160, 3)
    assert read_thumbnail(images, 5) is None


def test_examples_leave_unreadable_images_out(images, image_dir):
    for path in images.paths[1:]:
        (image_dir / path).write_bytes(b"not an image")
    flipped = Augmentation(flip=1.0)
    ((original, *copies),) = augmentation_examples(images, flipped, SMALL, seed=0)
    assert original.shape == (24, 24, 3) and len(copies) == 7
    for copy in copies:
        assert np.array_equal(copy, original[4:20, 2:22][:, ::-1])
