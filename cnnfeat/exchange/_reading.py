"""Features that other tools have written, as a table of images and blocks of rows.

What is known: `.npz` with arrays of paths, and what `cnnfeat export` writes; `.npy`
with a list of paths beside it (thingsvision's `file_names.txt`); Parquet with a list of
numbers a row, or one column a number (dinotool); folders of clip-retrieval's and
thingsvision's.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cnnfeat.errors import InputError
from cnnfeat.exchange._columns import ORIGIN
from cnnfeat.exchange._foreign import (
    PATHS,
    Foreign,
    Take,
    damaged,
    floating,
    no_layer,
    origin_of,
)
from cnnfeat.exchange._parquet import read_parquet, read_tables
from cnnfeat.images import ManifestOptions, read_manifest
from cnnfeat.readback import why_unreadable
from cnnfeat.shown import from_csv_cell
from cnnfeat.suffixes import suffix_of

_LIST_NAMES = ("file_names.txt",)  # thingsvision's
# What NumPy raises on files that are none of its own, or cut short.
_UNREADABLE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile)


def read_foreign(
    source: str, paths_file: str | None, options: ManifestOptions
) -> Foreign:
    """Open features that another tool has written.

    Parameters
    ----------
    source : str
        A `.npz`, `.npy` or `.parquet` file, or a folder of clip-retrieval's or
        thingsvision's.
    paths_file : str, optional
        The images of a `.npy`: a table, or text with one path a line.
    options : ManifestOptions
        How that table is read.

    Raises
    ------
    InputError
        If it cannot be read, or has no features.
    ExtraError
        If it is Parquet and pyarrow is not installed.
    """
    if os.path.isdir(source):
        return _read_folder(Path(source), paths_file, options)
    reason = why_unreadable(source)
    if reason is not None:
        raise InputError(f"{source}: {reason}")
    reader = {".npz": _read_npz, ".parquet": read_parquet}.get(suffix_of(source))
    if reader is not None:
        return _beside(reader(source), paths_file, options)
    if suffix_of(source) != ".npy":
        raise InputError(
            f"{source}: expected .npz, .npy, .parquet, or a folder of clip-retrieval "
            "or thingsvision"
        )
    return _read_npy([source], paths_file or _list_beside(source), options)


def _read_folder(
    folder: Path, paths_file: str | None, options: ManifestOptions
) -> Foreign:
    parts = sorted((folder / "img_emb").glob("img_emb_*.npy"), key=_number)
    if parts:
        lists = [
            folder / "metadata" / f"metadata_{_number(path)}.parquet" for path in parts
        ]
        found = _read_npy([str(path) for path in parts], paths_file, options)
        if paths_file:
            return found
        return _with_columns(found, read_tables(lists), str(lists[0].parent))
    arrays = sorted(folder.glob("*.npy"))
    if len(arrays) == 1:
        listed = paths_file or _list_beside(str(arrays[0]))
        return _read_npy([str(arrays[0])], listed, options)
    raise InputError(
        f"{folder}: expected clip-retrieval's img_emb/img_emb_0.npy, or one .npy file; "
        f"found {len(arrays)} of these"
    )


def _number(path: Path) -> int:
    digits = re.findall(r"\d+", path.stem)
    return int(digits[-1]) if digits else 0


def _list_beside(source: str) -> str | None:
    """Return the list of images that stands beside an array, if one does."""
    own = f"{source[: -len(suffix_of(source))]}.csv"
    names = [own, *(os.path.join(os.path.dirname(source), n) for n in _LIST_NAMES)]
    return next((name for name in names if os.path.isfile(name)), None)


def _read_npy(
    sources: Sequence[str], paths_file: str | None, options: ManifestOptions
) -> Foreign:
    arrays = [_open_npy(source) for source in sources]
    shapes = {array.shape[1:] for array in arrays}
    if len(shapes) != 1:
        raise InputError(f"{sources[0]}: parts of {len(shapes)} shapes: {shapes}")
    starts = np.cumsum([0, *map(len, arrays)])

    def take(start: int, stop: int) -> np.ndarray:
        parts = [
            array[max(start - first, 0) : max(stop - first, 0)]
            for first, array in zip(starts.tolist(), arrays, strict=False)
        ]
        return floating(np.concatenate(parts))

    name = re.sub(r"_\d+$", "", Path(sources[0]).stem)
    found = Foreign(
        where=sources[0],
        n_images=int(starts[-1]),
        layers={name: (arrays[0].shape[1:], arrays[0].dtype)},
        columns={},
        take={name: take},
    )
    return _beside(found, paths_file, options)


def _open_npy(source: str) -> np.ndarray:
    try:
        array: np.ndarray = np.load(source, mmap_mode="r", allow_pickle=False)
    except _UNREADABLE as error:
        raise damaged(source, error) from error
    if not _is_layer(array):
        raise InputError(
            f"{source}: expected numbers, a row an image, found {array.dtype} "
            f"{array.shape}"
        )
    return array


def _is_layer(array: np.ndarray) -> bool:
    is_long = array.dtype.kind == "f" and array.dtype.itemsize <= 8
    return is_long and array.ndim >= 2 and min(array.shape) > 0


def _beside(
    found: Foreign, paths_file: str | None, options: ManifestOptions
) -> Foreign:
    """Return features with the columns of the list of images that belongs to them."""
    if paths_file is None:
        return found
    if suffix_of(paths_file) in (".csv", ".tsv"):
        table = read_manifest(paths_file, options)
        columns: dict[str, Any] = {
            options.path_column or "path": table.paths,
            **table.columns,
        }
        columns.setdefault(options.label_column or "label", table.labels)
        columns = {name: list(map(_text, values)) for name, values in columns.items()}
    else:
        try:
            text = Path(paths_file).read_text("utf-8-sig", "surrogateescape")
        except OSError as error:
            raise damaged(paths_file, error) from error
        columns = {PATHS[0]: [line for line in text.splitlines() if line.strip()]}
    return _with_columns(found, columns, paths_file)


def _text(cell: str | None) -> str:
    return from_csv_cell(cell or "")


def _with_columns(found: Foreign, columns: dict[str, Any], where: str) -> Foreign:
    n_listed = len(next(iter(columns.values()), ()))
    if n_listed != found.n_images:
        raise InputError(
            f"{where}: names {n_listed} images, and {found.where} has "
            f"{found.n_images} rows"
        )
    return replace(found, columns=columns)


def _read_npz(source: str) -> Foreign:
    try:
        with np.load(source, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except _UNREADABLE as error:
        raise damaged(source, error) from error
    told = arrays.pop(ORIGIN, None)
    layers = {name: array for name, array in arrays.items() if _is_layer(array)}
    if not layers:
        raise InputError(f"{source}: {no_layer(list(arrays))}")
    n_images = len(next(iter(layers.values())))
    for name, array in arrays.items():
        if array.shape[:1] != (n_images,):
            raise InputError(
                f"{source}: {name} has shape {array.shape}, others {n_images} rows"
            )
    return Foreign(
        where=source,
        n_images=n_images,
        layers={name: (rows.shape[1:], rows.dtype) for name, rows in layers.items()},
        columns={
            name: array.tolist()
            for name, array in arrays.items()
            if array.ndim == 1 and array.dtype.kind in "USbiuf"
        },
        take={name: _slicer(rows) for name, rows in layers.items()},
        told={} if told is None else origin_of(source, str(told)),
    )


def _slicer(rows: np.ndarray) -> Take:
    return lambda start, stop: floating(rows[start:stop])
