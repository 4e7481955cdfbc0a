"""`cnnfeat splits`."""

from typing import Any

import click

from cnnfeat.cli import options
from cnnfeat.cli.command import command
from cnnfeat.cli.output import echo_record


@command()
@click.argument("source", metavar="FEATURES.h5|IMAGES", type=click.Path())
@options.rows.protocol_opt
@options.rows.splits_output_opt
@options.rows.drawing_opts
@options.images.relabelling_opts
@options.common.overwrite_opt
@options.common.output_opts
def splits(
    source: str, output_path: str, overwrite: bool, as_json: bool, **chosen: Any
) -> None:
    """Draw a protocol's training and test rows and write them as CSV.

    The columns are path, split (train or test) and, for several splits, split_index.
    `cnnfeat benchmark --splits-file` reads the same.

    \b
    $ cnnfeat splits images/ --protocol folder --train-per-class 20 -o splits.csv
    """
    from cnnfeat.benchmark import write_splits

    draw = options.rows.draw_options(chosen)
    report = write_splits(source, output_path, draw, overwrite=overwrite)
    echo_record(report.to_dict(), as_json=as_json)
