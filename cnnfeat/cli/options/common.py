"""What many commands take: what they read, where they compute, what they print."""

import click

from cnnfeat.cli.options.parsing import parse_device, parse_workers

images_arg = click.argument("images", metavar="IMAGES")
features_arg = click.argument("features_path", metavar="FEATURES.h5")
head_arg = click.argument("head_path", metavar="HEAD.h5")
file_arg = click.argument("file_path", metavar="FILE")

overwrite_opt = click.option(
    "--overwrite", is_flag=True, help="Replace an output that exists."
)
resume_opt = click.option(
    "--resume",
    is_flag=True,
    help="Continue an interrupted run; start a new one where there is none.",
)
json_opt = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on stdout."
)
quiet_opt = click.option("--quiet", is_flag=True, help="No progress on stderr.")
verbose_opt = click.option(
    "--verbose", is_flag=True, help="Say on stderr how each head was solved."
)
device_opt = click.option(
    "--device",
    default="auto",
    show_default=True,
    callback=parse_device,
    metavar="auto|cpu|cuda[:N]",
    help="Where the computing is done; auto: the GPU if there is one.",
)
workers_opt = click.option(
    "--workers",
    type=click.IntRange(min=0),
    default=None,
    callback=parse_workers,
    metavar="N",
    help="Processes that decode images; 0: decode in the main process, which cannot "
    "stop an image that takes too long.  [default: as many as pay on this machine]",
)
