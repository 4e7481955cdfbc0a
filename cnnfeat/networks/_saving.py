"""Weights files that cnnfeat writes, and what they say of themselves.

`.safetensors` carries a JSON object under the metadata key `cnnfeat`; `.pth` holds
`{"state_dict": …, "cnnfeat": JSON}` and loads with `weights_only=True`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from cnnfeat.errors import WeightsError
from cnnfeat.networks._weights import file_digest, read_state_dict
from cnnfeat.outputs import atomic_output
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
            save_file(tensors, temporary, metadata={"format": "pt", "cnnfeat": text})
        else:
            torch.save({"state_dict": tensors, "cnnfeat": text}, temporary)


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
    training = metadata.get("training_paths", [])
    heldout = metadata.get("heldout_paths", [])
    if not isinstance(training, list) or not isinstance(heldout, list):
        raise WeightsError(f"{path}: its cnnfeat metadata is damaged")
    told = {k: v for k, v in metadata.items() if not k.endswith("_paths")}
    return {
        "kind": "weights",
        "n_tensors": len(state),
        "n_parameters": sum(t.numel() for t in state.values()),
        "sha256": file_digest(path),
        **told,
        "n_classes": len(metadata.get("class_names", [])) or None,
        "n_training": len(training) or None,
        "n_heldout": len(heldout) or None,
        "path": str(path),
        "n_bytes": path.stat().st_size,
    }


def finetuned_images(metadata: Mapping[str, Any]) -> frozenset[str]:
    """Return the images that weights were fine-tuned on: full paths, or none."""
    root = Path(str(metadata.get("root", "")))
    return frozenset(str(root / path) for path in metadata.get("training_paths", []))


def finetuned_images_of(path: str, sha256: str) -> frozenset[str]:
    """Return the same from the weights file itself, where it is still there.

    Empty where the file is gone, or has other bytes than `sha256` says.
    """
    there = Path(path)
    if suffix_of(there) not in SAVED_WEIGHTS or not there.is_file():
        return frozenset()
    if file_digest(there) != sha256:
        return frozenset()
    return finetuned_images(read_weights_metadata(there))
