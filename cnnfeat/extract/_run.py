"""Images into a feature file.

It streams: rows leave for the file batch by batch, and no more than a few batches are
in memory, whatever the number of images. Provenance is everything needed to redo the
work; the fingerprint is the part of it that must be the same for one run to go on where
another stopped.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np

from cnnfeat import extraction, networks
from cnnfeat.errors import CnnfeatWarning, InputError
from cnnfeat.extract._options import (
    ExtractOptions,
    ExtractReport,
    Progress,
    most_failures,
)
from cnnfeat.extract._retry import (
    RetrySink,
    check_same_features,
    refuse_unfinished,
    rows_to_retry,
)
from cnnfeat.extract._work import (
    as_image_list,
    make_extractor,
    refuse_failures,
    with_range,
)
from cnnfeat.image_table import ImageTable
from cnnfeat.images import (
    Batch,
    Sources,
    fingerprint_images,
    image_files,
    refuse_too_many_failed,
    sources_of,
    stamp_images,
)
from cnnfeat.interrupts import Interrupted, StopOnSignal
from cnnfeat.outputs import check_outputs, check_suffix, refuse_inputs
from cnnfeat.seen import SeenImages
from cnnfeat.store import (
    Contents,
    FeatureFile,
    FeatureWriter,
    open_features,
    unfinished_run,
)
from cnnfeat.suffixes import FEATURES
from cnnfeat.value_range import AUTO

# A run may only go on from another when these fields of the provenance agree.
_SAME_RUN = (
    *("images_sha256", "model", "weights_sha256", "preprocessing", "crops"),
    *("precision", "device", "decoder", "range", "engine"),
)
# What rows of one file have in common; of its images some may have been mended.
_SAME_FEATURES = (*_SAME_RUN[1:], "batch_size")
# As the fingerprint calls it: a row's last bits depend on its place in the batch.
_BATCH_SIZE = "rows per batch"


def extract_features(
    images: Sources | ImageTable,
    output_path: str,
    options: ExtractOptions | None = None,
    *,
    network: networks.Network | None = None,
    stdin: Iterable[str] | None = None,
    progress: Progress | None = None,
    command: str = "",
) -> ExtractReport:
    """Extract features of `images` into the file `output_path`.

    Parameters
    ----------
    images : str or ImageTable, or a sequence of str
        A folder of class folders, a folder of images, a table of images, a tar, `-` for
        `stdin`, several of these, or images that are listed already: see `list_images`.
    output_path : str
        The feature file; it appears under this name when it is whole.
    options : ExtractOptions
        Network, layers, pooling, device and what to do on errors.
    network : Network, optional
        In place of the one that the options name: `Network.from_module` takes any.
    stdin : iterable of str, optional
        Lines of paths for `images="-"`.
    progress : callable (n_done, n_images, n_failed), optional
        Called after each batch.
    command : str
        The command line, kept in the file.

    Returns
    -------
    ExtractReport

    Raises
    ------
    InputError, NetworkError, WeightsError, LayerError, DeviceError, OutputError
        As their names say; nothing is left at `output_path`. An InputError too if more
        than `options.max_failed` images cannot be read, or none can.
    OptionError
        If `output_path` ends neither in `.h5` nor in `.hdf5`.
    ImageError
        With `on_error="fail"`, at the first image that cannot be read.
    ProvenanceError
        With `resume` and `retry_failed`, if anything that decides the features is not
        as it was.
    StoreError
        With `retry_failed`, if there is no finished feature file.
    Interrupted
        On SIGINT, SIGTERM or SIGHUP; the rows so far are kept for `resume`.
    """
    options = options or ExtractOptions()
    _check_output(output_path, images, options)
    started, seconds = time.monotonic(), extraction.StageSeconds()
    with ExitStack() as stack:
        with seconds.measure("start"):
            table = as_image_list(images, options, stdin)
            refuse_inputs([output_path], image_files(table))
            finished = None
            if options.retry_failed:
                refuse_unfinished(output_path)
                finished = stack.enter_context(open_features(output_path))
            earlier = _earlier_run(output_path, options, finished)
            extractor = make_extractor(
                options,
                network,
                engine=earlier.get("engine"),
                batch_size=_size_of(earlier),
            )
            stack.enter_context(extractor)
            is_open = options.value_range == AUTO
            asked = earlier.get("range", AUTO) if is_open else options.value_range
            table = with_range(table, asked, extractor.network)
            source = extractor.source(
                table, workers=options.workers, decoder=options.decoder
            )
            extractor.plan(source)
            contents = _contents(source, extractor, options, command)
        job = _Job(source, extractor, contents, options, seconds, progress)
        done = job.extract(output_path) if finished is None else job.retry(finished)
        _warn_of_finetuning(len(done.tuned_on), table, extractor.network)
        elapsed = time.monotonic() - started
        return _report(output_path, job, done, elapsed)


def _earlier_run(
    output_path: str, options: ExtractOptions, finished: FeatureFile | None
) -> dict[str, str]:
    """Return what an earlier run chose, if this one goes on: engine, batch, range."""
    if finished is not None:
        told = finished.provenance
        batch_size = told.get("batch_size", "0")
        return {
            "engine": told.get("engine", ""),
            "range": finished.table.value_range,
            _BATCH_SIZE: batch_size,
        }
    return unfinished_run(output_path) if options.resume else {}


@dataclass(frozen=True, eq=False)
class _Done:
    """What is in the file now.

    Why rows failed, which ones the network was tuned on, how many were there before.
    """

    failures: dict[int, str]
    tuned_on: np.ndarray
    n_resumed: int


@dataclass(frozen=True, eq=False)
class _Job:
    """An extraction that is planned, and can begin."""

    source: extraction.ImageSource
    extractor: extraction.Extractor
    contents: Contents
    options: ExtractOptions
    seconds: extraction.StageSeconds
    progress: Progress | None

    def extract(self, output_path: str) -> _Done:
        """Take every row that is not in the file yet through the network."""
        table = self.contents.table
        most_failed = most_failures(self.options.max_failed, len(table))
        with self._open_writer(output_path, self.options.overwrite) as writer:
            n_resumed = writer.rows_done
            try:
                signum = self._run(self.source, writer, writer, most_failed)
                if signum is None:
                    refuse_too_many_failed(table, writer.failures, most_failed)
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

    def retry(self, finished: FeatureFile) -> _Done:
        """Take the failed rows of a finished file through the network once more."""
        check_same_features(finished, self.contents, _SAME_FEATURES)
        assert self.extractor.batch_size is not None  # planned
        rows = rows_to_retry(finished, self.extractor.batch_size)
        if not len(rows):
            every = np.arange(finished.n_images)
            tuned_on = networks.rows_tuned_on(
                finished.table, finished.provenance, every
            )
            return _Done({}, tuned_on, len(every))
        source = replace(self.source, image_list=self.source.image_list.take(rows))
        with self._open_writer(str(finished.path), overwrite=True) as writer:
            sink = RetrySink(writer, finished, rows)
            signum = self._run(source, sink, writer)
            if signum is not None:
                raise Interrupted(
                    f"interrupted: {finished.path} is as it was; the same command "
                    "begins again",
                    signum,
                )
            sink.finish()
            return self._finish(writer, finished.n_images - len(rows))

    def _finish(self, writer: FeatureWriter, n_resumed: int) -> _Done:
        """Finish the file; who has seen an image is known by its content, only now."""
        seen = SeenImages.of_weights(self.extractor.network.weights.metadata)
        tuned_on = seen.among(self.source.image_list.with_digests(writer.digests))
        writer.finish(tuned_on)
        return _Done(writer.failures, tuned_on, n_resumed)

    def _open_writer(self, path: str, overwrite: bool) -> FeatureWriter:
        """Return the writer of the output, at the row where the run begins."""
        provenance = self.contents.provenance
        with self.seconds.measure("start"):
            writer = FeatureWriter(
                path,
                self.contents,
                overwrite=overwrite,
                resume=self.options.resume,
                fingerprint={
                    _BATCH_SIZE: str(self.extractor.batch_size),
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
        most_failed: int | None = None,
    ) -> int | None:
        """Fill the sink; return the signal that came before it was full."""

        def tell(batch: Batch) -> None:
            refuse_failures(batch, source.image_list, self.options)
            if most_failed is not None and len(writer.failures) > most_failed:
                failures = dict(writer.failures)  # another thread adds to them
                refuse_too_many_failed(source.image_list, failures, most_failed)
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
            return stop.signum if sink.rows_done < source.n_images else None


def _size_of(earlier: dict[str, str]) -> int | None:
    """Return the batch size of an earlier part of the run, if it tells one."""
    text = earlier.get(_BATCH_SIZE, "")
    return int(text) or None if text.isdecimal() and len(text) < 9 else None


def _report(output_path: str, job: _Job, done: _Done, elapsed: float) -> ExtractReport:
    table, network = job.source.image_list, job.extractor.network
    n_images, n_failed = len(table), len(done.failures)
    return ExtractReport(
        output=os.fspath(output_path),
        n_images=n_images,
        n_ok=n_images - n_failed,
        n_failed=n_failed,
        n_resumed=done.n_resumed,
        n_classes=len(table.class_names),
        seconds=round(elapsed, 3),
        images_per_second=round((n_images - done.n_resumed) / max(elapsed, 1e-9), 2),
        layers={spec.name: list(spec.shape) for spec in job.extractor.specs},
        model=network.name,
        weights=network.weights.source,
        device=str(network.device),
        engine=job.extractor.engine,
        time=job.seconds.to_dict(),
        failures=[
            (table.paths[row], why) for row, why in sorted(done.failures.items())
        ],
        classes=table.class_counts(),
    )


def _check_output(
    output_path: str, images: Sources | ImageTable, options: ExtractOptions
) -> None:
    """Refuse early what the writer would refuse late; it knows what may be resumed."""
    check_suffix(output_path, FEATURES)
    most_failures(options.max_failed, 0)
    listed = () if isinstance(images, ImageTable) else sources_of(images)
    may_exist = options.overwrite or options.resume or options.retry_failed
    check_outputs([output_path], [options.weights, *listed], overwrite=may_exist)


def _warn_of_finetuning(
    n_seen: int, table: ImageTable, network: networks.Network
) -> None:
    """Say so when the weights were fine-tuned on some of the images."""
    if n_seen:
        warnings.warn(
            f"{n_seen} of {len(table)} images are among those that "
            f"{network.weights.source} was fine-tuned on: a score on them is not a "
            "test accuracy",
            CnnfeatWarning,
            stacklevel=3,
        )


def _contents(
    source: extraction.ImageSource,
    extractor: extraction.Extractor,
    options: ExtractOptions,
    command: str,
) -> Contents:
    """Return everything but the rows."""
    table = source.image_list
    return Contents(
        table=table,
        layers=[replace(spec, dtype=options.dtype) for spec in extractor.specs],
        provenance={
            "images_sha256": fingerprint_images(table),
            **extractor.provenance(),
            "decoder": options.decoder,
            "range": table.value_range,
        },
        command=command,
        stamps=stamp_images(table),
        is_tuned=len(SeenImages.of_weights(extractor.network.weights.metadata)) > 0,
    )
