"""The journal beside an unfinished feature file: which job, and which rows are safe.

A text file with one JSON object a line. Every line carries the CRC-32 of its entry, so
that a line torn by a crash is known for what it is; it and whatever follows it are
dropped. The first entry describes the job, each later one a commit. The journal
is also what a writer locks: two writers on one output never run at the same time.
"""

import base64
import contextlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from cnnfeat.errors import OutputError, ProvenanceError, StoreError
from cnnfeat.outputs import lock_file, open_own
from cnnfeat.readback import (
    Entries,
    Malformed,
    Number,
    Record,
    Text,
    Truth,
    parse_json,
)
from cnnfeat.store._skeleton import Contents

_JOB = Record(
    {"fingerprint": Entries(Text()), "overwrite": Truth()},
    optional={"stamps": Text(pattern="[A-Za-z0-9+/=]*")},
    others=None,
)
_COMMIT = Record({"rows_done": Number(0, whole=True)}, others=None)


@dataclass(frozen=True)
class JournalState:
    """What a journal says: the job, the rows that are safe, the bytes that hold."""

    fingerprint: dict[str, str]
    overwrite: bool
    rows_done: int
    n_bytes: int
    stamps: np.ndarray  # uint64 (n_images,), empty where none were given


def encode_line(entry: dict[str, Any]) -> bytes:
    """Return one journal line: the entry and its CRC-32."""
    return json.dumps({"crc32": _crc32(entry), "entry": entry}).encode() + b"\n"


def journal_path(output_path: str | Path) -> Path:
    """Return where the journal of an output that is being written lies."""
    return Path(f"{output_path}.part.journal")


def read_journal(path: Path) -> JournalState | None:
    """Return what the journal at `path` says; None where there is no usable one.

    Lines after the first torn or damaged one are ignored.

    Raises
    ------
    OutputError
        If the journal is there but cannot be read.
    """
    try:
        with open_own(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(f"{path}: cannot be read: {error.strerror}") from error
    return _parse(data)


def unfinished_run(output_path: str | Path) -> dict[str, str]:
    """Return the job of the unfinished run of an output; empty without a safe row.

    Raises
    ------
    OutputError
        As `read_journal`.
    """
    state = read_journal(journal_path(output_path))
    return state.fingerprint if state is not None and state.rows_done else {}


def _parse(data: bytes) -> JournalState | None:
    entries = _entries(data)
    job, n_bytes = next(entries, ({}, 0))
    if not job:
        return None
    rows_done = 0
    for entry, end in entries:
        if entry["rows_done"] < rows_done:
            break
        rows_done, n_bytes = entry["rows_done"], end
    try:
        stamps = np.frombuffer(base64.b64decode(job.get("stamps", "")), "<u8")
    except ValueError:
        return None
    return JournalState(
        job["fingerprint"], job["overwrite"], rows_done, n_bytes, stamps
    )


def _entries(data: bytes) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield each sound entry and the offset behind it, up to the first damaged one."""
    end = 0
    for number, line in enumerate(data.splitlines(keepends=True), 1):
        where = f"line {number}"
        entry_field = _COMMIT if end else _JOB
        line_field = Record({"crc32": Text(), "entry": entry_field}, others=None)
        try:
            fields = line_field.check(where, parse_json(line, where))
        except Malformed:
            return
        if fields["crc32"] != _crc32(fields["entry"]) or not line.endswith(b"\n"):
            return
        end += len(line)
        yield fields["entry"], end


def _crc32(entry: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(entry, sort_keys=True).encode()):08x}"


def check_same_job(
    part: Path, state: JournalState, job: Mapping[str, str], contents: Contents
) -> None:
    """Refuse to go on with a .part whose job was another one, or had other images.

    Raises
    ------
    ProvenanceError
        Names the root, the first image, or the first field that differs.
    """
    before, now = state.fingerprint, dict(job)
    fields = ["root", *sorted(before.keys() | now.keys())]
    if before.get("root") == now.get("root"):
        _check_stamps(part, state.stamps, contents)
    if state.rows_done > contents.n_images:
        raise StoreError(
            f"{part}.journal is damaged: {state.rows_done} of {contents.n_images} rows "
            "are done; give `overwrite` to start anew"
        )
    for field in fields:
        if before.get(field) != now.get(field):
            raise _other_job(
                part,
                f"{field} was {before.get(field, 'not recorded')!r} and is now "
                f"{now.get(field, 'not recorded')!r}",
            )


def _check_stamps(part: Path, before: np.ndarray, contents: Contents) -> None:
    now, paths = contents.stamp_array(), contents.table.paths
    n_both = min(len(before), len(now))
    differing = np.flatnonzero(before[:n_both] != now[:n_both])
    if len(differing):
        row = int(differing[0])
        raise _other_job(
            part,
            f"image {row + 1}, now {paths[row]}, is not as it was: its path, class, "
            "size or time of change is another",
        )
    if len(before) != len(now):
        raise _other_job(part, f"{len(before)} images were listed, now {len(now)}")


def _other_job(part: Path, difference: str) -> ProvenanceError:
    return ProvenanceError(
        f"{part} cannot be resumed: {difference}; give what was given then, or "
        "`overwrite` to start anew"
    )


class Journal:
    """The open, locked journal of one writer.

    Raises
    ------
    OutputError
        If another process holds the lock, or the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file: IO[Any] = open_own(path, "a+b", buffering=0)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error.strerror}") from error
        try:
            lock_file(self._file, path, path.name.removesuffix(".part.journal"))
        except BaseException:
            self._file.close()
            raise

    def start(
        self, fingerprint: dict[str, str], overwrite: bool, stamps: np.ndarray
    ) -> None:
        """Forget everything and describe a new job."""
        self._file.truncate(0)
        job: dict[str, Any] = {"fingerprint": fingerprint, "overwrite": overwrite}
        job["stamps"] = base64.b64encode(stamps.astype("<u8").tobytes()).decode()
        self._append(job)

    def resume(self, state: JournalState) -> None:
        """Cut off the torn line that a crash may have left."""
        self._file.truncate(state.n_bytes)

    def commit(self, rows_done: int) -> None:
        """Say that rows [0, rows_done) are on the disk."""
        self._append({"rows_done": rows_done})

    def _append(self, entry: dict[str, Any]) -> None:
        line = encode_line(entry)
        if self._file.write(line) != len(line):
            # A full disk may take half a line; the CRC-32 makes it harmless.
            raise OSError(28, "No space left on device")
        os.fsync(self._file.fileno())

    def close(self, remove: bool = False) -> None:
        """Release the lock; `remove` takes the file away first."""
        if remove:
            with contextlib.suppress(OSError):
                self.path.unlink()
        self._file.close()
