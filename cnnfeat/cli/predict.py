"""`cnnfeat predict`."""

from typing import Any

from cnnfeat.cli import options
from cnnfeat.cli.command import command
from cnnfeat.cli.output import stdin_lines
from cnnfeat.cli.progress import progress_bar
from cnnfeat.cli.reports import echo_predictions


@command()
@options.predict.classifier_arg
@options.images.images_arg
@options.predict.predictions_output_opt
@options.predict.model_of_weights_opt
@options.predict.top_opt
@options.images.table_opts
@options.rows.splits_file_opt
@options.rows.split_index_opt
@options.common.device_opt
@options.extraction.forward_batch_opt
@options.common.workers_opt
@options.extraction.pages_opt
@options.extraction.engine_opt
@options.common.overwrite_opt
@options.common.progress_opts
def predict(
    model_path: str,
    images: tuple[str, ...],
    output_path: str | None,
    quiet: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Name the classes of IMAGES with a head file or a fine-tuned network.

    A head file knows its network, layer and preprocessing. Probabilities are given for
    networks and softmax heads, decision values for SVMs. Images that cannot be read
    are listed without a class.

    \b
    $ cnnfeat predict svm.h5 new/ -o predictions.csv
    $ cnnfeat predict finetuned.safetensors new/ --top 5 --json
    """
    from cnnfeat.predict import PredictOptions, predict_images

    with progress_bar("predict", quiet=quiet) as progress:
        report = predict_images(
            model_path,
            images,
            PredictOptions(**chosen),
            output_path=output_path,
            stdin=stdin_lines(images),
            progress=progress,
        )
    echo_predictions(report, output_path, as_json=as_json)
