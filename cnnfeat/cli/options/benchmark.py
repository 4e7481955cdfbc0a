"""What a benchmark measures and compares, and where it writes the report."""

from typing import Any

import click

from cnnfeat.benchmark import BenchmarkOptions
from cnnfeat.cli.options.parsing import (
    RenamedOption,
    parse_baselines,
    parse_heads,
    parse_names,
    repeatable,
)
from cnnfeat.cli.options.rows import draw_options

features_args = click.argument(
    "features_paths",
    metavar="FEATURES.h5...",
    nargs=-1,
    required=True,
    type=click.Path(),
)
file_layers_opt = click.option(
    "--layer",
    "layers",
    multiple=True,
    callback=repeatable(parse_names),
    metavar="NAME[+NAME...][,...]",
    help="Layers in the files, or in one of them; a+b joins several.  [default: all]",
)
heads_opt = click.option(
    "--head",
    "heads",
    multiple=True,
    callback=repeatable(parse_heads),
    default=BenchmarkOptions.heads,
    show_default=True,
    metavar="svm,softmax,ridge,ncm,knn",
    help="Kinds of head to train on each layer.",
)
baselines_opt = click.option(
    "--baseline",
    "baselines",
    cls=RenamedOption,
    old_name="--control",
    multiple=True,
    callback=repeatable(parse_baselines),
    metavar="pixels,random",
    help="Add rows for raw pixels and for the same network with random weights, drawn "
    "three times; extracted once beside the feature file.",
)
compare_opt = click.option(
    "--compare",
    nargs=2,
    multiple=True,
    metavar="ROW ROW",
    help="Compare two rows of the table over the splits. A row is named by words that "
    'only it has: --compare "fc6 svm" "fc7 svm". Repeatable.',
)
report_opt = click.option(
    "--report",
    "report_dir",
    type=click.Path(),
    default=None,
    metavar="DIR",
    help="Write tables, plots, every split's rows and one HTML page there.",
)
memory_opt = click.option(
    "--memory-mib",
    type=click.IntRange(min=1),
    default=None,
    metavar="N",
    help="Memory in MiB for the features of a layer, and as much for the solver's "
    "square matrices; a larger layer is read from the file in blocks.  [default: no "
    "limit]",
)


def benchmark_options(chosen: dict[str, Any]) -> BenchmarkOptions:
    """Return `BenchmarkOptions` from the parsed options."""
    return BenchmarkOptions(draw=draw_options(chosen), **chosen)
