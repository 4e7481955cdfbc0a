"""`cnnfeat finetune`."""

from typing import Any

import click

from cnnfeat.cli import options


@click.command()
@options.images_arg
@options.weights_output_opt
@options.show_augment_opt
@options.finetuning_opts
@options.overwrite_opt
@options.quiet_opt
@options.json_opt
def finetune(
    images: str,
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
    from cnnfeat.cli.output import command_line, echo_finetuning, stdin_lines
    from cnnfeat.cli.progress import epoch_lines, progress_bar
    from cnnfeat.finetune import FinetuneOptions, draw_augmentations, finetune_network

    options.require_any(output=output_path, show_augment=show_augment_path)
    options.refuse_together(chosen, "resume", "overwrite")
    asked = FinetuneOptions(**chosen)
    lines = tuple(stdin_lines(images) or ()) or None  # read once, used twice
    if show_augment_path:
        draw_augmentations(images, show_augment_path, asked, stdin=lines)
    if not output_path:
        return
    with progress_bar("finetune", quiet=quiet) as progress:
        report = finetune_network(
            images,
            output_path,
            asked,
            stdin=lines,
            progress=progress,
            on_epoch=epoch_lines(asked.epochs, quiet=quiet),
            command=command_line(),
        )
    if report is not None:
        echo_finetuning(report, as_json=as_json)
