"""The verb that turns images into a feature file.

Joins `images` (what, in which order, decoded), `networks` (which network, which taps)
and `store` (where the rows go). It streams: rows leave for the file batch by batch, and
no more than a few batches are in memory, whatever the number of images.
"""

import os
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnfeat.errors import CnnfeatWarning, ImageError
from cnnfeat.interrupts import Interrupted, StopOnSignal
from cnnfeat.outputs import check_folder, check_output

if TYPE_CHECKING:
    from cnnfeat.extract._job import Job
    from cnnfeat.extraction import Plan, StageSeconds
    from cnnfeat.images import Batch, ImageList
    from cnnfeat.networks import Network
    from cnnfeat.store import FeatureWriter

__all__ = [
    "ExtractOptions",
    "ExtractReport",
    "Interrupted",
    "Progress",
    "extract_features",
]

# Progress is told as (rows done, rows in all, rows failed, seconds by stage so far).
Progress = Callable[[int, int, int, "StageSeconds"], None]


@dataclass(frozen=True)
class ExtractOptions:
    """How features are extracted; the defaults are those of `cnnfeat extract`.

    `batch_size=None`, `workers=None` and `engine="auto"` choose for the machine at
    hand; `layers=()` is the layer before the classifier.
    """

    model: str = "efficientnet_lite0"
    weights: str = "default"
    weights_seed: int = 0
    layers: tuple[str, ...] = ()
    pool: str = "none"
    crops: str = "center"
    device: str = "auto"
    batch_size: int | None = None
    workers: int | None = None
    engine: str = "auto"
    decoder: str = "pil"
    precision: str = "fp32"
    dtype: str = "float32"
    on_error: str = "skip"
    resume: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class ExtractReport:
    """What an extraction did.

    `failures` are (path, reason) pairs; `time` holds seconds by stage and `limit`, the
    stage that set the pace.
    """

    output: str
    n_images: int
    n_ok: int
    n_failed: int
    n_resumed: int
    n_classes: int
    seconds: float
    images_per_second: float
    layers: dict[str, list[int]]
    model: str
    weights: str
    device: str
    engine: str
    time: dict[str, Any]
    failures: list[tuple[str, str]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return asdict(self)


def extract_features(
    images: "str | ImageList",
    output_path: str,
    options: ExtractOptions | None = None,
    *,
    stdin: Iterable[str] | None = None,
    progress: Progress | None = None,
    command: str = "",
) -> ExtractReport:
    """Extract features of `images` into the file `output_path`.

    Parameters
    ----------
    images : str or ImageList
        A folder of class folders, a folder of images, a CSV or TSV manifest, a tar,
        `-` for paths read from `stdin`, or images that are listed already.
    output_path : str
        The feature file; it appears under this name when it is whole.
    options : ExtractOptions
        Network, layers, pooling, device and what to do on errors.
    stdin : iterable of str, optional
        Lines of paths for `images="-"`.
    progress : callable (n_done, n_images, n_failed, StageSeconds), optional
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
        On SIGINT or SIGTERM; the rows so far are kept for `resume`.
    """
    options = options or ExtractOptions()
    _check_output(output_path, options)
    started = time.monotonic()
    from cnnfeat.extract._job import prepare_job
    from cnnfeat.extraction import StageSeconds, return_memory

    seconds = StageSeconds(start=time.monotonic() - started)  # torch's import
    with seconds.measure("start"):
        job = prepare_job(images, stdin, options, output_path)
    _warn_of_finetuning(job.image_list, job.network)
    try:
        with seconds.measure("start"):
            plan = job.plan()
            writer = job.open_writer(output_path, plan, command)
            return_memory()
        with writer:
            n_resumed = writer.rows_done
            _run(job, plan, writer, seconds, progress)
            failures = [
                (job.image_list.paths[row], why)
                for row, why in sorted(writer.failures.items())
            ]
            writer.finish()
    finally:
        job.module.close()
    elapsed = time.monotonic() - started
    return _report(output_path, job, plan, failures, n_resumed, seconds, elapsed)


def _warn_of_finetuning(image_list: "ImageList", network: "Network") -> None:
    """Say so when the weights were fine-tuned on some of the images."""
    from cnnfeat.networks import finetuned_images

    seen = finetuned_images(network.weights.metadata)
    root = image_list.root
    # A path that is not under the root is absolute, and stays as it is.
    n_seen = sum(os.path.join(root, path) in seen for path in image_list.paths)
    if n_seen:
        warnings.warn(
            f"{n_seen} of {len(image_list)} images are among those that "
            f"{network.weights.source} was fine-tuned on: a score on them is not a "
            "test accuracy",
            CnnfeatWarning,
            stacklevel=3,
        )


def _check_output(output_path: str, options: ExtractOptions) -> None:
    """Refuse early what the writer would refuse late."""
    if options.resume or options.overwrite:
        check_folder(Path(output_path))
    else:
        check_output(output_path)


def _run(
    job: "Job",
    plan: "Plan",
    writer: "FeatureWriter",
    seconds: "StageSeconds",
    progress: Progress | None,
) -> None:
    """Take every row that is not in the file yet through the network."""
    from cnnfeat.extraction import choose_workers, run_pipeline

    n_images = len(job.image_list)

    def check(batch: "Batch") -> None:
        if job.options.on_error == "fail" and not batch.ok.all():
            worst = int(np.flatnonzero(~batch.ok)[0])
            path = job.image_list.paths[batch.start + worst]
            why = batch.errors[worst]
            raise ImageError(f"{path}: {why} (--on-error skip goes on)")

    def done(n_done: int) -> None:
        if progress:
            progress(n_done, n_images, len(writer.failures), seconds)

    workers = choose_workers(job.options.workers, n_images - writer.rows_done)
    with StopOnSignal() as stop:
        run_pipeline(
            job.batches(plan.batch_size, writer.rows_done, workers),
            plan.engine,
            writer,
            batch_size=plan.batch_size,
            seconds=seconds,
            check=check,
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


def _report(
    output_path: str,
    job: "Job",
    plan: "Plan",
    failures: list[tuple[str, str]],
    n_resumed: int,
    seconds: "StageSeconds",
    elapsed: float,
) -> ExtractReport:
    n_images = len(job.image_list)
    return ExtractReport(
        output=os.fspath(output_path),
        n_images=n_images,
        n_ok=n_images - len(failures),
        n_failed=len(failures),
        n_resumed=n_resumed,
        n_classes=len(job.image_list.class_names),
        seconds=round(elapsed, 3),
        images_per_second=round((n_images - n_resumed) / max(elapsed, 1e-9), 2),
        layers={tap.name: list(job.shape_of(tap)) for tap in job.taps},
        model=job.network.name,
        weights=job.network.weights.source,
        device=str(job.network.device),
        engine=plan.engine.name,
        time=seconds.to_dict(),
        failures=failures,
    )
