"""`cnnfeat merge`."""

from typing import Any

from cnnfeat.cli import options
from cnnfeat.cli.command import command
from cnnfeat.cli.output import echo_record
from cnnfeat.cli.progress import progress_bar


@command()
@options.exchange.shards_arg
@options.extraction.features_output_opt
@options.exchange.virtual_opt
@options.common.overwrite_opt
@options.common.progress_opts
def merge(
    shards: tuple[str, ...],
    output_path: str,
    quiet: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Make one feature file of the SHARDS of a job.

    SHARDS are files that `cnnfeat extract --shard` made, patterns of them, or a folder
    that holds them. All must be there, once, and be of one job: the same list of
    images, network, weights, layers, engine and batch size. The rows are those that
    one process would have written.

    \b
    $ cnnfeat merge 'features-*-of-00064.h5' -o features.h5
    $ cnnfeat merge shards/ -o features.h5 --virtual
    """
    from cnnfeat.merge import MergeOptions, merge_shards

    with progress_bar("merge", quiet=quiet) as progress:
        report = merge_shards(
            shards, output_path, MergeOptions(**chosen), progress=progress
        )
    echo_record(report.to_dict(), as_json=as_json)
