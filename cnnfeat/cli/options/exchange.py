"""What is exchanged with other tools, and where it is written."""

import click

from cnnfeat.cli.options.parsing import parse_names, repeatable

exported_output_opt = click.option(
    "-o",
    "--output",
    "output_path",
    type=click.Path(),
    required=True,
    metavar="OUT",
    help="The file to write, in the format of its suffix.",
)
exported_layers_opt = click.option(
    "--layer",
    "layers",
    multiple=True,
    callback=repeatable(parse_names),
    metavar="NAME[,...]",
    help="Layers in the feature file; a file of one array takes one.  [default: all]",
)
imported_layers_opt = click.option(
    "--layer",
    "layers",
    multiple=True,
    callback=repeatable(parse_names),
    metavar="NAME[,...]",
    help="Arrays, or columns of lists, that become layers.  [default: all]",
)
paths_file_opt = click.option(
    "--paths",
    "paths_file",
    type=click.Path(),
    default=None,
    metavar="LIST",
    help="The images, in the order of the rows: a table (CSV, TSV), or text with one "
    "path a line.  [default: what stands in SOURCE or beside it]",
)
imported_model_opt = click.option(
    "--model",
    default=None,
    metavar="NAME",
    help="What computed the features, to be kept in the file.  [default: what SOURCE "
    "says]",
)
shards_arg = click.argument(
    "shards", metavar="SHARDS...", nargs=-1, required=True, type=click.Path()
)
virtual_opt = click.option(
    "--virtual",
    is_flag=True,
    help="Refer to the rows in the shards, which must stay where they are, beside the "
    "output or below; they are checked whenever the file is opened.",
)
