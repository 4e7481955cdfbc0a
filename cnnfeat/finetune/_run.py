"""The verb that adapts a network to images and writes its weights.

Joins `images`, `networks`, `splits`, the training loop of this package, and `heads` for
the comparison at the end.
"""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cnnfeat._version import __version__
from cnnfeat.errors import DataError, OutputError
from cnnfeat.finetune import _distributed as distributed
from cnnfeat.finetune._checkpoint import (
    checkpoint_path,
    load_checkpoint,
    save_checkpoint,
)
from cnnfeat.finetune._frozen import Comparison, compare, score_frozen_heads
from cnnfeat.finetune._job import prepare_job
from cnnfeat.finetune._logs import EpochLog, draw_curves
from cnnfeat.finetune._material import Material, read_material
from cnnfeat.finetune._options import FinetuneOptions, check_options
from cnnfeat.finetune._sources import Features
from cnnfeat.finetune._surgery import Trained, find_classifier
from cnnfeat.finetune._training import EpochRecord, Job, Progressed, Trainer, predict
from cnnfeat.images import fingerprint_images
from cnnfeat.metrics import evaluate_scores
from cnnfeat.networks import describe_classifier, save_weights
from cnnfeat.outputs import check_output


@dataclass(frozen=True)
class FinetuneReport:
    """What a run did; `comparison` scores the same held-out rows, frozen ones first.

    `failures` are (path, reason) pairs, `history` one record an epoch.
    """

    output: str
    model: str
    train: str
    augment: str
    n_train: int
    n_validation: int
    n_test: int
    n_failed: int
    n_classes: int
    n_trained_parameters: int
    n_epochs: int
    best_epoch: int
    validation_accuracy: float | None
    seconds: float
    images_per_second: float
    device: str
    history: list[dict[str, Any]]
    comparison: list[dict[str, Any]]
    failures: list[tuple[str, str]]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return asdict(self)


def finetune_network(
    images: str,
    output_path: str,
    options: FinetuneOptions | None = None,
    *,
    stdin: Iterable[str] | None = None,
    progress: Callable[[int, int, int], None] | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    command: str = "",
) -> FinetuneReport | None:
    """Fine-tune a network on `images` and write its weights to `output_path`.

    Parameters
    ----------
    images : str
        As for `extract_features`; every class needs two training images.
    output_path : str
        `.safetensors` or `.pth`; checkpoints stand beside it as `<output>.part`.
    options : FinetuneOptions
    stdin : iterable of str, optional
        Lines of paths for `images="-"`.
    progress : callable (n_done, n_all, n_failed), optional
        Called after each batch, with training images seen.
    on_epoch : callable (EpochRecord), optional
        Called after each epoch.
    command : str
        The command line, kept in the file.

    Returns
    -------
    FinetuneReport, or None in every process but the first of several.

    Raises
    ------
    InputError, NetworkError, WeightsError, DeviceError, OutputError
        As their names say.
    SplitError
        If a class has one image, or there is nothing to train on.
    LayerError
        If `last:N` asks for more stages than there are.
    ProvenanceError
        If the head of `init` or the checkpoint of `resume` is of something else.
    DataError
        If options contradict each other, or the run diverges.
    """
    options = options or FinetuneOptions()
    world = distributed.find_world()
    check_options(options, output_path)
    for path in (output_path, options.log_path, options.curves_path):
        if path and not (path != output_path and options.resume):
            check_output(path, overwrite=options.overwrite)
    _check_checkpoint(output_path, options)
    started = time.monotonic()
    device = distributed.local_device(options.device, world)
    material = read_material(images, replace(options, device=device), world, stdin)
    _check_writable(output_path)
    with distributed.joined(world, material.network.device):
        job, features = prepare_job(
            material,
            options,
            world,
            partial(
                save_checkpoint,
                checkpoint_path(output_path),
                _fingerprint(material, options),
            ),
        )
        log = EpochLog(options, job.world.is_first)
        job = replace(job, on_epoch=_both(log, on_epoch), progress=progress)
        state = _checkpoint(output_path, material, options)
        with log:
            ended = _train(job, state, output_path)
    if not world.is_first:
        return None
    comparison = _compare(material, job, features)
    save_weights(
        output_path,
        material.network.module.state_dict(),
        _metadata(material, options, ended, comparison, command),
        overwrite=options.overwrite,
    )
    checkpoint_path(output_path).unlink(missing_ok=True)
    if options.curves_path:
        draw_curves(ended.history, options.curves_path)
    seconds = time.monotonic() - started
    return _report(output_path, material, job, ended, comparison, seconds)


def _train(job: Job, state: dict[str, Any] | None, output_path: str) -> Progressed:
    """Run to the end; a run that diverged leaves no checkpoint to go on from."""
    try:
        return Trainer(job).run(state)
    except DataError:
        if job.world.is_first:
            checkpoint_path(output_path).unlink(missing_ok=True)
        raise


