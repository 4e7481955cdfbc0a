"""Shards of one job as one feature file: copied in blocks, or by reference."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from cnnfeat.errors import OutputError, ProvenanceError, StoreError
from cnnfeat.image_table import TUNED_ON, ImageTable
from cnnfeat.outputs import atomic_output
from cnnfeat.store._features import FeatureFile
from cnnfeat.store._parts import Part, write_parts
from cnnfeat.store._skeleton import Contents, write_without_rows
from cnnfeat.store._writer import FeatureWriter
from cnnfeat.suffixes import FEATURES, suffix_of

# What only a shard says: which one it is, its first row, the images of the whole.
SHARD_FIELDS = ("shard", "shard_start", "shard_of_images")
# What shards of one job may differ in: where a node has its weights, what it is called.
_OF_A_MACHINE = ("device_name", "weights")
_NUMBER = re.compile(r"([1-9]\d{0,4})/([1-9]\d{0,4})")
_SHARDS = "*-[0-9]*-of-[0-9]*.h*5"  # as `cnnfeat extract --shard` names them
_LIBVER = ("v110", "v110")  # the first that has virtual datasets
_NAMED = 5
_COPIED_BYTES = 32 * 1024 * 1024

Copied = Callable[[int, int], None]


def open_features(path: str | Path) -> FeatureFile:
    """Open a finished feature file, or a folder of all shards of a job, for reading.

    Raises
    ------
    StoreError
        If it is missing, a folder without shards, empty, not HDF5, cut short, not a
        feature file, of a newer format, unfinished, or damaged; as `Shards`.
    ProvenanceError
        As `Shards`.
    """
    path = Path(path)
    paths = shard_files(path)
    if not paths:
        return FeatureFile(path)
    # What `cnnfeat merge --virtual` would write into the folder, in memory.
    name = path / "joined"
    file = h5py.File(name, "w", driver="core", backing_store=False, libver=_LIBVER)
    with Shards(paths) as shards:
        _write_virtual(file, name, shards)
    return FeatureFile(path, file)


def shard_files(folder: str | Path) -> list[Path]:
    """Return the shards in a folder; none of what is no folder."""
    return sorted(Path(folder).glob(_SHARDS)) if os.path.isdir(folder) else []


def is_features_path(path: str | Path) -> bool:
    """Return whether a name is one of features: a file's by suffix, or of shards."""
    return suffix_of(path) in FEATURES or bool(shard_files(path))


