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
from cnnfeat.errors import CnnfeatWarning, InputError, ProvenanceError
from cnnfeat.extract._kept import (
    BATCH_SIZE,
    KeepingSink,
    KeptRows,
    batch_size_of,
    check_same_features,
    earlier_choices,
    kept_in_addition,
    kept_in_retry,
    refuse_unfinished,
)
from cnnfeat.extract._options import (
    ExtractOptions,
    ExtractReport,
    Progress,
    most_failures,
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
_SAME_FEATURES = _SAME_RUN[1:]


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
        With `resume`, `retry_failed` and `add`, if anything that decides the features
        is not as it was; with `add`, if images of the file are not listed any more.
    StoreError
        With `retry_failed` and `add`, if there is no finished feature file.
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
            finished, kept = None, None
            if options.retry_failed:
                refuse_unfinished(output_path)
            if options.retry_failed or options.add:
                finished = stack.enter_context(open_features(output_path))
            if options.add:
                assert finished is not None
                kept = kept_in_addition(finished, table)
            earlier = earlier_choices(output_path, options, finished)
            extractor = make_extractor(
                options,
                network,
                engine=earlier.get("engine"),
                batch_size=batch_size_of(earlier),
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
        if options.retry_failed:
            assert finished is not None and extractor.batch_size is not None
            kept = kept_in_retry(finished, extractor.batch_size)
        done = job.extract(output_path) if kept is None else job.replace(kept)
        _warn_of_finetuning(len(done.tuned_on), table, extractor.network)
        elapsed = time.monotonic() - started
        return _report(output_path, job, done, elapsed)


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
        how = {"overwrite": self.options.overwrite, "resume": self.options.resume}
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

    def replace(self, kept: KeptRows) -> _Done:
        """Take the rows that are not kept of a finished file through the network."""
        is_added, finished = self.options.add, kept.features
        fields = _SAME_FEATURES if is_added else (*_SAME_FEATURES, "batch_size")
        check_same_features(finished, self.contents, fields, with_images=not is_added)
        if kept.is_all(self.contents):
            every = np.arange(finished.n_images)
            tuned_on = networks.rows_tuned_on(
                finished.table, finished.provenance, every
            )
            return _Done({}, tuned_on, len(every))
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

    def _finish(self, writer: FeatureWriter, n_resumed: int) -> _Done:
        """Finish the file; who has seen an image is known by its content, only now."""
        seen = SeenImages.of_weights(self.extractor.network.weights.metadata)
        tuned_on = seen.among(self.source.image_list.with_digests(writer.digests))
        writer.finish(tuned_on)
        return _Done(writer.failures, tuned_on, n_resumed)

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
    goes_on = options.resume or options.retry_failed or options.add
    may_exist = options.overwrite or goes_on
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
