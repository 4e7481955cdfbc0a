"""The verb that makes one feature file of the shards of a job."""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cnnfeat.errors import InputError
from cnnfeat.outputs import check_outputs, check_suffix, claimed_outputs
from cnnfeat.store import Shards, copy_shards, refer_to_shards, shard_files
from cnnfeat.suffixes import FEATURES


@dataclass(frozen=True)
class MergeOptions:
    """How shards are merged; `virtual` refers to their rows rather than copying."""

    virtual: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class MergeReport:
    """What is in the merged file."""

    output: str
    n_shards: int
    n_images: int
    n_failed: int
    n_classes: int
    layers: dict[str, list[int]]
    virtual: bool
    n_bytes: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return asdict(self)


def merge_shards(
    shards: Sequence[str],
    output_path: str,
    options: MergeOptions | None = None,
    *,
    progress: Callable[[int, int, int], None] | None = None,
) -> MergeReport:
    """Write one feature file with the rows of all shards of a job.

    Parameters
    ----------
    shards : sequence of str
        Files, patterns of them such as `f-*-of-00064.h5`, or folders that hold them.
    output_path : str
        The feature file to write.
    options : MergeOptions, optional
    progress : callable (n_done, n_images, n_failed), optional
        Called after each block that is copied.

    Returns
    -------
    MergeReport

    Raises
    ------
    InputError
        If a pattern or a folder has no shard.
    StoreError
        If a shard is missing, there twice, damaged or unfinished, or shards overlap.
    ProvenanceError
        If two are of different jobs, or the list of images changed between them.
    OutputError
        If `output_path` exists already or cannot be written; with `virtual` also if a
        shard lies neither beside it nor below.
    OptionError
        If it does not end as feature files do.
    """
    options = options or MergeOptions()
    started = time.monotonic()
    check_suffix(output_path, FEATURES)
    paths = _files(shards)
    check_outputs([output_path], paths, overwrite=options.overwrite)
    with Shards(paths) as found:
        n_failed = int((~found.table.ok).sum())
        if options.virtual:
            with claimed_outputs([output_path], paths, overwrite=options.overwrite):
                refer_to_shards(output_path, found, overwrite=options.overwrite)
        else:

            def copied(n_done: int, n_images: int) -> None:
                if progress is not None:
                    progress(n_done, n_images, n_failed)

            copy_shards(output_path, found, overwrite=options.overwrite, copied=copied)
        return MergeReport(
            output=output_path,
            n_shards=len(found.files),
            n_images=len(found.table),
            n_failed=n_failed,
            n_classes=len(found.table.class_names),
            layers={spec.name: list(spec.shape) for spec in found.contents.layers},
            virtual=options.virtual,
            n_bytes=os.path.getsize(output_path),
            seconds=round(time.monotonic() - started, 3),
        )


def _files(shards: Sequence[str]) -> list[str]:
    """Return the files that some names, patterns and folders stand for."""
    paths: list[str] = []
    for shard in shards:
        found = [shard]
        if os.path.isdir(shard):
            found = [str(path) for path in shard_files(shard)]
        elif not os.path.lexists(shard) and glob.has_magic(shard):
            found = sorted(glob.glob(shard))
        if not found:
            raise InputError(
                f"{shard}: there is no shard: `cnnfeat extract --shard` makes them"
            )
        paths += found
    return list(dict.fromkeys(paths))
