"""`cnnfeat train-svm`."""

from typing import Any

from cnnfeat.cli import options
from cnnfeat.cli.command import command
from cnnfeat.cli.reports import echo_training


@command("train-svm")
@options.common.features_arg
@options.heads.head_output_opt
@options.heads.head_training_opts
def train_svm(
    features_path: str, output_path: str, as_json: bool, **chosen: Any
) -> None:
    """Train a linear SVM on FEATURES.h5 and keep it as HEAD.h5.

    One-vs-rest, squared hinge loss, L2 penalty, in LIBLINEAR's convention.
    With several values of C the best mean per-class accuracy inside the training rows
    decides; held-out rows are never used.

    \b
    $ cnnfeat train-svm features.h5 -o svm.h5 --train-per-class 30 --C 0.1,1,10
    """
    from cnnfeat.train import TrainOptions, train_head

    train_options = TrainOptions(kind="svm", **chosen)
    report = train_head(features_path, output_path, train_options)
    echo_training(report, verbose=train_options.verbose, as_json=as_json)
