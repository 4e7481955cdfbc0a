"""What a run leaves to look at: a JSON-lines log, learning curves, a sheet of examples.

TensorBoard event files need the extra `tensorboard`.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from cnnfeat.errors import InputError
from cnnfeat.finetune._material import read_list
from cnnfeat.finetune._options import FinetuneOptions, check_logs
from cnnfeat.images import (
    Sources,
    augmentation_examples,
    image_files,
    read_augmentation,
    sources_of,
)
from cnnfeat.networks import find_architecture
from cnnfeat.outputs import (
    check_outputs,
    check_suffix,
    claimed_outputs,
    failure,
    refuse_inputs,
    write_output,
)
from cnnfeat.report import plot_contact_sheet, plot_training_curves, save_figure
from cnnfeat.suffixes import PICTURES
from cnnfeat.training import EpochRecord, find_world


class EpochLog:
    """Writes one line an epoch as it ends; each time the file is replaced whole.

    So no line is torn, and a resumed run's log holds the epochs before it, too.
    """

    def __init__(self, options: FinetuneOptions, is_first: bool) -> None:
        self._path = options.log_path if is_first else None
        self._folder = options.tensorboard_dir if is_first else None
        self._board: Any = None

    def __enter__(self) -> "EpochLog":
        if self._folder:
            self._board = _summary_writer(self._folder)
        return self

    def add(self, history: Sequence[EpochRecord]) -> None:
        """Tell the last epoch of a run so far."""
        self.keep(history)
        record = history[-1]
        for name, value in record.to_dict().items() if self._board else ():
            if name != "epoch" and value is not None:
                self._board.add_scalar(name, value, record.epoch)

    def keep(self, history: Sequence[EpochRecord]) -> None:
        """Write the lines of all epochs of a run so far."""
        if self._path:
            lines = [json.dumps(record.to_dict()) + "\n" for record in history]
            write_output(self._path, "".join(lines).encode(), overwrite=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._board:
            try:
                self._board.close()
            except OSError as reason:
                raise failure(Path(str(self._folder)), reason) from reason


def _summary_writer(folder: str) -> Any:
    # An extra that few have, and slow to import.
    from torch.utils.tensorboard import SummaryWriter

    try:
        return SummaryWriter(folder)
    except OSError as error:
        raise failure(Path(folder), error) from error


def draw_curves(history: Sequence[EpochRecord], best_epoch: int, path: str) -> None:
    """Draw loss and validation accuracy by epoch, the kept epoch marked."""
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
    images: Sources,
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
    OptionError
        If an output ends in a suffix that it is not written as.
    """
    if not find_world().is_first:
        return
    check_suffix(output_path, PICTURES)
    check_logs(options)
    check_outputs(
        [output_path, *others, *options.logs_written],
        [*sources_of(images), *options.files_read],
        overwrite=options.overwrite or options.resume,
    )
    with claimed_outputs([output_path], (), overwrite=options.overwrite):
        _draw_augmentations(images, output_path, options, stdin)


def _draw_augmentations(
    images: Sources,
    output_path: str,
    options: FinetuneOptions,
    stdin: Iterable[str] | None,
) -> None:
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
