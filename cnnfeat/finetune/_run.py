"""The verb that adapts a network to images and writes its weights.

Joins `images`, `networks`, `splits`, `training`, and `heads` for the comparison at the
end.
"""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cnnfeat.errors import DataError, OutputError
from cnnfeat.finetune._frozen import FrozenScore, compare, score_frozen_heads
from cnnfeat.finetune._listener import Listener
from cnnfeat.finetune._logs import EpochLog, draw_curves
from cnnfeat.finetune._material import (
    Features,
    Material,
    read_list,
    read_material,
)
from cnnfeat.finetune._options import FinetuneOptions, check_options
from cnnfeat.finetune._preparing import prepare_run
from cnnfeat.finetune._report import Ended, FinetuneReport
from cnnfeat.images import (
    Sources,
    content_digest,
    fingerprint_images,
    image_files,
)
from cnnfeat.interrupts import StopOnSignal
from cnnfeat.metrics import evaluate_scores
from cnnfeat.networks import file_digest, save_weights
from cnnfeat.outputs import claimed_outputs, refuse_inputs
from cnnfeat.training import (
    Checkpoint,
    EpochRecord,
    Trainer,
    TrainingRun,
    TrainingState,
    find_world,
    joined,
)

# Said otherwise by other fields of the fingerprint: the same file under another name
# is the same.
_MOVABLE = ("weights", "init", "splits_file", "device")


def finetune_network(
    images: Sources,
    output_path: str,
    options: FinetuneOptions | None = None,
    *,
    stdin: Iterable[str] | None = None,
    listener: Listener | None = None,
    command: str = "",
) -> FinetuneReport | None:
    """Fine-tune a network on `images` and write its weights to `output_path`.

    Parameters
    ----------
    images : str, or a sequence of them
        As for `extract_features`; every class needs two training images.
    output_path : str
        `.safetensors` or `.pth`; checkpoints stand beside it as `<output>.part`.
    options : FinetuneOptions
    stdin : iterable of str, optional
        Lines of paths for `images="-"`.
    listener : Listener, optional
        Told what the run does; of several processes, that of the first.
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
        If the run diverges.
    OptionError
        If options contradict each other, or an output's suffix is not its format's.
    Interrupted
        On SIGINT, SIGTERM or SIGHUP while it trains; the steps so far are kept for
        `resume`.
    """
    options = options or FinetuneOptions()
    check_options(options, images, output_path)
    started = time.monotonic()
    world = find_world(options.device)
    told = listener if listener and world.is_first else Listener()
    with _claimed(output_path, options, world.is_first) as part:
        told.stage("listing the images")
        image_list = read_list(images, options, stdin).grouped_by(options.group)
        refuse_inputs([output_path, *options.logs_written], image_files(image_list))
        material = read_material(image_list, options, world, told)
        checkpoint = Checkpoint(part, _fingerprint(material, options))
        with joined(world, material.network.device):
            run, features = prepare_run(material, options, world, told)
            told.stage("training")
            state = _train(run, options, checkpoint, told)
        if not world.is_first:
            return None
        told.stage(f"scoring {len(material.split.test)} held-out images")
        comparison = _compare(material, options, run, features)
        told.stage(f"writing {output_path}")
        ended = Ended(material, options, run, state, comparison)
        if options.curves_path:  # before the weights: until then --resume goes on
            draw_curves(state.history, state.best_epoch, options.curves_path)
        save_weights(
            output_path,
            material.network.module.state_dict(),
            ended.metadata(command),
            overwrite=options.overwrite,
        )
        checkpoint.remove()
    return ended.report(os.fspath(output_path), time.monotonic() - started)


@contextmanager
def _claimed(
    output_path: str, options: FinetuneOptions, is_first: bool
) -> Iterator[Path]:
    """Give the checkpoint's path, which nobody else writes while the block runs."""
    part = Path(f"{output_path}.part")
    if not is_first:
        yield part
        return
    may_exist = options.overwrite or options.resume  # the logs; `check_options` knows
    outputs = [output_path, *options.logs_written]
    with claimed_outputs(outputs, (), overwrite=may_exist):
        if os.path.lexists(part) and not (options.resume or options.overwrite):
            raise OutputError(
                f"{part}: an interrupted run is there: give `resume` to go on with it "
                "or `overwrite` to start anew"
            )
        yield part


def _fingerprint(material: Material, options: FinetuneOptions) -> dict[str, Any]:
    """Return what makes this run the one it is, as JSON types."""
    table, split = material.image_list, material.split
    contents = table.digests(np.concatenate([split.training, split.test]))
    return {
        "images_sha256": fingerprint_images(table),
        "contents": content_digest(" ".join(contents).encode()),
        "weights_sha256": material.network.weights.sha256,
        "init_sha256": file_digest(Path(options.init_file))
        if options.init_file
        else None,
        "classes": material.split.class_names,
        "n_train": len(material.split.train),
        "device": material.network.device.type,
        **{k: v for k, v in options.fingerprint().items() if k not in _MOVABLE},
    }


def _train(
    run: TrainingRun,
    options: FinetuneOptions,
    checkpoint: Checkpoint,
    listener: Listener,
) -> TrainingState:
    """Train to the end; a run that diverged leaves no checkpoint to go on from."""
    with EpochLog(options, run.world.is_first) as log, StopOnSignal() as stop:

        def tell(record: EpochRecord) -> None:
            log.add(trainer.history)
            listener.epoch(record)

        trainer = Trainer(run, checkpoint, stop, listener.step, tell)
        try:
            state = trainer.train(options.resume)
            log.keep(state.history)  # the run before may have ended between the two
            return state
        except DataError:
            if run.world.is_first:
                checkpoint.remove()
            raise


def _compare(
    material: Material, options: FinetuneOptions, run: TrainingRun, features: Features
) -> list[FrozenScore]:
    """Return the closing table; empty where no rows are held out."""
    split, k = material.split, len(material.split.class_names)
    if not len(split.test):
        return []
    frozen = []
    if options.frozen:
        frozen = score_frozen_heads(features, split, material.image_list, options.seed)
    scores = np.concatenate([part.numpy() for _, part in run.scores(split.test)])
    tuned = evaluate_scores(scores, split.y[split.test], k)
    return [*frozen, compare(f"fine-tuned {options.train}", tuned)]
