"""What classifies new images, and how the answer is given."""

import click

from cnnfeat.cli.options.listing import complete_models

classifier_arg = click.argument(
    "model_path", metavar="WEIGHTS|HEAD.h5", type=click.Path()
)
predictions_output_opt = click.option(
    "-o",
    "--output",
    "output_path",
    type=click.Path(),
    default=None,
    metavar="OUT.csv",
    help="Write the predictions as CSV.  [default: print them]",
)
model_of_weights_opt = click.option(
    "--model",
    shell_complete=complete_models,
    default=None,
    metavar="NAME",
    help="The network that WEIGHTS are of.  [default: the one that the file names]",
)
top_opt = click.option(
    "--top",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="K",
    help="Classes to give for each image, best first.",
)
