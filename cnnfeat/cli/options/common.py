"""What many commands take: what they read, where they compute, what they print."""

from collections.abc import Callable
from typing import Any

import click

from cnnfeat.cli.options.parsing import (
    compose,
    note_verbose,
    parse_device,
    parse_workers,
)

features_arg = click.argument("features_path", metavar="FEATURES.h5", type=click.Path())
head_arg = click.argument("head_path", metavar="HEAD.h5", type=click.Path())
model_arg = click.argument("model_path", metavar="HEAD.h5|WEIGHTS", type=click.Path())
scored_arg = click.argument("scored", metavar="FEATURES.h5|IMAGES", type=click.Path())
file_arg = click.argument("file_path", metavar="FILE", type=click.Path())

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


def _quiet(**more: Any) -> Callable[[Any], Any]:
    text = "No progress or notes on stderr; warnings and errors stay."
    return click.option("-q", "--quiet", is_flag=True, help=text, **more)


def _verbose(**more: Any) -> Callable[[Any], Any]:
    text = "Say on stderr where the time went and how heads were solved."
    flags = ("-v", "--verbose")
    return click.option(*flags, is_flag=True, callback=note_verbose, help=text, **more)


quiet_opt, verbose_opt = _quiet(), _verbose()
# For commands that have nothing to be quiet about, or no more to say than how long
# they took.
quietly_opt, _timed_opt = _quiet(expose_value=False), _verbose(expose_value=False)
progress_opts = compose(quiet_opt, _timed_opt, json_opt)
output_opts = compose(quietly_opt, _timed_opt, json_opt)
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
