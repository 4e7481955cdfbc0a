"""What a run leaves to look at: a JSON-lines log, learning curves, a sheet of examples.

TensorBoard event files need the extra `tensorboard`.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from cnnfeat.errors import InputError, OutputError
from cnnfeat.finetune._material import read_list
from cnnfeat.finetune._options import FinetuneOptions
from cnnfeat.images import (
    augmentation_examples,
    image_files,
    read_augmentation,
)
from cnnfeat.networks import find_architecture
from cnnfeat.outputs import check_output, check_outputs, failure, refuse_inputs
from cnnfeat.report import plot_contact_sheet, plot_training_curves, save_figure
from cnnfeat.training import EpochRecord, find_world


class EpochLog:
    """Writes one line an epoch as it ends; a resumed run adds to the file."""

    def __init__(self, options: FinetuneOptions, is_first: bool) -> None:
        self._options = options
        self._is_first = is_first
        self._file: Any = None
        self._board: Any = None

    def __enter__(self) -> "EpochLog":
        options = self._options
        if self._is_first and options.log_path:
            mode = "a" if options.resume else "w"
            try:
                self._file = Path(options.log_path).open(mode, encoding="utf-8")
            except OSError as error:
                raise failure(Path(options.log_path), error) from error
        if self._is_first and options.tensorboard_dir:
            self._board = _summary_writer(options.tensorboard_dir)
        return self

    def write(self, record: EpochRecord) -> None:
        """Add an epoch."""
        fields = record.to_dict()
        if self._file:
            try:
                self._file.write(json.dumps(fields) + "\n")
                self._file.flush()
            except OSError as error:
                raise failure(Path(self._file.name), error) from error
        if self._board:
            for name, value in fields.items():
                if name != "epoch" and value is not None:
                    self._board.add_scalar(name, value, record.epoch)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for output in (self._file, self._board):
            if output:
                output.close()


def _summary_writer(folder: str) -> Any:
    try:
        # An extra that few have, and slow to import.
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise OutputError(
            "`tensorboard_dir` needs the package tensorboard: pip install "
            "'cnnfeat[tensorboard]'"
        ) from error
    return SummaryWriter(folder)


def draw_curves(history: Sequence[EpochRecord], best_epoch: int, path: str) -> None:
    """Draw loss and validation accuracy by epoch as PNG, the kept epoch marked."""
    has_validation = all(record.validation_loss is not None for record in history)
    figure = plot_training_curves(
        [record.loss for record in history],
        validation_loss=[r.validation_loss or 0.0 for r in history]
        if has_validation
        else None,
        validation_accuracy=[r.validation_accuracy or 0.0 for r in history]
        if has_validation
        else None,
        best_epoch=best_epoch,
    )
    save_figure(figure, path)


def draw_augmentations(
    images: str,
    output_path: str,
    options: FinetuneOptions,
    *,
    stdin: Iterable[str] | None = None,
    others: Sequence[str] = (),
) -> None:
    """Draw some images, each beside changed copies as the first epochs would see them.

    Of several processes only the first draws. `others` are what else the command
    writes.

    Raises
    ------
    InputError
        If none of the first images can be read.
    OutputError
        If `output_path` exists and `options.overwrite` is False, or it is an input or
        another output.
    """
    if not find_world().is_first:
        return
    check_outputs(
        [output_path, *others, *options.logs_written],
        [images, *options.files_read],
        overwrite=options.overwrite or options.resume,
    )
    check_output(output_path, overwrite=options.overwrite)
    image_list = read_list(images, options, stdin)
    refuse_inputs([output_path], image_files(image_list))
    examples = augmentation_examples(
        image_list,
        read_augmentation(options.augmentation),
        find_architecture(options.model).preprocessing,
        seed=options.seed,
    )
    if not examples:
        raise InputError(f"{images}: none of the first images looked at can be read")
    n_copies = len(examples[0]) - 1
    captions = ["original", *(f"epoch {k + 1}" for k in range(n_copies))]
    title = f"--augment {options.augmentation}"
    figure = plot_contact_sheet(
        [image for row in examples for image in row],
        captions * len(examples),
        n_columns=len(captions),
        title=title,
    )
    save_figure(figure, output_path)