class Shards:
    """All shards of one job, open, in their order; a context manager.

    Parameters
    ----------
    paths : sequence of path
        In any order.

    Raises
    ------
    StoreError
        If one cannot be read, is no shard, is missing or there twice, or overlaps.
    ProvenanceError
        If two are of different jobs; the field that differs is named.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        with ExitStack() as stack:
            files = [stack.enter_context(FeatureFile(Path(path))) for path in paths]
            self.files = _in_order(files)
            _check_one_job(self.files)
            self._stack = stack.pop_all()
        self.table = _joined([file.stored_table for file in self.files])
        first = self.files[0]
        self.errors = [error for file in self.files for error in file.errors]
        self.contents = Contents(
            table=self.table,
            layers=list(first.layers.values()),
            provenance={
                key: value
                for key, value in first.provenance.items()
                if key not in SHARD_FIELDS
            },
            command=first.command,
            is_tuned=TUNED_ON in self.table.columns,
        )

    @property
    def tuned_on(self) -> np.ndarray:
        """Rows of images that the network was fine-tuned on."""
        return np.flatnonzero(self.table.columns.get(TUNED_ON, np.zeros(0, bool)))

    def __enter__(self) -> Shards:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()


def _in_order(files: Sequence[FeatureFile]) -> list[FeatureFile]:
    """Return the files by their numbers; all of them must be there, once."""
    by_number: dict[int, FeatureFile] = {}
    counts: dict[int, FeatureFile] = {}
    for file in files:
        told = _NUMBER.fullmatch(file.provenance.get("shard", ""))
        if told is None:
            raise StoreError(
                f"{file.path} is no shard: `cnnfeat extract --shard` makes them"
            )
        number, n = int(told[1]), int(told[2])
        counts[n] = file
        if len(counts) > 1:
            raise StoreError(
                f"{file.path} is one of {n} shards, and others are of "
                f"{next(iter(counts))}: give those of one job"
            )
        if number in by_number:
            raise StoreError(
                f"shard {number}/{n} is there twice: {by_number[number].path}, "
                f"{file.path}"
            )
        by_number[number] = file
    n = next(iter(counts))
    missing = [str(number) for number in range(1, n + 1) if number not in by_number]
    if missing:
        more = ", …" if len(missing) > _NAMED else ""
        raise StoreError(
            f"{len(missing)} of {n} shards are missing: {', '.join(missing[:_NAMED])}"
            f"{more}"
        )
    return [by_number[number] for number in range(1, n + 1)]


def _check_one_job(files: Sequence[FeatureFile]) -> None:
    first, ignored = files[0], {*SHARD_FIELDS[:2], *_OF_A_MACHINE}
    end = 0
    for file in files:
        fields = first.provenance.keys() | file.provenance.keys()
        for field in sorted(fields - ignored, key=lambda one: one != "images_sha256"):
            then, now = first.provenance.get(field), file.provenance.get(field)
            if then != now:
                why = "the listing changed between them"
                if field != "images_sha256":
                    why = "they are of two jobs"
                raise ProvenanceError(
                    f"{file.path}: {field} is {now!r}, and {then!r} in {first.path}: "
                    f"{why}"
                )
        if file.layers != first.layers or file.class_names != first.class_names:
            raise ProvenanceError(
                f"{file.path}: its layers or classes are not those of {first.path}: "
                "they are of two jobs"
            )
        start = file.provenance.get("shard_start", "")
        if start != str(end):
            raise StoreError(
                f"{file.path} begins at row {start or 'unknown'}, and the shards "
                f"before it end at row {end}"
            )
        end += file.n_images
    if first.provenance.get("shard_of_images") != str(end):
        raise StoreError(
            f"{first.path}: its job has {first.provenance.get('shard_of_images')} "
            f"images, and its shards {end}"
        )


def _joined(tables: Sequence[ImageTable]) -> ImageTable:
    """Return one table of all rows."""
    first = tables[0]
    return replace(
        first,
        paths=tuple(path for table in tables for path in table.paths),
        labels=np.concatenate([table.labels for table in tables]),
        ok=np.concatenate([table.ok for table in tables]),
        columns={
            name: np.concatenate([table.columns[name] for table in tables])
            for name in first.columns
        },
    )


def copy_shards(
    path: str | Path,
    shards: Shards,
    *,
    overwrite: bool = False,
    copied: Copied | None = None,
) -> None:
    """Write one feature file with the rows of all shards.

    Parameters
    ----------
    path : path
    shards : Shards
    overwrite : bool, default=False
    copied : callable (n_done, n_images), optional
        Called after each block.

    Raises
    ------
    OutputError
        As `FeatureWriter`.
    """
    contents = shards.contents
    row_bytes = sum(spec.row_bytes for spec in contents.layers)
    n_rows = max(1, _COPIED_BYTES // row_bytes)
    with FeatureWriter(path, contents, fingerprint={}, overwrite=overwrite) as writer:
        for file in shards.files:
            for start in range(0, file.n_images, n_rows):
                rows = np.arange(start, min(start + n_rows, file.n_images))
                writer.write(writer.rows_done, *file.stored_rows(rows))
                if copied is not None:
                    copied(writer.rows_done, contents.n_images)
        writer.finish(shards.tuned_on)


def refer_to_shards(
    path: str | Path, shards: Shards, *, overwrite: bool = False
) -> None:
    """Write a feature file whose layers are virtual datasets of the shards' rows.

    Raises
    ------
    OutputError
        If a shard lies neither beside the file nor below, or it cannot be written.
    """
    with (
        atomic_output(Path(path), overwrite=overwrite) as temporary,
        h5py.File(temporary, "w", libver=_LIBVER) as file,
    ):
        _write_virtual(file, path, shards)


def _write_virtual(file: h5py.File, path: str | Path, shards: Shards) -> None:
    folder = os.path.dirname(os.path.abspath(path))
    parts = []
    for shard in shards.files:
        name = os.path.relpath(os.path.abspath(shard.path), folder)
        if name.startswith(os.pardir):
            raise OutputError(
                f"{path}: a virtual file must stand beside its shards or above them, "
                f"and {shard.path} is elsewhere"
            )
        parts.append(Part(name, shard.n_images))
    write_without_rows(file, shards.contents, shards.errors, shards.tuned_on)
    write_parts(file, parts, shards.contents.layers)
