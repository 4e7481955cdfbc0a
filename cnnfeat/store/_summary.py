"""What is in a file, and where it came from: the contents of `cnnfeat info`."""

from pathlib import Path
from typing import Any

import numpy as np

from cnnfeat.heads import Head
from cnnfeat.readback import Record, Text
from cnnfeat.store._features import FeatureFile
from cnnfeat.store._heads import load_head
from cnnfeat.store._merging import open_features, shard_files
from cnnfeat.store._opening import HEAD_FORMAT, damage, open_hdf5
from cnnfeat.store._schema import read_attributes


def file_summary(path: str | Path) -> dict[str, Any]:
    """Return what a feature or head file holds, as JSON can hold it.

    Returns
    -------
    dict
        `kind` is "feature" or "head"; the rest depends on it.

    Raises
    ------
    StoreError
        If the file is neither, or cannot be read.
    """
    path = Path(path)
    if is_head_file(path):
        summary = _head_summary(load_head(path))
    else:
        with open_features(path) as features:
            summary = _feature_summary(features)
    return {**summary, "path": str(path), "n_bytes": _n_bytes(path)}


def _n_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in shard_files(path) or [path])


def is_head_file(path: str | Path) -> bool:
    """Return whether a file says that it is a head; else it may be of features.

    Raises
    ------
    StoreError
        If it is not HDF5, or cannot be read.
    """
    path = Path(path)
    if shard_files(path):
        return False
    with open_hdf5(path) as file, damage(path):
        told = read_attributes(file, Record({}, {"format": Text()}))
    return told.get("format") == HEAD_FORMAT


def _feature_summary(features: FeatureFile) -> dict[str, Any]:
    n_ok = int(np.count_nonzero(features.ok))
    return {
        "kind": "feature",
        "n_images": features.n_images,
        "n_ok": n_ok,
        "n_failed": features.n_images - n_ok,
        "n_unlabelled": int(np.count_nonzero(features.labels < 0)),
        "n_classes": len(features.class_names),
        "classes": features.table.class_counts(),
        "columns": sorted(features.table.own_columns),
        "root": features.table.root,
        "layers": [spec.to_dict() for spec in features.layers.values()],
        "provenance": features.provenance,
        "command": features.command,
        "created_by": features.created_by,
    }


def _head_summary(head: Head) -> dict[str, Any]:
    return {
        "kind": "head",
        "head": head.kind,
        "layer": head.layer,
        "C": head.hyperparameters.get("C"),
        "hyperparameters": head.hyperparameters,
        "n_classes": len(head.class_names),
        "classes": list(head.class_names),
        "n_features": head.n_features,
        "n_training": len(head.training_paths),
        "n_heldout": len(head.heldout_paths),
        "layers": [spec.to_dict() for spec in head.layer_specs],
        "scaler": {
            key: f"{value.dtype} {value.shape}"
            if isinstance(value, np.ndarray)
            else value
            for key, value in head.scaler.items()
        },
        "root": head.root,
        "provenance": head.provenance,
        "command": head.command,
        "created_by": head.created_by,
    }
