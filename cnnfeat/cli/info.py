"""`cnnfeat info`."""

import click

from cnnfeat.cli import options


@click.command()
@options.file_arg
@options.json_opt
def info(file_path: str, as_json: bool) -> None:
    """Tell what a feature or head file holds and where it came from.

    \b
    $ cnnfeat info features.h5
    $ cnnfeat info head.h5 --json
    """
    from cnnfeat.cli.output import echo_report
    from cnnfeat.store import file_summary

    echo_report(file_summary(file_path), as_json=as_json)
