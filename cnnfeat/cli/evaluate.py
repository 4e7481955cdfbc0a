"""`cnnfeat evaluate`."""

from typing import Any

from cnnfeat.cli import options
from cnnfeat.cli.command import command
from cnnfeat.cli.output import stdin_lines
from cnnfeat.cli.progress import progress_bar
from cnnfeat.cli.reports import echo_evaluation


@command()
@options.common.model_arg
@options.common.scored_arg
@options.heads.scored_rows_opt
@options.heads.confusion_opt
@options.heads.predictions_opt
@options.heads.per_class_opt
@options.heads.mistakes_opt
@options.images.relabelling_opts
@options.predict.model_of_weights_opt
@options.common.device_opt
@options.extraction.forward_batch_opt
@options.common.workers_opt
@options.extraction.engine_opt
@options.extraction.pages_opt
@options.common.overwrite_opt
@options.common.progress_opts
def evaluate(
    model_path: str,
    scored: str,
    quiet: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Score a trained HEAD.h5 or fine-tuned WEIGHTS on FEATURES.h5 or IMAGES.

    On the images that it was trained from, those left out of its training are scored;
    on others all, with classes matched by name. A head is scored on the features of a
    file, or on images, whose features are then computed as `cnnfeat predict` does;
    WEIGHTS on images. The options from --model to --pages are for images.

    Images are known by their content: a copy is the same image, another one of the same
    name is not. Why images are left out is counted under `left out`.

    \b
    $ cnnfeat evaluate svm.h5 features.h5 --json
    {"n_images": 500, "n_classes": 10, "accuracy": 0.848, ...}
    $ cnnfeat evaluate tuned.safetensors photos/ --confusion confusion.png
    """
    from cnnfeat.evaluate import EvaluateOptions, evaluate_model

    asked = EvaluateOptions(**chosen)
    with progress_bar("evaluate", quiet=quiet) as progress:
        report = evaluate_model(
            model_path, scored, asked, stdin=stdin_lines(scored), progress=progress
        )
    echo_evaluation(report, asked.per_class_path, as_json=as_json)
