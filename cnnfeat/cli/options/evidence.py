"""What is asked before a number is believed: copies, doubtful labels, likeness."""

import click

from cnnfeat.leaks import LeaksOptions

other_features_arg = click.argument(
    "other_path", metavar="[OTHER.h5]", required=False, type=click.Path()
)
pairs_output_opt = click.option(
    "-o",
    "--output",
    "output_path",
    type=click.Path(),
    default=None,
    metavar="OUT.csv",
    help="List the pairs as CSV.  [default: counts alone]",
)
sheet_opt = click.option(
    "--sheet",
    "sheet_path",
    type=click.Path(),
    default=None,
    metavar="OUT.png",
    help="Draw the images to look at.",
)
cosine_opt = click.option(
    "--cosine",
    type=click.FloatRange(min=0.1, max=1),
    default=LeaksOptions.cosine,
    show_default=True,
    metavar="COSINE",
    help="Look at pairs whose features have this cosine or more.",
)
bits_opt = click.option(
    "--bits",
    type=click.IntRange(min=0, max=32),
    default=LeaksOptions.bits,
    show_default=True,
    metavar="N",
    help="Bits of 64 that may differ in the perceptual hashes of near-copies.",
)
trained_opt = click.option(
    "--trained",
    "head_path",
    type=click.Path(),
    default=None,
    metavar="HEAD.h5",
    help="A head trained from FEATURES.h5: copies between its training and held-out "
    "rows are counted, and it is scored with and without them.",
)
