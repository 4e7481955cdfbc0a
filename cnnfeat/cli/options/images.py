"""Which images, and how tables of images, or of their labels, are read."""

import click

from cnnfeat.cli.options.parsing import compose, parse_separator

images_arg = click.argument(
    "images", metavar="IMAGES...", nargs=-1, required=True, type=click.Path()
)
path_column_opt = click.option(
    "--path-column",
    default=None,
    metavar="COLUMN",
    help="The column of paths in a table (CSV, TSV).  [default: path]",
)
label_column_opt = click.option(
    "--label-column",
    default=None,
    metavar="COLUMN",
    help="The column of class names in a table, or one kept with the features.  "
    "[default: label, if it is there]",
)
root_opt = click.option(
    "--root",
    type=click.Path(),
    default=None,
    metavar="DIR",
    help="Folder that a table's relative paths start from.  [default: the table's own; "
    "for standard input the current one]",
)
sep_opt = click.option(
    "--sep",
    default=None,
    callback=parse_separator,
    metavar="CHARACTER",
    help="What parts the fields of a table; tab for a tab.  [default: found out among "
    "comma, tab, semicolon and bar]",
)
labels_opt = click.option(
    "--labels",
    "labels_file",
    type=click.Path(),
    default=None,
    metavar="LABELS.csv",
    help="Take the class of each image from this table, matched by path.  [default: "
    "as extracted]",
)
table_opts = compose(path_column_opt, label_column_opt, root_opt, sep_opt)
relabelling_opts = compose(labels_opt, table_opts)
