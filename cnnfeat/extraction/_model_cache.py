"""Converted networks kept between runs: converting one takes longer than starting it.

An entry is named by a digest of everything that decides the graph, the values of the
weights included, so it can never be another network's. It holds digests of its own
files: one that is damaged counts as none. The folder may be deleted at any time.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cnnfeat.errors import OutputError
from cnnfeat.networks import file_digest
from cnnfeat.outputs import locked_output
from cnnfeat.readback import Entries, Text, parse_json

# The least recently used entries go when all together are larger.
MAX_BYTES = 2**30
_MODEL = "model.xml"  # with its values in model.bin
_DIGESTS = "sha256.json"
_NEW = ".new"  # what is being written; one process at a time writes


def cache_folder() -> Path | None:
    """Return where converted networks are kept, or None where nothing is to be kept.

    `CNNFEAT_CACHE` names the folder, or is `off`; by default it is `cnnfeat` in the
    user's folder for caches.
    """
    chosen = os.environ.get("CNNFEAT_CACHE")
    if chosen is not None:
        return None if chosen in ("", "off") else Path(chosen)
    try:
        home = Path.home()
    except RuntimeError:  # no home folder
        return None
    usual = home / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    return Path(os.environ.get("XDG_CACHE_HOME") or usual) / "cnnfeat"


class ModelCache:
    """A folder of converted networks; nothing that fails in it is an error.

    Parameters
    ----------
    folder : Path or None
        None keeps and finds nothing.
    max_bytes : int
        What all entries together may take.
    """

    def __init__(self, folder: Path | None, max_bytes: int = MAX_BYTES) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def find(self, fingerprint: str) -> Path | None:
        """Return the file of the model of that fingerprint if it is there and whole."""
        entry = self._entry(fingerprint)
        if entry is None:
            return None
        try:
            # A pipe would hold whoever opens it, for ever.
            if not all(path.is_file() for path in entry.iterdir()):
                return None
            text = (entry / _DIGESTS).read_text()
            digests = Entries(Text()).check("", parse_json(text, _DIGESTS))
            if digests != _digests(entry):
                return None
            os.utime(entry)  # used last
        except (OSError, ValueError):
            return None
        return entry / _MODEL

    def keep(self, fingerprint: str, save: Callable[[Path], None]) -> None:
        """Let `save(path)` write the model; it appears in the cache whole or not."""
        entry = self._entry(fingerprint)
        if entry is None:
            return
        try:
            entry.parent.mkdir(parents=True, exist_ok=True)
            with locked_output(entry.parent / _NEW):
                for left in entry.parent.glob(f"{_NEW}-*"):  # of a run that was killed
                    shutil.rmtree(left, ignore_errors=True)
                _make(entry, save)
                self._drop_oldest(entry.parent)
        # A full disk, no rights, another process at work; OpenVINO's own error.
        except (OSError, OutputError, RuntimeError):
            return

    def _entry(self, fingerprint: str) -> Path | None:
        name = hashlib.sha256(fingerprint.encode()).hexdigest()
        return self._folder / "openvino" / name if self._folder else None

    def _drop_oldest(self, folder: Path) -> None:
        total = 0
        entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
        for entry in sorted(entries, key=lambda e: e.stat().st_mtime, reverse=True):
            with suppress(OSError):  # another process may have dropped it
                total += sum(path.stat().st_size for path in entry.iterdir())
            if total > self._max_bytes:
                shutil.rmtree(entry, ignore_errors=True)


def _make(entry: Path, save: Callable[[Path], None]) -> None:
    """Let the model be written beside the entry, and give it its name when whole."""
    with tempfile.TemporaryDirectory(dir=entry.parent, prefix=f"{_NEW}-") as name:
        made = Path(name) / "entry"
        made.mkdir()
        save(made / _MODEL)
        (made / _DIGESTS).write_text(json.dumps(_digests(made)))
        shutil.rmtree(entry, ignore_errors=True)  # damaged, or of another run
        made.rename(entry)


def _digests(entry: Path) -> dict[str, str]:
    """Return the sha256 of each file of an entry, but for the digests themselves."""
    files = (path for path in sorted(entry.iterdir()) if path.name != _DIGESTS)
    return {path.name: file_digest(path) for path in files}
