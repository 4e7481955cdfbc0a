"""Virtual datasets that a merge of ours made: rows of shards that stay where they are.

A feature file may lead to other files in this one way. It lists its shards under
`/virtual`; they lie beside it or below, are whole feature files of the same job with
rows of their own, and each virtual dataset is made of exactly these, in order. All of
that is held against the shards when the file is opened: HDF5 itself would read a shard
that is gone as zeros.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np

from cnnfeat.errors import StoreError
from cnnfeat.layer_spec import LayerSpec
from cnnfeat.readback import Malformed
from cnnfeat.store._layers import read_layers
from cnnfeat.store._opening import open_format
from cnnfeat.store._schema import (
    PROVENANCE,
    TEXT,
    Array,
    Lengths,
    find,
    read_attributes,
    refuse_other_files,
)
from cnnfeat.store._skeleton import FEATURES_FORMAT, write_layer_attributes

_FILES, _ROWS = "/virtual/file", "/virtual/rows"
_LISTED = {
    _FILES: Array(TEXT, ("n_parts",), unique=True, at_least=1),
    _ROWS: Array("iu", ("n_parts",), lowest=1),
}


@dataclass(frozen=True)
class Part:
    """A shard of a merged file: its name there, and how many rows it has."""

    name: str
    n_rows: int


def write_parts(
    file: h5py.File, parts: Sequence[Part], layers: Sequence[LayerSpec]
) -> None:
    """Write layers whose rows are those of the parts, and the list of these."""
    file.create_dataset(
        _FILES, data=[part.name for part in parts], dtype=h5py.string_dtype("utf-8")
    )
    file.create_dataset(_ROWS, data=np.array([part.n_rows for part in parts], np.int64))
    n_images = sum(part.n_rows for part in parts)
    for spec in layers:
        name = f"/features/{spec.name}"
        layout = h5py.VirtualLayout((n_images, *spec.shape), spec.dtype)
        for start, part in _placed(parts):
            shape = (part.n_rows, *spec.shape)
            layout[start : start + part.n_rows] = h5py.VirtualSource(
                part.name, name, shape, spec.dtype
            )
        write_layer_attributes(file.create_virtual_dataset(name, layout), spec)


def _placed(parts: Sequence[Part]) -> Iterator[tuple[int, Part]]:
    start = 0
    for part in parts:
        yield start, part
        start += part.n_rows


def checked_parts(file: h5py.File, folder: Path) -> frozenset[str]:
    """Return the virtual datasets of a file that are what a merge of ours makes.

    Parameters
    ----------
    file : h5py.File
    folder : Path
        The one that it stands in.

    Raises
    ------
    StoreError
        If a shard is missing, unfinished, or no feature file.
    Malformed
        If one is of another job, or a dataset is made of anything else.
    """
    if file.get("/virtual", getlink=True) is None:
        return frozenset()
    lengths: Lengths = {}
    names, rows = (
        array.read(_own(file, name), lengths) for name, array in _LISTED.items()
    )
    told = read_attributes(find(file, "/provenance", h5py.Group, "a group"), PROVENANCE)
    parts = [Part(name, n) for name, n in zip(names, rows.tolist(), strict=True)]
    layers = [
        _check_part(folder, part, {**told, "shard": f"{number}/{len(parts)}"})
        for number, part in enumerate(parts, 1)
    ]
    group = find(file, "/features", h5py.Group, "a group")
    virtual = []
    for name in group:
        dataset = h5py.h5o.open(group.id, name.encode())
        if isinstance(dataset, h5py.h5d.DatasetID):
            plist = dataset.get_create_plist()
            if plist.get_layout() == h5py.h5d.VIRTUAL:
                _check_layout(f"/features/{name}", plist, parts)
                virtual.append(f"/features/{name}")
    # Only now: HDF5 opens the shards to say how large a dataset is.
    refuse_other_files(file, frozenset(virtual))
    merged = read_layers(file, sum(part.n_rows for part in parts))
    if any(found != merged for found in layers):
        raise Malformed("/features: its layers are not those of its shards")
    return frozenset(virtual)


def _own(file: h5py.File, name: str) -> h5py.Dataset:
    """Return a dataset of the list, whose bytes are in the file itself."""
    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise Malformed(f"{name} is missing")
    dataset = find(file, name, h5py.Dataset, "a dataset")
    plist = dataset.id.get_create_plist()
    if plist.get_layout() == h5py.h5d.VIRTUAL or plist.get_external_count():
        raise Malformed(f"{name}: its bytes lie in another file, which is not read")
    return dataset


def _check_part(folder: Path, part: Part, told: dict[str, str]) -> dict[str, LayerSpec]:
    """Return the layers of a shard, which is the one that it was."""
    name = PurePosixPath(part.name)
    if name.is_absolute() or ".." in name.parts or "\\" in part.name:
        raise Malformed(f"{part.name}: it must lie beside the merged file or below")
    path = folder / part.name
    if os.path.islink(path):
        raise Malformed(f"{path}: a shard must be a file, and is a symbolic link")
    try:
        shard = open_format(path, FEATURES_FORMAT)
    except StoreError as error:
        raise StoreError(f"{error}: the merged file is made of it") from error
    with shard:
        refuse_other_files(shard)
        found = read_attributes(shard["provenance"], PROVENANCE)
        for field in ("shard", "images_sha256", "model", "weights_sha256"):
            if found.get(field) != told.get(field):
                raise Malformed(
                    f"{path} is another shard than it was when it was merged: its "
                    f"{field} is {found.get(field)!r}, not {told.get(field)!r}"
                )
        n_rows = len(shard["/images/ok"])
        if n_rows != part.n_rows:
            raise Malformed(f"{path} has {n_rows} rows, not {part.n_rows}")
        return read_layers(shard, n_rows)


def _check_layout(name: str, plist: Any, parts: Sequence[Part]) -> None:
    """Raise Malformed unless a dataset is the rows of the parts, and nothing else."""
    found = [
        (
            plist.get_virtual_filename(k),
            plist.get_virtual_dsetname(k),
            plist.get_virtual_srcspace(k).get_select_type() == h5py.h5s.SEL_ALL,
            *_rows(plist.get_virtual_vspace(k)),
        )
        for k in range(plist.get_virtual_count())
    ]
    expected = [
        (part.name, name, True, start, start + part.n_rows)
        for start, part in _placed(parts)
    ]
    if found != expected:
        raise Malformed(f"{name}: a virtual dataset, made of other parts than listed")


def _rows(space: Any) -> tuple[int, int]:
    """Return where a selection of whole rows begins and ends; (-1, -1) of any other."""
    low, high = space.get_select_bounds()
    n_rows, width = high[0] - low[0] + 1, space.shape[1:]
    is_whole = space.get_select_npoints() == n_rows * int(np.prod(width))
    return (int(low[0]), int(high[0]) + 1) if is_whole else (-1, -1)
