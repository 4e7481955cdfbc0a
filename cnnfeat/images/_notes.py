"""What is worth a warning about images that can be read: one line a kind and run."""

import warnings
from collections.abc import Mapping, Sequence

from cnnfeat.errors import CnnfeatWarning
from cnnfeat.image_table import ImageTable
from cnnfeat.images._decode import PAGES
from cnnfeat.images._values import CUT, FLAT

# Told with the range of the table.
_TEXTS = {
    PAGES: "hold several pages, and the first is read: `pages=all` reads them all, "
    "`pages=N` another",
    FLAT: "use under a tenth of `value_range={range}`, and look nearly black, white or "
    "grey to the network: `value_range=minmax`, P1,P99 or LO,HI stretches them",
    CUT: "hold values above `value_range={range}`, which become white: "
    "`value_range=full` keeps them apart",
}


def warn_of_notes(
    noted: Mapping[str, Sequence[int]], n_images: int, table: ImageTable
) -> None:
    """Give one warning for each kind of note.

    Parameters
    ----------
    noted : mapping of str to sequence of int
        Rows by note: see `decode_with_notes`.
    n_images : int
        How many were read.
    table : ImageTable
    """
    for note, rows in noted.items():
        text = _TEXTS[note].format(range=table.value_range)
        warnings.warn(
            f"{len(rows)} of {n_images} images (first: {table.paths[rows[0]]}) {text}",
            CnnfeatWarning,
            stacklevel=2,
        )
