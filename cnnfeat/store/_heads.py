"""Head files: a `cnnfeat.heads.Head`, written and read.

Arrays and attributes only; a head file can be read by any program that reads HDF5 and
holds nothing that could be run.
"""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from cnnfeat.heads import Head, ScalerValue
from cnnfeat.layer_spec import LayerSpec
from cnnfeat.outputs import atomic_output
from cnnfeat.store._opening import (
    HEAD_FORMAT,
    damage,
    open_format,
    read_attributes,
    read_optional_strings,
    read_strings,
)
from cnnfeat.store._skeleton import FORMAT_VERSION


def save_head(path: str | Path, head: Head, *, overwrite: bool = False) -> None:
    """Write a head file, whole or not at all.

    Raises
    ------
    OutputError
        If `path` exists and `overwrite` is False, or cannot be written.
    """
    # Made in memory first: HDF5 does not survive a disk that is full.
    image = io.BytesIO()
    with h5py.File(image, "w", libver="earliest") as file:
        _write_head(file, head)
    with atomic_output(Path(path), overwrite=overwrite) as temporary:
        temporary.write_bytes(image.getbuffer())


def _write_head(file: h5py.File, head: Head) -> None:
    file.attrs["format"] = HEAD_FORMAT
    file.attrs["format_version"] = FORMAT_VERSION
    for key in ("kind", "layer", "root", "command", "created_by"):
        file.attrs[key] = getattr(head, key)
    file.attrs["hyperparameters"] = json.dumps(head.hyperparameters, sort_keys=True)
    file.attrs["layers"] = json.dumps([spec.to_dict() for spec in head.layer_specs])
    file["coef"] = head.coef
    file["intercept"] = head.intercept
    _write_strings(file, "/classes", head.class_names)
    _write_strings(file, "/training/path", head.training_paths)
    _write_strings(file, "/training/digest", head.training_digests)
    _write_strings(file, "/heldout/path", head.heldout_paths)
    scaler = file.create_group("scaler")
    for key, value in head.scaler.items():
        if isinstance(value, np.ndarray):
            scaler[key] = value
        else:
            scaler.attrs[key] = value
    provenance = file.create_group("provenance")
    for key, text in head.provenance.items():
        provenance.attrs[key] = text


def _write_strings(file: h5py.File, name: str, strings: Sequence[str]) -> None:
    dtype = h5py.string_dtype("utf-8")
    file.create_dataset(name, (len(strings),), dtype, list(strings) or None)


def load_head(path: str | Path) -> Head:
    """Read a head file.

    Raises
    ------
    StoreError
        If it is missing, a folder, empty, not HDF5, cut short, not a head file, of a
        newer format, or damaged.
    """
    path = Path(path)
    with open_format(path, HEAD_FORMAT) as file, damage(path):
        return Head(
            **{
                key: str(file.attrs[key])
                for key in ("kind", "layer", "root", "command", "created_by")
            },
            coef=file["coef"][:],
            intercept=file["intercept"][:],
            class_names=read_strings(file, "/classes"),
            scaler=_read_scaler(file["/scaler"]),
            training_paths=read_strings(file, "/training/path"),
            training_digests=read_optional_strings(file, "/training/digest"),
            heldout_paths=read_strings(file, "/heldout/path"),
            layer_specs=tuple(
                map(LayerSpec.from_dict, json.loads(file.attrs["layers"]))
            ),
            hyperparameters=json.loads(file.attrs["hyperparameters"]),
            provenance=read_attributes(file["/provenance"]),
        )


def _read_scaler(group: h5py.Group) -> dict[str, ScalerValue]:
    scaler: dict[str, ScalerValue] = {key: group[key][()] for key in group}
    for key, value in group.attrs.items():
        scaler[key] = value.item() if isinstance(value, np.generic) else value
    return scaler
