"""`cnnfeat info`."""

import click

from cnnfeat.cli import options


@click.command()
@options.file_arg
@options.json_opt
def info(file_path: str, as_json: bool) -> None:
    """Tell what a feature, head or weights file holds and where it came from.

    \b
    $ cnnfeat info features.h5
    $ cnnfeat info head.h5 --json
    $ cnnfeat info tuned.safetensors
    """
    from cnnfeat.cli.output import echo_report
    from cnnfeat.info import describe_file

    echo_report(describe_file(file_path), as_json=as_json)
