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
    "cub200, scene15 or folder.",
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
    help="Training images drawn from each class.  [default: all]",
)
test_per_class_opt = click.option(
    "--test-per-class",
    type=click.IntRange(min=1),
    default=None,
    metavar="N",
    help="At most N test images of each class.  [default: all the rest]",
)
train_sizes_opt = click.option(
    "--train-sizes",
    default=None,
    multiple=True,
    callback=repeatable(parse_sizes),
    metavar="N[,N...]",
    help="A learning curve: several numbers of training images per class.",
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
    help="Take the rows from a CSV as `cnnfeat splits` writes it.",
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
drawing_opts = compose(
    n_splits_opt, train_per_class_opt, test_per_class_opt, seed_opt, lists_opt
)


def draw_options(chosen: dict[str, Any]) -> DrawOptions:
    """Take the options that draw rows out of `chosen`."""
    fields = DrawOptions.__dataclass_fields__
    return DrawOptions(**{key: chosen.pop(key) for key in fields if key in chosen})
