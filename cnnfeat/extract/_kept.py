"""Rows of a finished feature file that a new one keeps, when it takes its place.

`retry_failed` computes the batches with failed rows once more: a row's last bits depend
on its place in the batch, so these are whole. `add` computes the images that the file
does not hold, known by their contents. All other rows are copied.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cnnfeat.errors import OutputError, ProvenanceError
from cnnfeat.extract._options import ExtractOptions
from cnnfeat.extract._shards import may_go_on
from cnnfeat.image_table import ImageTable, are_others
from cnnfeat.images import DEFAULT_LIMITS, digest_images
from cnnfeat.store import Contents, FeatureFile, FeatureWriter, unfinished_run
from cnnfeat.value_range import AUTO

# As the fingerprint calls it: a row's last bits depend on its place in the batch.
BATCH_SIZE = "rows per batch"
_COPIED_ROWS = 1024  # at a time
_COMPUTED = -1


def earlier_choices(
    outputs: Sequence[str], options: ExtractOptions, finished: FeatureFile | None
) -> dict[str, str]:
    """Return what an earlier run chose, if this one goes on: engine, batch, range."""
    if finished is None:
        found = map(unfinished_run, outputs if may_go_on(options) else ())
        return next(filter(None, found), {})
    told = finished.provenance
    earlier = {
        "engine": told.get("engine", ""),
        "range": finished.table.value_range,
        BATCH_SIZE: told.get("batch_size", "0"),
    }
    if options.add and batch_size_of(earlier) == finished.n_images:
        del earlier[BATCH_SIZE]  # the file had no more for a batch
    return earlier


def batch_size_of(earlier: Mapping[str, str]) -> int | None:
    """Return the batch size of an earlier part of the run, if it tells one."""
    text = earlier.get(BATCH_SIZE, "")
    return int(text) or None if text.isdecimal() and len(text) < 9 else None


def refuse_unfinished(output_path: str) -> None:
    """Raise OutputError where rows of an unfinished run would be lost.

    Raises
    ------
    OutputError
        If there are any.
    """
    if unfinished_run(output_path):
        raise OutputError(
            f"{output_path}: a run that would replace it is unfinished: give `resume` "
            "to go on with that, or `overwrite` to start anew"
        )


@dataclass(frozen=True, eq=False)
class KeptRows:
    """Where each row of a new file comes from.

    Attributes
    ----------
    features : FeatureFile
        The finished file.
    origin : ndarray of shape (n_images,), dtype=int64
        The row of that file; -1 where it is computed.
    expected : tuple of n_images str
        The digest that the image of a row must have; empty where any will do.
    """

    features: FeatureFile
    origin: np.ndarray
    expected: tuple[str, ...]

    @property
    def n_kept(self) -> int:
        """How many rows are copied."""
        return int((self.origin != _COMPUTED).sum())

    def computed(self, start: int = 0) -> np.ndarray:
        """Return the rows (int64, ascending) from `start` on that are computed."""
        rows = np.flatnonzero(self.origin == _COMPUTED)
        return rows[rows >= start]

    def is_all(self, contents: Contents) -> bool:
        """Tell whether the file that is there is what the new one would be."""
        before = _job_of(self.features)
        return self.n_kept == len(self.origin) and before == contents.fingerprint()


def kept_in_retry(features: FeatureFile, batch_size: int) -> KeptRows:
    """Return all rows but those of every batch with a failed one."""
    rows = np.arange(features.n_images)
    is_tried = np.isin(rows // batch_size, rows[~features.ok] // batch_size)
    origin = np.where(is_tried, _COMPUTED, rows)
    return KeptRows(features, origin, features.table.digests(rows))


def kept_in_addition(features: FeatureFile, table: ImageTable) -> KeptRows:
    """Return which images of a listing have their features in a finished file.

    Those of equal contents, wherever they lay then; one of the same path first. Where
    the file does not know the contents (of earlier versions), those of the same path.
    Images are read for it, and not decoded.

    Raises
    ------
    ProvenanceError
        If the file has features of an image that is not listed.
    """
    known = features.table.digests(np.arange(features.n_images))
    is_ok = np.flatnonzero(features.ok).tolist()
    by_path = {features.table.absolute_path(row): row for row in is_ok}
    by_digest = {known[row]: row for row in is_ok if known[row]}
    origin = np.full(len(table), _COMPUTED)
    for row, digest in enumerate(digest_images(table, DEFAULT_LIMITS.file_bytes)):
        there = by_path.get(table.absolute_path(row))
        if there is None or not digest or are_others(digest, known[there]):
            there = by_digest.get(digest)
        if there is not None:
            origin[row] = there
    _refuse_missing(features, table, origin)
    return KeptRows(features, origin, ("",) * len(table))


def _refuse_missing(
    features: FeatureFile, table: ImageTable, origin: np.ndarray
) -> None:
    listed = {table.absolute_path(row) for row in range(len(table))}
    left = np.setdiff1d(np.flatnonzero(features.ok), origin).tolist()
    missing = [row for row in left if features.table.absolute_path(row) not in listed]
    if missing:
        raise ProvenanceError(
            f"{features.path}: {len(missing)} of its {features.n_images} images are "
            f"not among those listed now (first: {features.paths[missing[0]]}), and "
            "`add` removes none: list them too, or give `overwrite` to extract all "
            "anew"
        )


def check_same_features(
    features: FeatureFile,
    contents: Contents,
    fields: Sequence[str],
    *,
    with_images: bool,
) -> None:
    """Refuse to copy rows from a file that the options do not describe.

    Sizes of files may differ: an image that could not be read may have been mended.

    Parameters
    ----------
    features : FeatureFile
        The finished file.
    contents : Contents
        Of the file that would take its place.
    fields : sequence of str
        What must agree of the provenance.
    with_images : bool
        Whether the images must be the same ones, and not only the layers.

    Raises
    ------
    ProvenanceError
        Names the first field that differs.
    """
    before, after = _job_of(features), contents.fingerprint()
    told = {**features.provenance, "range": features.table.value_range}
    if told["range"] == AUTO:  # no image had more than 8 bits: no row depends on it
        fields = [field for field in fields if field != "range"]
    asked = list(before) if with_images else ["layers"]
    differing = [
        *((key, told.get(key, ""), contents.provenance[key]) for key in fields),
        *((key, before[key], after.get(key, "")) for key in asked),
    ]
    for field, then, now in differing:
        if then != now:
            made = f" ({features.command})" if features.command else ""
            raise ProvenanceError(
                f"{features.path}: its rows cannot be kept: {field} was {then!r} and "
                f"is now {now!r}; give what was given then{made}, or `overwrite` to "
                "extract all anew"
            )


def _job_of(features: FeatureFile) -> dict[str, str]:
    """Return `Contents.fingerprint` of a finished file."""
    layers = list(features.layers.values())
    return Contents(features.stored_table, layers, {}, "").fingerprint()


class KeepingSink:
    """A Sink that puts rows which are computed between those kept of an earlier file.

    Parameters
    ----------
    writer : FeatureWriter
        Of the new file; it may have rows already.
    kept : KeptRows
    is_committed : bool
        Whether rows are made safe on the way. If not, what is interrupted leaves the
        old file alone.
    """

    def __init__(
        self, writer: FeatureWriter, kept: KeptRows, *, is_committed: bool
    ) -> None:
        self._writer = writer
        self._kept = kept
        self._is_committed = is_committed
        # Row k of the run is `rows[k]` of the file.
        self.rows = kept.computed(writer.rows_done)
        self.rows_done = 0

    def write(
        self,
        start: int,
        features: Mapping[str, np.ndarray],
        ok: np.ndarray,
        errors: Sequence[str],
        digests: Sequence[str],
    ) -> None:
        """Take rows [start, start + m) of the run.

        Raises
        ------
        ProvenanceError
            If an image is another than when the old file was made.
        """
        rows, kept = self.rows[start : start + len(ok)], self._kept
        for row, digest in zip(rows.tolist(), digests, strict=True):
            if are_others(digest, kept.expected[row]):
                name = self._writer.contents.table.paths[row]
                raise ProvenanceError(
                    f"{kept.features.path}: {name} is another image than it was; give "
                    "`overwrite` to extract all anew"
                )
        for part in _runs(rows):
            first = int(rows[part.start])
            self._keep_until(first)
            layers = {name: X[part] for name, X in features.items()}
            self._writer.write(first, layers, ok[part], errors[part], digests[part])
        self.rows_done = start + len(ok)

    def commit(self) -> None:
        """Make the rows so far safe, where that is asked for."""
        if self._is_committed:
            self._writer.commit()

    def finish(self) -> None:
        """Copy what comes behind the last row of the run."""
        self._keep_until(len(self._kept.origin))

    def _keep_until(self, stop: int) -> None:
        """Copy rows of the old file from where the new one ends."""
        old = self._kept.features
        for start in range(self._writer.rows_done, stop, _COPIED_ROWS):
            rows = self._kept.origin[start : min(start + _COPIED_ROWS, stop)]
            self._writer.write(start, *old.stored_rows(rows))


def _runs(rows: np.ndarray) -> Iterator[slice]:
    """Yield where ascending rows follow each other without a gap."""
    ends = [0, *(np.flatnonzero(np.diff(rows) > 1) + 1).tolist(), len(rows)]
    for start, stop in itertools.pairwise(ends):
        if stop > start:
            yield slice(start, stop)
