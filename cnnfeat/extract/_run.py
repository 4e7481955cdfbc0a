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
from collections.abc import Callable, Iterable
from dataclasses import replace

from cnnfeat import extraction, networks
from cnnfeat.errors import CnnfeatWarning
from cnnfeat.extract._options import ExtractOptions, ExtractReport, Progress
from cnnfeat.extract._work import (
    as_image_list,
    make_extractor,
    refuse_failures,
    with_range,
)
from cnnfeat.image_table import ImageTable
from cnnfeat.images import Batch, fingerprint_images, image_files
from cnnfeat.interrupts import Interrupted, StopOnSignal
from cnnfeat.outputs import check_outputs, refuse_inputs
from cnnfeat.seen import SeenImages
from cnnfeat.store import Contents, FeatureWriter, unfinished_run

# A run may only go on from another when these fields of the provenance agree.
_SAME_RUN = (
    *("images_sha256", "model", "weights_sha256", "preprocessing", "crops"),
    *("precision", "device", "decoder", "range", "engine"),
)
# As the fingerprint calls it: a row's last bits depend on its place in the batch.
_BATCH_SIZE = "rows per batch"


def extract_features(
    images: str | ImageTable,
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
    images : str or ImageTable
        A folder of class folders, a folder of images, a CSV or TSV manifest, a tar,
        `-` for paths read from `stdin`, or images that are listed already.
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
        As their names say; nothing is left at `output_path`.
    ImageError
        With `on_error="fail"`, at the first image that cannot be read.
    ProvenanceError
        With `resume`, if anything that decides the features is not as it was.
    Interrupted
        On SIGINT, SIGTERM or SIGHUP; the rows so far are kept for `resume`.
    """
    options = options or ExtractOptions()
    _check_output(output_path, images, options)
    started, seconds = time.monotonic(), extraction.StageSeconds()
    with seconds.measure("start"):
        image_list = as_image_list(images, options.pages, stdin)
        refuse_inputs([output_path], image_files(image_list))
        earlier = unfinished_run(output_path) if options.resume else {}
        extractor = make_extractor(
            options,
            network,
            engine=earlier.get("engine"),
            batch_size=int(earlier.get(_BATCH_SIZE, 0)) or None,
        )
    with extractor:
        _warn_of_finetuning(image_list, extractor.network)
        with seconds.measure("start"):
            image_list = with_range(image_list, options.value_range, extractor.network)
            source = extractor.source(
                image_list, workers=options.workers, decoder=options.decoder
            )
            extractor.plan(source)
            writer = _open_writer(output_path, source, extractor, options, command)
            extraction.return_memory()

        def tell(batch: Batch) -> None:
            refuse_failures(batch, image_list, options)
            if progress:
                progress(batch.stop, len(image_list), len(writer.failures))

        with writer:
            n_resumed = writer.rows_done
            _run(source, extractor, writer, seconds, tell)
            writer.finish()
        elapsed = time.monotonic() - started
        return _report(extractor, writer, n_resumed, elapsed, seconds)


def _report(
    extractor: extraction.Extractor,
    writer: FeatureWriter,
    n_resumed: int,
    elapsed: float,
    seconds: extraction.StageSeconds,
) -> ExtractReport:
    table, network = writer.contents.table, extractor.network
    n_images, n_failed = len(table), len(writer.failures)
    return ExtractReport(
        output=os.fspath(writer.path),
        n_images=n_images,
        n_ok=n_images - n_failed,
        n_failed=n_failed,
        n_resumed=n_resumed,
        n_classes=len(table.class_names),
        seconds=round(elapsed, 3),
        images_per_second=round((n_images - n_resumed) / max(elapsed, 1e-9), 2),
        layers={spec.name: list(spec.shape) for spec in extractor.specs},
        model=network.name,
        weights=network.weights.source,
        device=str(network.device),
        engine=extractor.engine,
        time=seconds.to_dict(),
        failures=[
            (table.paths[row], why) for row, why in sorted(writer.failures.items())
        ],
    )


def _check_output(
    output_path: str, images: str | ImageTable, options: ExtractOptions
) -> None:
    """Refuse early what the writer would refuse late; it knows what may be resumed."""
    listed = [] if isinstance(images, ImageTable) else [images]
    may_exist = options.overwrite or options.resume
    check_outputs([output_path], [options.weights, *listed], overwrite=may_exist)


def _warn_of_finetuning(table: ImageTable, network: networks.Network) -> None:
    """Say so when the weights were fine-tuned on some of the images."""
    n_seen = len(SeenImages.of_weights(network.weights.metadata).among(table))
    if n_seen:
        warnings.warn(
            f"{n_seen} of {len(table)} images are among those that "
            f"{network.weights.source} was fine-tuned on: a score on them is not a "
            "test accuracy",
            CnnfeatWarning,
            stacklevel=3,
        )


def _open_writer(
    path: str,
    source: extraction.ImageSource,
    extractor: extraction.Extractor,
    options: ExtractOptions,
    command: str,
) -> FeatureWriter:
    """Return the writer of the output, at the row where the run begins."""
    image_list = source.image_list
    provenance = {
        "images_sha256": fingerprint_images(image_list),
        **extractor.provenance(),
        "decoder": options.decoder,
        "range": image_list.value_range,
    }
    contents = Contents(
        table=image_list,
        layers=[replace(spec, dtype=options.dtype) for spec in extractor.specs],
        provenance=provenance,
        command=command,
    )
    return FeatureWriter(
        path,
        contents,
        overwrite=options.overwrite,
        resume=options.resume,
        fingerprint={
            _BATCH_SIZE: str(extractor.batch_size),
            **{key: provenance[key] for key in _SAME_RUN},
        },
    )


def _run(
    source: extraction.ImageSource,
    extractor: extraction.Extractor,
    writer: FeatureWriter,
    seconds: extraction.StageSeconds,
    done: Callable[[Batch], None],
) -> None:
    """Take every row that is not in the file yet through the network."""
    n_images = source.n_images
    with StopOnSignal() as stop:
        extraction.run(
            source,
            extractor,
            writer,
            seconds=seconds,
            done=done,
            is_stopped=stop.is_set,
        )
        if writer.rows_done < n_images:
            writer.commit()
            raise Interrupted(
                f"interrupted: {writer.rows_done} of {n_images} rows are kept; the "
                "same command with --resume goes on from there",
                stop.signum,
            )
