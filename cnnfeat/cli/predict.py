"""`cnnfeat predict`."""

from typing import Any

import click

from cnnfeat.cli import options


@click.command()
@options.classifier_arg
@options.images_arg
@options.predictions_output_opt
@options.file_model_opt
@options.top_opt
@options.device_opt
@options.batch_size_opt
@options.workers_opt
@options.overwrite_opt
@options.quiet_opt
@options.json_opt
def predict(
    model_path: str,
    images: str,
    output_path: str | None,
    quiet: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Name the classes of IMAGES with a head file or a fine-tuned network.

    A head file knows its network, layer and preprocessing. Probabilities are given for
    networks and softmax heads, decision scores for SVMs. Images that cannot be read
    are listed without a class.

    \b
    $ cnnfeat predict svm.h5 new/ -o predictions.csv
    $ cnnfeat predict finetuned.safetensors new/ --top 5 --json
    """
    from cnnfeat.cli.output import echo_predictions, stdin_lines
    from cnnfeat.cli.progress import progress_bar
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
