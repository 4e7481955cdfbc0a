"""Small copies of images, for people to look at."""

import numpy as np

from cnnfeat.errors import ImageError
from cnnfeat.images._decode import DEFAULT_LIMITS, decode_image
from cnnfeat.images._listing import ImageList

_SIDE = 160  # pixels


def read_thumbnail(image_list: ImageList, row: int) -> np.ndarray | None:
    """Return an image no larger than 160 x 160 pixels; None where it cannot be read.

    Returns
    -------
    ndarray of shape (h, w, 3), dtype=uint8, or None
    """
    try:
        image = decode_image(image_list.read_bytes(row, DEFAULT_LIMITS.file_bytes))
    except ImageError:
        return None
    image.thumbnail((_SIDE, _SIDE))
    return np.asarray(image)
