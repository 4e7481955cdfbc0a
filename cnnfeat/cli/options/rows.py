"""Which rows are trained on and which are tested on."""

from typing import Any

import click

from cnnfeat.benchmark import DrawOptions
from cnnfeat.cli.options.parsing import (
    compose,
    parse_names,
    parse_sizes,
    repeatable,
)

protocol_opt = click.option(
    "--protocol",
    default=DrawOptions.protocol,
    show_default=True,
    metavar="NAME",
    help="caltech101-decaf, caltech101-zf, caltech101, caltech256-zf, sun397, mit67, "
    "cub200, flowers102, office31, office31-dslr, scene15 or folder.",
)
n_splits_opt = click.option(
    "--splits",
    "n_splits",
    type=click.IntRange(min=1),
    default=None,
    metavar="N",
    help="How many splits are drawn.  [default: the protocol's]",
)
train_per_class_opt = click.option(
    "--train-per-class",
    type=click.IntRange(min=1),
    default=None,
    metavar="N",
    help="Training images drawn from each class.  [default: the rest of --test-share]",
)
test_per_class_opt = click.option(
    "--test-per-class",
    type=click.IntRange(min=1),
    default=None,
    metavar="N",
    help="At most N test images of each class, beside --train-per-class.  [default: "
    "all the rest]",
)
test_share_opt = click.option(
    "--test-share",
    type=click.FloatRange(min=0, max=1, max_open=True),
    default=None,
    metavar="SHARE",
    help="Share of each class to test on; 0: a head or network is trained on all.  "
    "[default: 0.2, where nothing else says which rows]",
)
folds_opt = click.option(
    "--folds",
    "n_folds",
    type=click.IntRange(min=2),
    default=None,
    metavar="K",
    help="Cross validation in K folds: each image is tested once.  [default: random "
    "splits]",
)
group_opt = click.option(
    "--group",
    default=None,
    metavar="COLUMN",
    help="A column of the table of images, such as patient or plate: images of one "
    "value never stand on both sides.  [default: every image by itself]",
)
skip_small_opt = click.option(
    "--skip-small",
    is_flag=True,
    help="Leave out classes with too few images, rather than refuse all.",
)
train_sizes_opt = click.option(
    "--train-sizes",
    default=None,
    multiple=True,
    callback=repeatable(parse_sizes),
    metavar="N[,N...]",
    help="A learning curve: several numbers of training images per class, tested on "
    "the same images.",
)
seed_opt = click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="SEED",
    help="Draws the training and test rows.",
)
lists_opt = click.option(
    "--lists",
    "lists_dir",
    type=click.Path(),
    default=None,
    metavar="DIR",
    help="Folder of the data set's published split lists.",
)
splits_file_opt = click.option(
    "--splits-file",
    type=click.Path(),
    default=None,
    metavar="SPLITS.csv",
    help="Take the rows from a CSV as `cnnfeat splits` writes it.  [default: they are "
    "drawn]",
)
split_index_opt = click.option(
    "--split-index",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="K",
    help="Which of several splits in SPLITS.csv.",
)
exclude_opt = click.option(
    "--exclude",
    "exclude_classes",
    multiple=True,
    callback=repeatable(parse_names),
    metavar="CLASS[,CLASS...]",
    help="Leave classes out; \\, is a comma in a name.",
)
splits_output_opt = click.option(
    "-o",
    "--output",
    "output_path",
    type=click.Path(),
    required=True,
    metavar="SPLITS.csv",
    help="The CSV to write.",
)
# The splits of an experiment, and the one split of a head or a network.
drawing_opts = compose(
    n_splits_opt,
    folds_opt,
    test_share_opt,
    train_per_class_opt,
    test_per_class_opt,
    group_opt,
    skip_small_opt,
    seed_opt,
    lists_opt,
)
choosing_opts = compose(
    test_share_opt,
    train_per_class_opt,
    test_per_class_opt,
    splits_file_opt,
    split_index_opt,
    group_opt,
    skip_small_opt,
    exclude_opt,
    seed_opt,
)


def draw_options(chosen: dict[str, Any]) -> DrawOptions:
    """Take the options that draw rows out of `chosen`."""
    fields = DrawOptions.__dataclass_fields__
    return DrawOptions(**{key: chosen.pop(key) for key in fields if key in chosen})
