"""`cnnfeat export`."""

from typing import Any

import click

from cnnfeat.cli import options
from cnnfeat.cli.command import command
from cnnfeat.cli.output import echo_record


@command()
@click.argument("path", metavar="FILE", type=click.Path())
@options.exchange.exported_output_opt
@options.exchange.exported_layers_opt
@options.rows.splits_file_opt
@options.rows.split_index_opt
@options.predict.model_of_weights_opt
@options.common.overwrite_opt
@options.common.output_opts
def export(path: str, output_path: str, as_json: bool, **chosen: Any) -> None:
    """Write features, or a whole classifier, in the format of another tool.

    Features become .parquet, .npz, .npy, .h5ad (AnnData) or .faiss. Every row is
    there, failed ones as zeros with ok false; an index holds the ok rows, by number.
    Beside .npy and .faiss stands a .csv of what is known of each row. --splits-file
    adds a column that says which rows are trained and tested on.

    A head file or WEIGHTS become .onnx or .pt2 (torch.export): one program from pixels
    to probabilities (of an SVM: scores), class names inside. Pixels are images already
    resized and cropped as the network wants them, uint8, RGB, (batch, height, width,
    3), of any batch; the program normalises them. It is run and compared with `cnnfeat
    predict` before it appears.

    \b
    $ cnnfeat export features.h5 -o features.parquet
    $ cnnfeat export head.h5 -o classifier.onnx
    """
    from cnnfeat.export import ExportOptions, export_file

    report = export_file(path, output_path, ExportOptions(**chosen))
    echo_record(report.to_dict(), as_json=as_json)
