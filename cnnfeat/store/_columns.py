"""What a user's own table says of each image, kept beside the images."""

import h5py
import numpy as np

from cnnfeat.errors import StoreError
from cnnfeat.image_table import ImageTable

_GROUP = "/images/columns"


def write_columns(file: h5py.File, table: ImageTable) -> None:
    """Write the table's own columns as `/images/columns/<name>`: text, or numbers.

    The attribute `name` holds the name where HDF5 allows no such link.
    """
    for name, values in table.own_columns.items():
        key = name.replace("/", "_")
        while f"{_GROUP}/{key}" in file:
            key += "_"
        is_text = values.dtype.kind in "OUS"
        dataset = file.create_dataset(
            f"{_GROUP}/{key}",
            data=list(map(str, values)) if is_text else values,
            dtype=h5py.string_dtype("utf-8") if is_text else values.dtype,
        )
        dataset.attrs["name"] = name


def read_columns(file: h5py.File, n_images: int) -> dict[str, np.ndarray]:
    """Return what `write_columns` wrote; nothing of a file that has no columns.

    Raises
    ------
    StoreError
        If a column does not have a row for each image, or is neither text nor numbers.
    """
    columns: dict[str, np.ndarray] = {}
    for key, dataset in file.get(_GROUP, {}).items():
        if not isinstance(dataset, h5py.Dataset) or dataset.shape[:1] != (n_images,):
            raise StoreError(
                f"{file.filename} is damaged: {_GROUP}/{key} does not have a row for "
                f"each of the {n_images} images"
            )
        is_text = h5py.check_string_dtype(dataset.dtype) is not None
        if not is_text and dataset.dtype.kind not in "iufb":
            raise StoreError(
                f"{file.filename} is damaged: {_GROUP}/{key} is {dataset.dtype}, "
                "neither text nor numbers"
            )
        name = str(dataset.attrs.get("name", key))
        columns[name] = dataset.asstr()[:] if is_text else dataset[:]
    return columns
