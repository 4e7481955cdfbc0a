"""Head files: a `cnnfeat.heads.Head`, written and read.

Arrays and attributes only; a head file can be read by any program that reads HDF5 and
holds nothing that could be run.
"""

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cnnfeat.heads import HEAD_KINDS, SCALES, Head, Neighbours
from cnnfeat.layer_spec import DTYPES, LayerSpec
from cnnfeat.outputs import atomic_output
from cnnfeat.readback import (
    Items,
    Json,
    Malformed,
    Number,
    OrNothing,
    Record,
    Text,
    Truth,
    fail,
)
from cnnfeat.store._layers import LAYER_FIELDS, TOKEN_FIELDS
from cnnfeat.store._opening import HEAD_FORMAT, damage, open_format
from cnnfeat.store._schema import PROVENANCE, TEXT, Array, Schema
from cnnfeat.store._skeleton import FORMAT_VERSION

_TOLD = ("kind", "layer", "root", "command", "created_by")
_LAYERS = Items(
    Record(
        {"name": Text(), **LAYER_FIELDS, "dtype": Text(DTYPES)},
        optional=TOKEN_FIELDS,
        others=None,
    )
)
_FLOAT32 = "float32"  # as the scaler computes

SCHEMA = Schema(
    attributes={
        "/": Record(
            {
                **dict.fromkeys(_TOLD, Text()),
                "kind": Text(tuple(HEAD_KINDS)),
                "layers": Json(_LAYERS),
                "hyperparameters": Json(Record({}, {"C": OrNothing(Number(0))})),
            },
            optional={"k": Number(1, whole=True), "temperature": Number(0)},
        ),
        "/provenance": PROVENANCE,
        "/scaler": Record(
            {
                "scale": Text(SCALES),
                "signed_sqrt": Truth(),
                "n_features_in": Number(1, whole=True),
            },
            optional={"power": Number(math.ulp(0.0))},
        ),
    },
    arrays={
        "/classes": Array(TEXT, ("n_classes",), unique=True, at_least=1),
        "/coef": Array("f", ("n_rows", "width")),
        "/intercept": Array("f", ("n_rows",)),
        "/neighbours/class": Array(
            "iu", ("n_rows",), lowest=0, below="n_classes", optional=True, read_as="i8"
        ),
        "/scaler/part_widths": Array("iu", ("n_parts",), lowest=1),
        "/scaler/shift": Array("f", ("width",), read_as=_FLOAT32),
        "/scaler/factor": Array("f", ("width",), read_as=_FLOAT32),
        "/scaler/components": Array(
            "f", ("width", "n_features"), read_as=_FLOAT32, optional=True
        ),
        "/scaler/mean": Array("f", ("n_features",), read_as=_FLOAT32, optional=True),
        "/training/path": Array(TEXT, ("n_training",)),
        "/training/digest": Array(TEXT, ("n_digests",), optional=True),
        "/heldout/path": Array(TEXT, ("n_heldout",)),
    },
)


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
    for key in _TOLD:
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
    if head.neighbours is not None:
        file["neighbours/class"] = head.neighbours.labels
        file.attrs["k"] = head.neighbours.k
        file.attrs["temperature"] = head.neighbours.temperature
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
        found = SCHEMA.read(file)
    with damage(path):
        return _to_head(found)


def _to_head(found: dict[str, Any]) -> Head:
    """Return the head that the fields of a file make up."""
    told = found["/"]
    if ("/scaler/mean" in found) != ("/scaler/components" in found):
        raise Malformed("/scaler has one of mean and components: expected both or none")
    head = Head(
        **{key: told[key] for key in _TOLD},
        coef=found["/coef"],
        intercept=found["/intercept"],
        class_names=found["/classes"],
        scaler={**found["/scaler"], **_below("/scaler/", found)},
        training_paths=found["/training/path"],
        training_digests=found.get("/training/digest", ()),
        heldout_paths=found["/heldout/path"],
        layer_specs=tuple(map(LayerSpec.from_dict, told["layers"])),
        hyperparameters=told["hyperparameters"],
        provenance=found["/provenance"],
        neighbours=_neighbours(found),
    )
    fitted, parts = found["/scaler"]["n_features_in"], found["/scaler/part_widths"]
    for where, n_features in (
        ("/scaler/n_features_in", fitted),
        ("/scaler/part_widths", sum(parts.tolist()) or fitted),
    ):
        if n_features != head.n_features:
            fail(where, f"{head.n_features} features as in layers", n_features)
    return head


def _neighbours(found: dict[str, Any]) -> Neighbours | None:
    """Return how the rows of a file vote, where they do."""
    labels, told = found.get("/neighbours/class"), found["/"]
    if labels is None:
        return None
    for name in ("k", "temperature"):
        if name not in told:
            raise Malformed(f"/{name} is missing")
    n_classes = len(found["/classes"])
    return Neighbours(labels, n_classes, told["k"], told["temperature"])


def _below(group: str, found: dict[str, Any]) -> dict[str, Any]:
    return {
        name.removeprefix(group): value
        for name, value in found.items()
        if name.startswith(group)
    }
