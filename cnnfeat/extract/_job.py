"""An extraction that is planned: into one file, into shards, or beside rows kept.

The fingerprint is the part of the provenance that must be the same for one run to go on
where another stopped.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cnnfeat import extraction, networks
from cnnfeat.errors import InputError, ProvenanceError
from cnnfeat.extract._kept import (
    BATCH_SIZE,
    KeepingSink,
    KeptRows,
    check_same_features,
)
from cnnfeat.extract._options import ExtractOptions, Progress, most_failures
from cnnfeat.extract._shards import Shard, may_go_on
from cnnfeat.extract._work import refuse_failures
from cnnfeat.images import Batch, refuse_too_many_failed
from cnnfeat.interrupts import Interrupted, StopOnSignal
from cnnfeat.seen import SeenImages
from cnnfeat.store import (
    SHARD_FIELDS,
    Contents,
    FeatureWriter,
    open_features,
    unfinished_run,
)

# A run may only go on from another when these fields of the provenance agree.
_SAME_RUN = (
    *("images_sha256", "model", "weights_sha256", "preprocessing", "crops"),
    *("precision", "device", "decoder", "range", "engine"),
)
# What rows of one file have in common; of its images some may have been mended.
_SAME_FEATURES = _SAME_RUN[1:]


@dataclass(frozen=True, eq=False)
class Done:
    """What is in the file now.

    Why rows failed, which ones the network was tuned on, how many were there before.
    """

    failures: dict[int, str]
    tuned_on: np.ndarray
    n_resumed: int


@dataclass(frozen=True, eq=False)
class Job:
    """An extraction that is planned, and can begin."""

    source: extraction.ImageSource
    extractor: extraction.Extractor
    contents: Contents
    options: ExtractOptions
    seconds: extraction.StageSeconds
    progress: Progress | None

    def extract(self, output_path: str) -> Done:
        """Take every row that is not in the file yet through the network."""
        how = {
            "overwrite": self.options.overwrite,
            "resume": may_go_on(self.options),
        }
        with self._open_writer(output_path, **how) as writer:
            n_resumed = writer.rows_done
            try:
                signum = self._run(self.source, writer, writer)
            except InputError:
                if len(writer.failures) == writer.rows_done:
                    writer.discard()
                raise
            if signum is not None:
                writer.commit()
                raise Interrupted(
                    f"interrupted: {writer.rows_done} of {self.source.n_images} rows "
                    "are kept; the same command with `resume` goes on from there",
                    signum,
                )
            return self._finish(writer, n_resumed)

    def extract_shards(
        self, output_path: str, shards: Sequence[Shard]
    ) -> tuple[Job, Done]:
        """Make the files of some shards; return what was done as if it were one job."""
        assert self.extractor.batch_size is not None  # planned
        n_images, batch_size = self.source.n_images, self.extractor.batch_size
        rows = [np.asarray(shard.rows(n_images, batch_size)) for shard in shards]
        whole = self._of_rows(np.concatenate(rows), self.contents)
        failures: dict[int, str] = {}
        tuned_on, n_before, n_resumed = [], 0, 0
        for shard, own in zip(shards, rows, strict=True):
            contents = _shard_contents(self.contents, shard, own)
            job = self._of_rows(own, contents)
            if self.progress:
                told = _after(self.progress, n_before, len(failures), whole)
                job = replace(job, progress=told)
            done = job.extract_shard(shard.path(output_path))
            failures |= {n_before + row: why for row, why in done.failures.items()}
            tuned_on.append(n_before + done.tuned_on)
            n_before, n_resumed = n_before + len(own), n_resumed + done.n_resumed
        return whole, Done(failures, np.concatenate(tuned_on), n_resumed)

    def _of_rows(self, rows: np.ndarray, contents: Contents) -> Job:
        """Return the job of some of the images."""
        table = self.source.image_list.take(rows)
        if contents is self.contents:
            contents = replace(contents, table=table, stamps=None)
        return replace(
            self, source=replace(self.source, image_list=table), contents=contents
        )

    def extract_shard(self, path: str) -> Done:
        """Make the file of a shard, unless it is there already."""
        if self.options.overwrite or not os.path.lexists(path):
            return self.extract(path)
        fields = (*_SAME_RUN, "batch_size", *SHARD_FIELDS)
        with open_features(path) as features:
            check_same_features(features, self.contents, fields, with_images=True)
            failed = np.flatnonzero(~features.ok).tolist()
            failures = {row: features.errors[row] for row in failed}
            every = np.arange(features.n_images)
            told = features.provenance
            tuned_on = networks.rows_tuned_on(features.table, told, every)
            return Done(failures, tuned_on, features.n_images)

    def replace(self, kept: KeptRows) -> Done:
        """Take the rows that are not kept of a finished file through the network."""
        is_added, finished = self.options.add, kept.features
        fields = _SAME_FEATURES if is_added else (*_SAME_FEATURES, "batch_size")
        check_same_features(finished, self.contents, fields, with_images=not is_added)
        if kept.is_all(self.contents):
            every = np.arange(finished.n_images)
            tuned_on = networks.rows_tuned_on(
                finished.table, finished.provenance, every
            )
            return Done({}, tuned_on, len(every))
        path = str(finished.path)
        # What an interrupted addition has computed stays, for the next one.
        goes_on = is_added and bool(unfinished_run(path))
        try:
            writer = self._open_writer(path, overwrite=not goes_on, resume=goes_on)
        except ProvenanceError as error:
            raise ProvenanceError(
                f"{error}; or remove {path}.part, and `add` begins again"
            ) from error
        with writer:
            sink = KeepingSink(writer, kept, is_committed=is_added)
            left = self.contents.table.take(sink.rows)
            source = replace(self.source, image_list=left)
            signum = self._run(source, sink, writer)
            if signum is not None:
                sink.commit()
                way_on = "goes on" if is_added else "begins again"
                raise Interrupted(
                    f"interrupted: {path} is as it was; the same command {way_on}",
                    signum,
                )
            sink.finish()
            return self._finish(writer, len(self.contents.table) - len(left))

    def _finish(self, writer: FeatureWriter, n_resumed: int) -> Done:
        """Finish the file; who has seen an image is known by its content, only now."""
        seen = SeenImages.of_weights(self.extractor.network.weights.metadata)
        tuned_on = seen.among(self.source.image_list.with_digests(writer.digests))
        writer.finish(tuned_on)
        return Done(writer.failures, tuned_on, n_resumed)

    def _open_writer(
        self, path: str, *, overwrite: bool, resume: bool
    ) -> FeatureWriter:
        """Return the writer of the output, at the row where the run begins."""
        provenance = self.contents.provenance
        with self.seconds.measure("start"):
            writer = FeatureWriter(
                path,
                self.contents,
                overwrite=overwrite,
                resume=resume,
                fingerprint={
                    BATCH_SIZE: str(self.extractor.batch_size),
                    **{key: provenance[key] for key in _SAME_RUN},
                },
            )
            extraction.return_memory()
        return writer

    def _run(
        self,
        source: extraction.ImageSource,
        sink: extraction.Sink,
        writer: FeatureWriter,
    ) -> int | None:
        """Fill the sink; return the signal that came before it was full."""
        table = self.contents.table
        most_failed = len(table)  # what fails once more is no news
        if not self.options.retry_failed:
            most_failed = most_failures(self.options.max_failed, len(table))

        def tell(batch: Batch) -> None:
            refuse_failures(batch, source.image_list, self.options)
            if len(writer.failures) > most_failed:
                failures = dict(writer.failures)  # another thread adds to them
                refuse_too_many_failed(table, failures, most_failed)
            if self.progress:
                self.progress(batch.stop, source.n_images, len(writer.failures))

        with StopOnSignal() as stop:
            extraction.run(
                source,
                self.extractor,
                sink,
                seconds=self.seconds,
                done=tell,
                is_stopped=stop.is_set,
            )
            if sink.rows_done < source.n_images:
                return stop.signum
        refuse_too_many_failed(table, writer.failures, most_failed)
        return None


def _after(
    progress: Progress, n_before: int, n_failed_before: int, whole: Job
) -> Progress:
    """Return what tells the progress of a shard as that of all shards."""
    n_images = whole.source.n_images

    def tell(n_done: int, _: int, n_failed: int) -> None:
        progress(n_before + n_done, n_images, n_failed_before + n_failed)

    return tell


def _shard_contents(whole: Contents, shard: Shard, rows: np.ndarray) -> Contents:
    """Return what a shard's file holds: its rows, and where they stand in the whole."""
    table = whole.table.take(rows)
    told = (str(shard), str(int(rows[0])), str(len(whole.table)))
    provenance = {
        **whole.provenance,
        **dict(zip(SHARD_FIELDS, told, strict=True)),
    }
    return replace(
        whole, table=table, provenance=provenance, stamps=whole.stamp_array()[rows]
    )
