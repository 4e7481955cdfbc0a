"""Options of `benchmark` and `splits`, and what they say together."""

from typing import Any

import click

from cnnfeat.cli.options.common import seed_opt, test_per_class_opt, train_per_class_opt
from cnnfeat.cli.options.parsing import (
    RenamedOption,
    compose,
    parse_baselines,
    parse_sizes,
)

protocol_opt = click.option(
    "--protocol",
    default="folder",
    show_default=True,
    metavar="NAME",
    help="caltech101-decaf, caltech101-zf, caltech101, caltech256-zf, sun397, mit67, "
    "cub200, scene15 or folder.",
)
benchmark_layers_opt = click.option(
    "--layer",
    "layers",
    multiple=True,
    metavar="NAME",
    help="A layer in the file; a+b joins several. Repeatable.  [default: all]",
)
heads_opt = click.option(
    "--head",
    "heads",
    multiple=True,
    type=click.Choice(["svm", "softmax"]),
    help="Repeatable.  [default: svm]",
)
n_splits_opt = click.option(
    "--splits",
    "n_splits",
    type=click.IntRange(min=1),
    default=None,
    metavar="N",
    help="How many splits are drawn.  [default: the protocol's]",
)
lists_opt = click.option(
    "--lists",
    "lists_dir",
    default=None,
    metavar="DIR",
    help="Folder of the data set's published split lists.",
)
train_sizes_opt = click.option(
    "--train-sizes",
    default=None,
    callback=parse_sizes,
    metavar="N[,N...]",
    help="A learning curve: several numbers of training images a class.",
)
splits_file_opt = click.option(
    "--splits-file",
    default=None,
    metavar="SPLITS.csv",
    help="Take the rows from a CSV as `cnnfeat splits` writes it.",
)
baselines_opt = click.option(
    "--baseline",
    "baselines",
    cls=RenamedOption,
    old_name="--control",
    default=None,
    callback=parse_baselines,
    metavar="pixels,random",
    help="Add rows for raw pixels and for the same network with random weights, "
    "extracted once beside the feature file.",
)
compare_opt = click.option(
    "--compare",
    nargs=2,
    multiple=True,
    metavar="ROW ROW",
    help="Compare two rows of the table over the splits; words that only the row has "
    'name it: --compare "fc6 svm" "fc7 svm". Repeatable.',
)
report_opt = click.option(
    "--report",
    "report_dir",
    default=None,
    metavar="DIR",
    help="Write tables, plots, every split's rows and one HTML page there.",
)
memory_opt = click.option(
    "--memory-mib",
    type=click.IntRange(min=1),
    default=None,
    metavar="N",
    help="What the features of a layer and the solver's square matrices may each take, "
    "in MiB; a larger layer is read from the file in blocks.  [default: no limit]",
)
splits_output_opt = click.option(
    "-o",
    "--output",
    "output_path",
    required=True,
    metavar="SPLITS.csv",
    help="The CSV to write.",
)
drawing_opts = compose(
    n_splits_opt, train_per_class_opt, test_per_class_opt, seed_opt, lists_opt
)

_DRAWING = (
    "protocol",
    "n_splits",
    "train_per_class",
    "test_per_class",
    "train_sizes",
    "seed",
    "splits_file",
    "lists_dir",
)


def draw_options(chosen: dict[str, Any]) -> Any:
    """Take the options that draw rows out of `chosen`, as `DrawOptions`."""
    from cnnfeat.benchmark import DrawOptions

    return DrawOptions(**{key: chosen.pop(key) for key in _DRAWING if key in chosen})


def benchmark_options(chosen: dict[str, Any]) -> Any:
    """Return `BenchmarkOptions` from the parsed options."""
    from cnnfeat.benchmark import BenchmarkOptions

    heads = tuple(dict.fromkeys(chosen.pop("heads"))) or ("svm",)
    return BenchmarkOptions(draw=draw_options(chosen), heads=heads, **chosen)
