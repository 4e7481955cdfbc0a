"""`cnnfeat train`."""

from typing import Any

from cnnfeat.cli import options
from cnnfeat.cli.command import command
from cnnfeat.cli.reports import echo_training


@command()
@options.heads.kind_arg
@options.common.features_arg
@options.heads.head_output_opt
@options.heads.head_training_opts
def train(features_path: str, output_path: str, as_json: bool, **chosen: Any) -> None:
    """Train a head of any KIND on FEATURES.h5 and keep it as HEAD.h5.

    \b
    svm      linear SVM, as train-svm
    softmax  multinomial logistic regression, as train-softmax
    ridge    ridge regression on ±1, C by leaving out each row in turn
    ncm      nearest class mean, features centred first (SimpleShot)
    knn      the k nearest training rows vote, weighted by exp(cosine / temperature)

    C, or k and the temperature, are chosen by the mean per-class accuracy inside the
    training rows; held-out rows are never used. ncm has nothing to choose. A knn head
    holds all its training rows.

    \b
    $ cnnfeat train knn features.h5 -o knn.h5 --train-per-class 30
    """
    from cnnfeat.train import TrainOptions, train_head

    train_options = TrainOptions(**chosen)
    report = train_head(features_path, output_path, train_options)
    echo_training(report, verbose=train_options.verbose, as_json=as_json)
