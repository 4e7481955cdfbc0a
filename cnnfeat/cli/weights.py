"""`cnnfeat weights`."""

import click

from cnnfeat.cli import options
from cnnfeat.cli.command import command
from cnnfeat.cli.output import echo_record
from cnnfeat.cli.progress import byte_progress


@command()
@click.argument(
    "model", metavar="MODEL", shell_complete=options.listing.complete_models
)
@click.argument("folder", metavar="DIR", type=click.Path())
@options.common.progress_opts
def weights(model: str, folder: str, quiet: bool, as_json: bool) -> None:
    """Fetch the published weights of MODEL into DIR, and check them.

    For a machine that has no network: take DIR there, and `--weights DIR` finds the
    file. One that is there already is only checked, and an interrupted transfer is
    continued. The licence is what the library states.

    \b
    $ cnnfeat weights resnet50 weights/
    $ cnnfeat extract images/ -o f.h5 --model resnet50 --weights weights/
    """
    from cnnfeat.download import download_weights

    with byte_progress(quiet=quiet) as progress:
        found = download_weights(model, folder, progress=progress)
    echo_record(found.to_dict(), as_json=as_json)
