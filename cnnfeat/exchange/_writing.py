"""A feature file in other tools' formats, block by block where the format allows it."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from cnnfeat.errors import LayerError
from cnnfeat.exchange._columns import ORIGIN, RowColumns
from cnnfeat.exchange._extras import require
from cnnfeat.exchange._parquet import write_parquet
from cnnfeat.outputs import atomic_output, write_output
from cnnfeat.suffixes import suffix_of

# Formats without a place for names have these in a CSV beside them.
_WITH_TABLE = (".npy", ".faiss")
_ONE_LAYER = {
    ".npy": "a .npy file holds one array",
    ".faiss": "an index is of one kind of vector",
}


def exported_files(path: str | Path) -> list[str]:
    """Return the files that an export of features to `path` writes."""
    name = os.fspath(path)
    beside = [f"{name[: -len(suffix_of(name))]}.csv"]
    return [name, *(beside if suffix_of(name) in _WITH_TABLE else [])]


def write_features(
    path: str | Path, columns: RowColumns, *, overwrite: bool = False
) -> None:
    """Write features in the format that the name of a file ends with.

    Parameters
    ----------
    path : path
        Ends in one of `suffixes.EXPORTED_FEATURES`.
    columns : RowColumns
    overwrite : bool, default=False

    Raises
    ------
    ExtraError
        If the format needs a package that is not installed.
    LayerError
        If the format holds one layer and there are several.
    OutputError
        As `atomic_output`.
    """
    name, *beside = exported_files(path)
    suffix = suffix_of(name)
    if suffix in _ONE_LAYER and len(columns.layers) > 1:
        raise LayerError(
            f"{_ONE_LAYER[suffix]}, and there are {len(columns.layers)} "
            f"({', '.join(columns.layers)}): give `layers` one of them"
        )
    # First, so that no table stands without its features for want of a package.
    write = _WRITERS[suffix]()
    for table in beside:
        write_output(table, columns.to_csv().encode(), overwrite=overwrite)
    with atomic_output(Path(name), overwrite=overwrite) as temporary:
        write(temporary, columns)


Write = Callable[[Path, RowColumns], None]


def _npy() -> Write:
    def write(path: Path, columns: RowColumns) -> None:
        with path.open("wb") as file:
            _write_layer(file, columns, columns.layers[0])

    return write


def _npz() -> Write:
    def write(path: Path, columns: RowColumns) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name, values in columns.told().items():
                # Text of a fixed width: arrays of objects would be pickles.
                plain = values.astype(str) if values.dtype == object else values
                with _member(archive, name) as file:
                    np.lib.format.write_array(file, plain, allow_pickle=False)
            for layer, name in columns.layer_names().items():
                with _member(archive, name) as file:
                    _write_layer(file, columns, layer)
            origin = np.array(columns.to_json())
            with _member(archive, ORIGIN) as file:
                np.lib.format.write_array(file, origin, allow_pickle=False)

    return write


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    return archive.open(f"{name}.npy", "w", force_zip64=True)


def _write_layer(file: IO[bytes], columns: RowColumns, layer: str) -> None:
    """Write one layer (n_images, *shape) as NumPy does, block by block."""
    spec = columns.features.layers[layer]
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(spec.dtype)),
        "fortran_order": False,
        "shape": (columns.features.n_images, *spec.shape),
    }
    np.lib.format.write_array_header_1_0(file, header)
    for _, (block,) in columns.blocks([layer]):
        file.write(np.ascontiguousarray(block).data)


def _parquet() -> Write:
    arrow = require("pyarrow", "parquet")
    require("pyarrow.parquet", "parquet")
    return lambda path, columns: write_parquet(arrow, path, columns)


def _h5ad() -> Write:
    anndata = require("anndata", "h5ad")
    pandas = require("pandas", "h5ad")

    def write(path: Path, columns: RowColumns) -> None:
        told = columns.told()
        index = list(map(str, told.pop("path")))
        layers = {
            name: columns.features.read(layer)
            for layer, name in columns.layer_names().items()
        }
        first, *others = layers
        data = anndata.AnnData(
            X=layers[first],
            obs=pandas.DataFrame(told, index=pandas.Index(index, dtype=str)),
            obsm={name: layers[name] for name in others},
            uns={ORIGIN: columns.to_json()},
        )
        data.write_h5ad(path)

    return write


def _faiss() -> Write:
    faiss = require("faiss", "faiss")

    def write(path: Path, columns: RowColumns) -> None:
        (spec,) = columns.specs
        index: Any = faiss.IndexIDMap2(faiss.IndexFlatL2(spec.n_features))
        ok = columns.features.ok
        for rows, (block,) in columns.blocks(columns.layers):
            kept = np.flatnonzero(ok[rows])
            if len(kept):
                vectors = np.ascontiguousarray(block[kept], dtype=np.float32)
                index.add_with_ids(vectors, kept.astype(np.int64) + rows.start)
        faiss.write_index(index, str(path))

    return write


_WRITERS: dict[str, Callable[[], Write]] = {
    ".parquet": _parquet,
    ".npz": _npz,
    ".npy": _npy,
    ".h5ad": _h5ad,
    ".faiss": _faiss,
}
