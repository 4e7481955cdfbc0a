"""`cnnfeat download`."""

import click

from cnnfeat.cli import options
from cnnfeat.cli.command import command
from cnnfeat.cli.output import echo_record
from cnnfeat.cli.progress import byte_progress


@command()
@click.argument("dataset", metavar="DATASET")
@click.argument("folder", metavar="DIR", type=click.Path())
@options.common.progress_opts
def download(dataset: str, folder: str, quiet: bool, as_json: bool) -> None:
    """Fetch DATASET into DIR, check it, and unpack it.

    DATASET is caltech101, caltech256, mit67, sun397 or cub200. A file that is
    there already is not fetched again, and an interrupted transfer is continued. A file
    put into DIR by hand is checked and unpacked like one that was fetched.

    \b
    $ cnnfeat download caltech101 data/
    """
    from cnnfeat.download import download_dataset

    with byte_progress(quiet=quiet) as progress:
        report = download_dataset(dataset, folder, progress=progress)
    echo_record(report.to_dict(), as_json=as_json)
