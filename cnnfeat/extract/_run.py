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
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from cnnfeat import extraction, networks
from cnnfeat.errors import CnnfeatWarning
from cnnfeat.extract._job import Done, Job
from cnnfeat.extract._kept import (
    batch_size_of,
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
from cnnfeat.extract._shards import asked_shards, may_go_on, named_together
from cnnfeat.extract._work import (
    as_image_list,
    make_extractor,
    with_range,
)
from cnnfeat.image_table import ImageTable
from cnnfeat.images import (
    Sources,
    fingerprint_images,
    image_files,
    sources_of,
    stamp_images,
)
from cnnfeat.outputs import check_outputs, check_suffix, refuse_inputs
from cnnfeat.seen import SeenImages
from cnnfeat.store import (
    Contents,
    open_features,
)
from cnnfeat.suffixes import FEATURES
from cnnfeat.value_range import AUTO


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
    shards = asked_shards(options.shard, options.shards)
    outputs = [shard.path(output_path) for shard in shards] or [output_path]
    _check_outputs(outputs, images, options)
    started, seconds = time.monotonic(), extraction.StageSeconds()
    with ExitStack() as stack:
        with seconds.measure("start"):
            table = as_image_list(images, options, stdin)
            refuse_inputs(outputs, image_files(table))
            finished, kept = None, None
            if options.retry_failed:
                refuse_unfinished(output_path)
            if options.retry_failed or options.add:
                finished = stack.enter_context(open_features(output_path))
            if options.add:
                assert finished is not None
                kept = kept_in_addition(finished, table)
            earlier = earlier_choices(outputs, options, finished)
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
        job = Job(source, extractor, contents, options, seconds, progress)
        if options.retry_failed:
            assert finished is not None and extractor.batch_size is not None
            kept = kept_in_retry(finished, extractor.batch_size)
        if shards:
            job, done = job.extract_shards(output_path, shards)
            output_path = named_together(shards, output_path)
        else:
            done = job.extract(output_path) if kept is None else job.replace(kept)
        n_rows = len(job.contents.table)
        _warn_of_finetuning(len(done.tuned_on), n_rows, extractor.network)
        elapsed = time.monotonic() - started
        return _report(output_path, job, done, elapsed)


def _report(output_path: str, job: Job, done: Done, elapsed: float) -> ExtractReport:
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


def _check_outputs(
    outputs: Sequence[str], images: Sources | ImageTable, options: ExtractOptions
) -> None:
    """Refuse early what the writer would refuse late; it knows what may be resumed."""
    check_suffix(outputs[0], FEATURES)
    most_failures(options.max_failed, 0)
    listed = () if isinstance(images, ImageTable) else sources_of(images)
    goes_on = may_go_on(options) or options.retry_failed or options.add
    may_exist = options.overwrite or goes_on
    check_outputs(outputs, [options.weights, *listed], overwrite=may_exist)


def _warn_of_finetuning(n_seen: int, n_images: int, network: networks.Network) -> None:
    """Say so when the weights were fine-tuned on some of the images."""
    if n_seen:
        warnings.warn(
            f"{n_seen} of {n_images} images are among those that "
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
