"""Checkpoints: what a killed run needs to go on to the same weights.

One file beside the output, replaced whole. Whatever is random is drawn from (seed,
epoch, step), so no generator's state has to be kept.
"""

import json
import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cnnfeat.errors import ProvenanceError, StoreError
from cnnfeat.outputs import atomic_output

_VERSION = 2


@dataclass(frozen=True)
class Checkpoint:
    """The file that a run can go on from.

    Parameters
    ----------
    path : Path
    fingerprint : dict
        JSON types; what makes it this run and no other.
    """

    path: Path
    fingerprint: dict[str, Any]

    def save(self, state: dict[str, Any]) -> None:
        """Write tensors, numbers, strings and containers of them, whole or not at all.

        Raises
        ------
        OutputError
            If the file cannot be written.
        """
        content = {
            "version": _VERSION,
            "fingerprint": json.dumps(self.fingerprint, sort_keys=True),
            "state": state,
        }
        with (
            atomic_output(self.path, overwrite=True) as temporary,
            temporary.open("wb") as file,
        ):
            torch.save(content, file)

    def load(self) -> dict[str, Any] | None:
        """Return what this run last saved; None where there is no file.

        Raises
        ------
        StoreError
            If the file is damaged or no checkpoint.
        ProvenanceError
            If it is of another run; the fields that differ are named, with both values.
        """
        if not self.path.exists():
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                content = torch.load(self.path, map_location="cpu", weights_only=True)
            found = json.loads(content["fingerprint"])
            state: dict[str, Any] = content["state"]
        except (pickle.UnpicklingError, KeyError, TypeError) as error:
            raise _damaged(self.path) from error
        except (OSError, EOFError, RuntimeError, ValueError, AttributeError) as error:
            raise _damaged(self.path) from error
        self._check(found)
        return state

    def remove(self) -> None:
        """Take the file away, if there is one."""
        self.path.unlink(missing_ok=True)

    def _check(self, found: dict[str, Any]) -> None:
        """Refuse the checkpoint of another run."""
        expected = json.loads(json.dumps(self.fingerprint))
        differing = [
            f"{key} is {_short(found.get(key))} there and "
            f"{_short(expected.get(key))} here"
            for key in sorted({*found, *expected})
            if found.get(key) != expected.get(key)
        ]
        if differing:
            raise ProvenanceError(
                f"{self.path} is the checkpoint of another run: "
                f"{'; '.join(differing[:3])}; give the options of that run, or "
                "`overwrite` to start anew"
            )


def _damaged(path: Path) -> StoreError:
    return StoreError(f"{path} is no checkpoint or is damaged; `overwrite` starts anew")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
