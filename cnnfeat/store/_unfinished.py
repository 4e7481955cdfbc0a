"""Whether a .part is the unfinished file that its journal speaks of.

Rows are about to be written into it, so it is held against what is to be in it, and not
only against the schema: whoever sent the folder may have made it.
"""

from pathlib import Path

import h5py
import numpy as np

from cnnfeat.readback import Described, Malformed, fail
from cnnfeat.store._features import SCHEMA
from cnnfeat.store._layers import read_layers
from cnnfeat.store._opening import damage
from cnnfeat.store._schema import Schema, check_shape, find
from cnnfeat.store._skeleton import DIGEST_BYTES, ERROR_BYTES, Contents

# Written row by row: what stands behind the last commit is anything.
_ROWS = {
    "/images/ok": np.dtype(bool),
    "/images/error": h5py.string_dtype("utf-8", ERROR_BYTES),
    "/images/digest": h5py.string_dtype("utf-8", DIGEST_BYTES),
    "/images/tuned_on": np.dtype(bool),
}
_WHOLE = Schema(
    SCHEMA.attributes,
    {name: array for name, array in SCHEMA.arrays.items() if name not in _ROWS},
)


def check_unfinished(file: h5py.File, part: Path, contents: Contents) -> None:
    """Raise StoreError unless an open .part is a skeleton of these contents.

    Parameters
    ----------
    file : h5py.File
    part : Path
        Where it is, for the message.
    contents : Contents
        What the run that goes on is to write.
    """
    with damage(part, "give `overwrite` to start anew"):
        found = _WHOLE.read(file)
        table, n_images = contents.table, contents.n_images
        for name, expected in (
            ("/images/path", table.paths),
            ("/classes", table.class_names),
            ("/images/label", table.labels),
        ):
            if not np.array_equal(found[name], expected):
                raise Malformed(f"{name} is not that of the images given")
        for name, dtype in _ROWS.items():
            if name == "/images/tuned_on" and not contents.is_tuned:
                continue
            dataset = find(file, name, h5py.Dataset, "a dataset")
            check_shape(dataset, (n_images,), {})
            if dataset.dtype != dtype:
                fail(name, str(dtype), Described(dataset.dtype))
        if read_layers(file, n_images) != {s.name: s for s in contents.layers}:
            raise Malformed("/features has other layers than those asked for")
