"""`cnnfeat suspects`."""

from typing import Any

from cnnfeat.cli import options
from cnnfeat.cli.command import command
from cnnfeat.cli.evidence_reports import echo_suspects


@command()
@options.common.features_arg
@options.evidence.suspects_output_opt
@options.evidence.sheet_opt
@options.heads.file_layer_opt
@options.evidence.flip_opt
@options.images.relabelling_opts
@options.rows.group_opt
@options.rows.exclude_opt
@options.rows.seed_opt
@options.common.overwrite_opt
@options.common.output_opts
def suspects(features_path: str, as_json: bool, **chosen: Any) -> None:
    """Rank the images of FEATURES.h5 whose label is doubtful, and outliers.

    Each image is scored by the class means of four fifths of the images, its own not
    among them. A suspect scores for another class as that class's own images do on
    average, and less than average for its own. An outlier is far from all images, for
    its class. With --flip labels are changed on purpose, to see how many are found
    again.

    \b
    $ cnnfeat suspects features.h5 -o doubtful.csv --sheet doubtful.png --flip 0.05
    """
    from cnnfeat.suspects import SuspectsOptions, find_suspects

    report = find_suspects(features_path, SuspectsOptions(**chosen))
    echo_suspects(report, as_json=as_json)
