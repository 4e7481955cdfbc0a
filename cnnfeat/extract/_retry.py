"""Failed rows of a finished feature file, tried again.

A new file takes the old one's place. A row's last bits depend on its place in the
batch, so whole batches are computed again; all other rows are copied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cnnfeat.errors import OutputError, ProvenanceError
from cnnfeat.image_table import are_others
from cnnfeat.store import Contents, FeatureFile, FeatureWriter, unfinished_run
from cnnfeat.value_range import AUTO

_COPIED_ROWS = 1024  # at a time


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


def rows_to_retry(features: FeatureFile, batch_size: int) -> np.ndarray:
    """Return the rows (int64, ascending) of every batch with a failed row."""
    batches = np.unique(np.flatnonzero(~features.ok) // batch_size)
    rows = batches[:, None] * batch_size + np.arange(batch_size)
    return rows[rows < features.n_images].astype(np.int64)


def check_same_features(
    features: FeatureFile, contents: Contents, fields: Sequence[str]
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

    Raises
    ------
    ProvenanceError
        Names the first field that differs.
    """
    before = Contents(features.table, list(features.layers.values()), {}, "")
    told = {**features.provenance, "range": features.table.value_range}
    if told["range"] == AUTO:  # no image had more than 8 bits: no row depends on it
        fields = [field for field in fields if field != "range"]
    differing = [
        *_differing(before.fingerprint(), contents.fingerprint()),
        *_differing(
            {field: told.get(field, "") for field in fields},
            {field: contents.provenance[field] for field in fields},
        ),
    ]
    if differing:
        field, then, now = differing[0]
        raise ProvenanceError(
            f"{features.path}: its failed rows cannot be tried again: {field} was "
            f"{then!r} and is now {now!r}; give what was given then, or `overwrite` to "
            "extract all anew"
        )


def _differing(
    before: Mapping[str, str], now: Mapping[str, str]
) -> list[tuple[str, str, str]]:
    return [(key, before[key], now[key]) for key in before if before[key] != now[key]]


class RetrySink:
    """A Sink that puts rows computed again between those kept of an earlier file.

    Nothing is committed on the way: what is interrupted leaves the old file as it was.

    Parameters
    ----------
    writer : FeatureWriter
        Of the new file.
    features : FeatureFile
        The old one.
    rows : ndarray of shape (m,), dtype=int64
        As `rows_to_retry` says; row k of the run is `rows[k]` of the file.
    """

    def __init__(
        self, writer: FeatureWriter, features: FeatureFile, rows: np.ndarray
    ) -> None:
        self._writer = writer
        self._features = features
        self._rows = rows
        self._digests = features.table.digests(np.arange(features.n_images))
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
        rows = self._rows[start : start + len(ok)]
        for row, digest in zip(rows.tolist(), digests, strict=True):
            if are_others(digest, self._digests[row]):
                raise ProvenanceError(
                    f"{self._features.path}: {self._features.paths[row]} is another "
                    "image than it was; give `overwrite` to extract all anew"
                )
        self._keep_until(int(rows[0]))
        self._writer.write(int(rows[0]), features, ok, errors, digests)
        self.rows_done = start + len(ok)

    def commit(self) -> None:
        """Do nothing: see above."""

    def finish(self) -> None:
        """Copy what comes behind the last row of the run."""
        self._keep_until(self._features.n_images)

    def _keep_until(self, stop: int) -> None:
        """Copy the rows of the old file from where the new one ends."""
        old = self._features
        for start in range(self._writer.rows_done, stop, _COPIED_ROWS):
            rows = np.arange(start, min(start + _COPIED_ROWS, stop))
            layers = {
                name: old.read(name, rows).reshape(len(rows), *spec.shape)
                for name, spec in old.layers.items()
            }
            errors = [old.errors[row] for row in rows]
            digests = old.table.digests(rows)
            self._writer.write(start, layers, old.ok[rows], errors, digests)
