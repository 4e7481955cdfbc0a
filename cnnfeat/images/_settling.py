"""The range of values that a list of images has, settled once for all of them.

One scale for all keeps images comparable: a dim one stays dimmer than a bright one.
Cameras of 10, 12 or 14 bits store their values in 16, and so say nothing of it.
"""

from dataclasses import replace

import numpy as np

from cnnfeat.errors import ImageError
from cnnfeat.image_table import ImageTable
from cnnfeat.images._decode import DEFAULT_LIMITS, largest_integer
from cnnfeat.images._places import locate
from cnnfeat.images._reading import Location
from cnnfeat.value_range import AUTO, FULL, ValueRange, read_range

_N_LOOKED_AT = 32
_CAMERA_BITS = (8, 10, 12, 14)  # 16 is the full range
# How files begin that never have more than 8 bits: they need not be read.
_SHALLOW = (b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM")
_PNG, _PNG_DEPTH = b"\x89PNG\r\n\x1a\n", 24  # and where it says its bits a channel
_N_BEGINNING = 25
# Here an image is decoded in this process, where only its size can be bounded.
_LIMITS = replace(DEFAULT_LIMITS, pixels=2**25)


def settle_range(table: ImageTable, wanted: str) -> ImageTable:
    """Return the table with a range for its images of more than 8 bits.

    Parameters
    ----------
    table : ImageTable
    wanted : str
        As `read_range` reads it. `auto` looks at 32 images from all over the list.
        Where those of integers hold values below 2**8, 2**10, 2**12 or 2**14 only, the
        smallest of these is the range. Where none has more than 8 bits it stays `auto`,
        which reads as `full` does. Else it is `full`.

    Raises
    ------
    DataError
        If `wanted` is no range.
    """
    asked = read_range(wanted)
    if asked.kind != AUTO:
        return replace(table, value_range=str(asked))
    rows = np.unique(np.linspace(0, len(table) - 1, _N_LOOKED_AT).astype(int))
    found = [_largest(locate(table, row)) for row in rows.tolist()]
    values = [value for value in found if value is not None]
    if not values:
        return replace(table, value_range=AUTO)
    for bits in _CAMERA_BITS:
        if 0 < max(values) < 2**bits:
            settled = ValueRange("values", 0, 2**bits - 1)
            return replace(table, value_range=str(settled))
    return replace(table, value_range=FULL)


def _largest(location: Location) -> int | None:
    """Return the largest value of an image of integers above 8 bits; else None."""
    try:
        n_bytes = min(_N_BEGINNING, max(0, location.size()))
        if _is_shallow(replace(location, n_bytes=n_bytes).read()):
            return None
        return largest_integer(
            location.read(_LIMITS.file_bytes), _LIMITS, location.page
        )
    except ImageError:  # it keeps its row, which will say so
        return None


def _is_shallow(start: bytes) -> bool:
    """Say whether the beginning of a file tells that it has 8 bits a channel."""
    is_png = start.startswith(_PNG) and len(start) > _PNG_DEPTH
    return start.startswith(_SHALLOW) or (is_png and start[_PNG_DEPTH] <= 8)
