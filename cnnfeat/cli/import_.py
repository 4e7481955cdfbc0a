"""`cnnfeat import`."""

from typing import Any

import click

from cnnfeat.cli import options
from cnnfeat.cli.command import command
from cnnfeat.cli.output import command_line, echo_record


@command("import")
@click.argument("source", metavar="SOURCE", type=click.Path())
@options.extraction.features_output_opt
@options.exchange.imported_layers_opt
@options.exchange.paths_file_opt
@options.images.table_opts
@options.exchange.imported_model_opt
@options.common.overwrite_opt
@options.common.output_opts
def import_(source: str, output_path: str, as_json: bool, **chosen: Any) -> None:
    """Make a feature file of features that another tool has extracted.

    SOURCE is a .npz with an array of paths, a .npy with a list of images (beside it, as
    thingsvision's file_names.txt, or --paths), a .parquet with a list of numbers or
    columns feature_0, feature_1 … a row, a folder of clip-retrieval or thingsvision,
    or what `cnnfeat export` wrote, which keeps its provenance. Rows keep their order.

    Classes are those of a column class or label; without one, the folders that the
    images lie in, where there are several. `train-svm --labels` takes others later.

    \b
    $ cnnfeat import features.npy -o features.h5 --paths file_names.txt
    $ cnnfeat import embeddings/ -o clip.h5 --model ViT-B/32
    """
    from cnnfeat.import_ import ImportOptions, import_features

    report = import_features(
        source, output_path, ImportOptions(**chosen), command=command_line()
    )
    echo_record(report.to_dict(), as_json=as_json)
