"""`cnnfeat finetune`."""

from typing import TYPE_CHECKING, Any

from cnnfeat.cli import options
from cnnfeat.cli.command import command
from cnnfeat.cli.output import command_line, stdin_lines
from cnnfeat.cli.reports import echo_finetuning
from cnnfeat.cli.training_progress import training_progress

if TYPE_CHECKING:
    from cnnfeat.finetune import FinetuneOptions, FinetuneReport


@command()
@options.images.images_arg
@options.finetune.finetuning_opts
@options.common.progress_opts
def finetune(
    images: tuple[str, ...],
    output_path: str | None,
    show_augment_path: str | None,
    quiet: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Adapt a network to IMAGES and keep its weights.

    The classifier is replaced for the classes of IMAGES. The epoch is chosen on a part
    of the training rows; at the end frozen and fine-tuned accuracies are given on the
    same held-out rows. Start it under torchrun to use several devices.

    \b
    $ cnnfeat finetune images/ -o tuned.safetensors --train-per-class 30
    $ cnnfeat finetune images/ -o tuned.safetensors --train last:3 --init softmax.h5
    $ cnnfeat finetune images/ --augment classic --show-augment sheet.png
    """
    from cnnfeat.finetune import FinetuneOptions

    options.parsing.require_any(output=output_path, show_augment=show_augment_path)
    options.parsing.refuse_together(chosen, "resume", "overwrite")
    asked = FinetuneOptions(**chosen)
    lines = tuple(stdin_lines(images) or ()) or None  # read once, used twice
    if show_augment_path:
        from cnnfeat.finetune import draw_augmentations

        others = [output_path] if output_path else []
        draw_augmentations(images, show_augment_path, asked, stdin=lines, others=others)
    if output_path:
        report = _finetune(images, output_path, asked, lines, quiet=quiet)
        if report is not None:  # this process is the first, or the only one
            echo_finetuning(report, as_json=as_json)


def _finetune(
    images: tuple[str, ...],
    output_path: str,
    asked: "FinetuneOptions",
    lines: tuple[str, ...] | None,
    *,
    quiet: bool,
) -> "FinetuneReport | None":
    """Run the verb and show what it does."""
    with training_progress(asked.epochs, quiet=quiet) as shown:
        shown.stage("loading PyTorch")
        from cnnfeat.finetune import Listener, finetune_network

        return finetune_network(
            images,
            output_path,
            asked,
            stdin=lines,
            listener=Listener(shown.stage, shown.step, shown.epoch),
            command=command_line(),
        )
