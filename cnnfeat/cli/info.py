"""`cnnfeat info`."""

from cnnfeat.cli import options
from cnnfeat.cli.command import command
from cnnfeat.cli.output import echo_record


@command()
@options.common.file_arg
@options.common.output_opts
def info(file_path: str, as_json: bool) -> None:
    """Show what a feature, head or weights file holds and where it came from.

    \b
    $ cnnfeat info features.h5
    $ cnnfeat info head.h5 --json
    $ cnnfeat info tuned.safetensors
    """
    from cnnfeat.describe import describe_file

    echo_record(describe_file(file_path), as_json=as_json)