def _check_writable(output_path: str) -> None:
    """Refuse an output that could not be written after hours of work."""
    folder = Path(output_path).absolute().parent
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{output_path}: the folder {folder} cannot be written to")


# -- checkpoints -----------------------------------------------------------------------


def _fingerprint(material: Material, options: FinetuneOptions) -> dict[str, Any]:
    """Return what makes this run the one it is, as JSON types."""
    from cnnfeat.networks import file_digest

    return {
        "images_sha256": fingerprint_images(material.image_list),
        "weights_sha256": material.network.weights.sha256,
        "init_sha256": file_digest(Path(options.init)) if options.init else None,
        "classes": material.class_names,
        "n_train": len(material.rows.train),
        "device": material.network.device.type,
        **{k: v for k, v in options.identity().items() if k not in _MOVABLE},
    }


# Said otherwise by the fields above: the same file under another name is the same.
_MOVABLE = ("weights", "init", "splits_file", "device")


def _check_checkpoint(output_path: str, options: FinetuneOptions) -> None:
    """Refuse to write over an interrupted run's checkpoints unasked."""
    path = checkpoint_path(output_path)
    if path.exists() and not (options.resume or options.overwrite):
        raise OutputError(
            f"{path}: an interrupted run is there: give --resume to go on with it or "
            "--overwrite to start anew"
        )


def _checkpoint(
    output_path: str, material: Material, options: FinetuneOptions
) -> dict[str, Any] | None:
    if not options.resume:
        return None
    return load_checkpoint(
        checkpoint_path(output_path), _fingerprint(material, options)
    )


def _both(
    log: EpochLog, on_epoch: Callable[[EpochRecord], None] | None
) -> Callable[[EpochRecord], None]:
    def tell(record: EpochRecord) -> None:
        log.write(record)
        if on_epoch:
            on_epoch(record)

    return tell


# -- the end ---------------------------------------------------------------------------


def _compare(material: Material, job: Job, features: Features) -> list[Comparison]:
    """Return the closing table; empty where no rows are held out."""
    rows, k = material.rows, len(material.class_names)
    if not len(rows.test):
        return []
    frozen = (
        score_frozen_heads(features, rows, material.y, k) if job.options.frozen else []
    )
    scores = np.concatenate([part.numpy() for _, part in predict(job, rows.test)])
    result = evaluate_scores(scores, material.y[rows.test], k)
    return [*frozen, compare(f"fine-tuned {job.options.train}", result)]


def _metadata(
    material: Material,
    options: FinetuneOptions,
    ended: Progressed,
    comparison: list[Comparison],
    command: str,
) -> dict[str, Any]:
    """Return what the weights file says of itself."""
    image_list, rows, record = (
        material.image_list,
        material.rows,
        material.network.weights,
    )
    classifier = find_classifier(material.network)
    return {
        "model": material.network.name,
        **describe_classifier(classifier.name, classifier.module),
        "class_names": material.class_names,
        "preprocessing": record.preprocessing.to_dict(),
        "started_from": {
            "weights": record.source,
            "weights_name": record.name,
            "weights_sha256": record.sha256,
        },
        "options": options.identity(),
        "n_epochs": len(ended.history),
        "best_epoch": ended.best_epoch,
        "best": ended.history[ended.best_epoch - 1].to_dict(),
        "comparison": [asdict(row) for row in comparison],
        "root": image_list.root,
        "images_sha256": fingerprint_images(image_list),
        "training_paths": [image_list.paths[row] for row in rows.training],
        "heldout_paths": [image_list.paths[row] for row in rows.test],
        "command": command,
        "created_by": f"cnnfeat {__version__}",
        "versions": {name: version(name) for name in ("torch", "torchvision", "timm")},
    }


def _report(
    output_path: str,
    material: Material,
    job: Job,
    ended: Progressed,
    comparison: list[Comparison],
    seconds: float,
) -> FinetuneReport:
    rows, history = material.rows, ended.history
    spent = sum(record.seconds for record in history)
    n_images = len(rows.train) * len(history)
    return FinetuneReport(
        output=os.fspath(output_path),
        model=material.network.name,
        train=job.options.train,
        augment=job.options.augmentation,
        n_train=len(rows.train),
        n_validation=len(rows.validation),
        n_test=len(rows.test),
        n_failed=len(rows.failures),
        n_classes=len(material.class_names),
        n_trained_parameters=_count(job.trained),
        n_epochs=len(history),
        best_epoch=ended.best_epoch,
        validation_accuracy=history[ended.best_epoch - 1].validation_accuracy,
        seconds=round(seconds, 3),
        images_per_second=round(n_images / max(spent, 1e-9), 2),
        device=str(material.network.device),
        history=[record.to_dict() for record in history],
        comparison=[asdict(row) for row in comparison],
        failures=[
            (material.image_list.paths[row], why)
            for row, why in sorted(rows.failures.items())
        ],
    )


def _count(trained: Trained) -> int:
    return sum(parameter.numel() for parameter in trained.parameters.values())
