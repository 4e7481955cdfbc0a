"""`cnnfeat evaluate`."""

from typing import Any

from cnnfeat.cli import options
from cnnfeat.cli.command import command
from cnnfeat.cli.reports import check_class_file, echo_evaluation


@command()
@options.common.head_arg
@options.common.features_arg
@options.heads.scored_rows_opt
@options.heads.confusion_opt
@options.heads.predictions_opt
@options.heads.per_class_opt
@options.heads.mistakes_opt
@options.images.relabelling_opts
@options.common.overwrite_opt
@options.common.output_opts
def evaluate(
    head_path: str,
    features_path: str,
    rows: str,
    confusion_path: str | None,
    predictions_path: str | None,
    per_class_path: str | None,
    mistakes_path: str | None,
    overwrite: bool,
    as_json: bool,
    **labels: Any,
) -> None:
    """Score a trained HEAD.h5 on the images of FEATURES.h5.

    On the file that the head was trained on, the rows left out of its training are
    scored; on another file all rows, with classes matched by name. Images are known by
    their content: a copy is the same image, another one of the same name is not. Why
    images are left out is counted under `left out`.

    \b
    $ cnnfeat evaluate svm.h5 features.h5 --json
    {"n_images": 500, "n_classes": 10, "accuracy": 0.848, ...}
    """
    from cnnfeat.evaluate import LabelOptions, evaluate_head

    others = (head_path, features_path, confusion_path, predictions_path, mistakes_path)
    check_class_file(per_class_path, others, overwrite=overwrite)
    report = evaluate_head(
        head_path,
        features_path,
        rows=rows,
        confusion_path=confusion_path,
        predictions_path=predictions_path,
        mistakes_path=mistakes_path,
        labels=LabelOptions(**labels),
        overwrite=overwrite,
    )
    echo_evaluation(report, per_class_path, as_json=as_json)
