"""Checkpoints: what a killed run needs to go on to the same weights.

One file beside the output, replaced whole. Whatever is random is drawn from (seed,
epoch, step), so no generator's state has to be kept.
"""

import contextlib
import json
import os
import pickle
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cnnfeat.errors import ProvenanceError, StoreError
from cnnfeat.outputs import atomic_output, open_own
from cnnfeat.readback import Entries, Json, Number, Record

_VERSION = 2
_CONTENT = Record(
    {
        "version": Number(_VERSION, _VERSION, whole=True),
        "fingerprint": Json(Entries()),
        "state": Entries(),
    }
)
# What torch raises on damaged bytes, and a run on a state that is not its own.
_DAMAGE = (
    *(pickle.UnpicklingError, KeyError, IndexError, TypeError, OSError, EOFError),
    *(RuntimeError, ValueError, AttributeError, OverflowError),
)


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
        if not os.path.lexists(self.path):
            return None
        with self.reading():
            with warnings.catch_warnings(), open_own(self.path, "rb") as file:
                warnings.simplefilter("ignore")
                content = torch.load(file, map_location="cpu", weights_only=True)
            content = _CONTENT.check("", content)
        self._check(content["fingerprint"])
        state: dict[str, Any] = content["state"]
        return state

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Turn what contents of another kind raise into StoreError."""
        try:
            yield
        except _DAMAGE as error:
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            raise StoreError(
                f"{self.path} is no checkpoint or is damaged ({reason[:120]}); "
                "`overwrite` starts anew"
            ) from error

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


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
