"""What an earlier run measured on this machine, so that the next need not.

Measuring takes seconds and may come out otherwise the next time, and with the batch
size or the engine the last bits of every row would change. Notes are of operations, not
of weights' values: a fine-tuned network is as fast as the one that it was made from.
"""

import hashlib
import json
import os
import platform
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from cnnfeat.extraction._engines import ENGINES

_MAX_NOTES = 200  # the oldest go first


@dataclass(frozen=True)
class SpeedNote:
    """The choice that was made for one kind of work on one kind of machine.

    Attributes
    ----------
    batch_size : int
    engine : str
        Empty where no other engine was clearly faster than the eager one.
    eager_seconds : float
        Of one image, by the eager engine.
    """

    batch_size: int
    engine: str = ""
    eager_seconds: float = 0.0


class SpeedNotes:
    """The file of notes; nothing that fails in it is an error.

    Parameters
    ----------
    folder : Path or None
        Where `speeds.json` lies; None keeps and finds nothing.
    work : str
        What is computed (see `TapModule.operations`), on which machine.
    """

    def __init__(self, folder: Path | None, work: str) -> None:
        self._path = folder / "speeds.json" if folder else None
        self._key = hashlib.sha256(work.encode()).hexdigest()

    def find(self) -> SpeedNote | None:
        """Return the note on this work, if there is one."""
        told = self._read().get(self._key)
        if not isinstance(told, dict):
            return None
        size, engine = told.get("batch_size"), told.get("engine")
        seconds = told.get("eager_seconds")
        if (
            isinstance(size, int)
            and size >= 1
            and engine in ("", *ENGINES)
            and isinstance(seconds, float)
        ):
            return SpeedNote(size, engine, seconds)
        return None

    def keep(self, note: SpeedNote) -> None:
        """Add the note, or replace an earlier one."""
        if self._path is None:
            return
        notes = {key: told for key, told in self._read().items() if key != self._key}
        notes[self._key] = asdict(note)
        text = json.dumps(dict(list(notes.items())[-_MAX_NOTES:]), indent=1)
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                "w", dir=self._path.parent, prefix=".new-", delete=False
            ) as file:
                file.write(text)
            os.replace(file.name, self._path)

    def _read(self) -> dict[str, dict[str, object]]:
        try:
            notes = json.loads(self._path.read_text()) if self._path else {}
        except (OSError, ValueError):
            return {}
        return notes if isinstance(notes, dict) else {}


def describe_machine(device: torch.device, n_threads: int) -> str:
    """Return what decides how fast a network is here: the processor and its share."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_name()}, {n_threads} threads"


def _cpu_name() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
