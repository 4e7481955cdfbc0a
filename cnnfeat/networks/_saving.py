"""Weights files that cnnfeat writes, and what they say of themselves.

`.safetensors` carries a JSON object under the metadata key `cnnfeat`; `.pth` holds
`{"state_dict": …, "cnnfeat": JSON}` and loads with `weights_only=True`.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from cnnfeat.image_table import TUNED_ON, ImageTable
from cnnfeat.networks._weights import file_digest, read_state_dict
from cnnfeat.outputs import atomic_output, failure
from cnnfeat.seen import SeenImages
from cnnfeat.suffixes import SAFETENSORS, SAVED_WEIGHTS, suffix_of

FORMAT = "cnnfeat-weights"
FORMAT_VERSION = 1


def save_weights(
    path: str | Path,
    state: Mapping[str, torch.Tensor],
    metadata: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> None:
    """Write a state dict and what it is, whole or not at all.

    Parameters
    ----------
    path : path
        Ends in `.safetensors` or `.pth`.
    state : dict of str to tensor
    metadata : dict
        JSON types; the format and its version are added.

    Raises
    ------
    OutputError
        If `path` exists and `overwrite` is False, or cannot be written.
    """
    path = Path(path)
    record = {"format": FORMAT, "format_version": FORMAT_VERSION, **metadata}
    text = json.dumps(record, ensure_ascii=False)
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in state.items()}
    with atomic_output(path, overwrite=overwrite) as temporary:
        if suffix_of(path) == SAFETENSORS:
            described = {"format": "pt", "cnnfeat": text}
            try:
                save_file(tensors, temporary, metadata=described)
            except SafetensorError as error:
                raise failure(path, error) from error
        else:
            with temporary.open("wb") as file:
                torch.save({"state_dict": tensors, "cnnfeat": text}, file)


def read_weights_metadata(path: str | Path) -> dict[str, Any]:
    """Return what a weights file says of itself; empty where cnnfeat did not write it.

    Raises
    ------
    WeightsError
        If it is missing or damaged.
    """
    return read_state_dict(Path(path))[1]


def weights_summary(path: str | Path) -> dict[str, Any]:
    """Return what a weights file holds, as JSON can hold it.

    Raises
    ------
    WeightsError
        If it is missing or damaged, or its metadata are.
    """
    path = Path(path)
    state, metadata = read_state_dict(path)
    lists = ("_paths", "_digests", "_before")
    told = {k: v for k, v in metadata.items() if not k.endswith(lists)}
    return {
        "kind": "weights",
        "n_tensors": len(state),
        "n_parameters": sum(t.numel() for t in state.values()),
        "sha256": file_digest(path),
        **told,
        "n_classes": len(metadata.get("class_names", [])) or None,
        "n_training": len(metadata.get("training_paths", [])) or None,
        "n_heldout": len(metadata.get("heldout_paths", [])) or None,
        "path": str(path),
        "n_bytes": path.stat().st_size,
    }


def rows_tuned_on(
    table: ImageTable, provenance: Mapping[str, str], rows: np.ndarray
) -> np.ndarray:
    """Return which rows of a feature file its network was fine-tuned on.

    Parameters
    ----------
    table : ImageTable
        The feature file's, which says so. For one of an earlier version the weights
        file tells, for as long as it is where the provenance says.
    provenance : mapping of str to str
        The feature file's.
    rows : ndarray of shape (m,), dtype=int
        The rows to look at.

    Returns
    -------
    ndarray of dtype=int64
        Some of `rows`, in their order.
    """
    marked = table.columns.get(TUNED_ON)
    if marked is not None:
        return rows[marked[rows]]
    return _read_seen_images(provenance).among(table, rows)


def _read_seen_images(provenance: Mapping[str, str]) -> SeenImages:
    """Return what the weights behind some features were fine-tuned on.

    None, where there is no such file, or it has other bytes now.
    """
    path = Path(provenance.get("weights", ""))
    if suffix_of(path) not in SAVED_WEIGHTS or not os.path.isfile(path):
        return SeenImages("", ())
    if file_digest(path) != provenance.get("weights_sha256"):
        return SeenImages("", ())
    return SeenImages.of_weights(read_weights_metadata(path))
