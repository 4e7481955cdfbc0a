"""Checkpoints: what a killed run needs to go on to the same weights.

One file beside the output, replaced whole. Whatever is random is drawn from (seed,
epoch, step), so no generator's state has to be kept.
"""

import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch

from cnnfeat.errors import ProvenanceError, StoreError
from cnnfeat.outputs import atomic_output

_VERSION = 1


def checkpoint_path(output_path: str) -> Path:
    """Return where the checkpoints of a run are kept."""
    return Path(f"{output_path}.part")


def save_checkpoint(
    path: Path, fingerprint: dict[str, Any], state: dict[str, Any]
) -> None:
    """Write a checkpoint, whole or not at all.

    Parameters
    ----------
    fingerprint : dict
        JSON types; what makes it this run and no other.
    state : dict
        Tensors, numbers, strings, and containers of them.
    """
    content = {
        "version": _VERSION,
        "fingerprint": json.dumps(fingerprint, sort_keys=True),
        "state": state,
    }
    with atomic_output(path, overwrite=True) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: Path, fingerprint: dict[str, Any]) -> dict[str, Any] | None:
    """Return the state of this run's checkpoint; None where there is no file.

    Raises
    ------
    StoreError
        If the file is damaged or no checkpoint.
    ProvenanceError
        If it is of another run; the fields that differ are named, with both values.
    """
    if not path.exists():
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
        found = json.loads(content["fingerprint"])
        state: dict[str, Any] = content["state"]
    except (pickle.UnpicklingError, KeyError, TypeError) as error:
        raise _damaged(path) from error
    except (OSError, EOFError, RuntimeError, ValueError, AttributeError) as error:
        raise _damaged(path) from error
    expected = json.loads(json.dumps(fingerprint))
    differing = [
        f"{key} is {_short(found.get(key))} there and {_short(expected.get(key))} here"
        for key in sorted({*found, *expected})
        if found.get(key) != expected.get(key)
    ]
    if differing:
        raise ProvenanceError(
            f"{path} is the checkpoint of another run: {'; '.join(differing[:3])}; "
            "give the options of that run, or --overwrite to start anew"
        )
    return state


def _damaged(path: Path) -> StoreError:
    return StoreError(f"{path} is no checkpoint or is damaged; --overwrite starts anew")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
