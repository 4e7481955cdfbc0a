"""What is asked before a number is believed: copies, doubtful labels, likeness."""

import click

from cnnfeat.cli.options.parsing import parse_measures, repeatable
from cnnfeat.compare import CompareOptions
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
suspects_output_opt = click.option(
    "-o",
    "--output",
    "output_path",
    type=click.Path(),
    default=None,
    metavar="OUT.csv",
    help="List all images as CSV, the most doubtful first.  [default: counts alone]",
)
flip_opt = click.option(
    "--flip",
    type=click.FloatRange(min=0, max=0.5),
    default=0.0,
    show_default=True,
    metavar="SHARE",
    help="Change this share of the labels in a trial, and count those found again.",
)
likeness_output_opt = click.option(
    "-o",
    "--output",
    "output_path",
    type=click.Path(),
    default=None,
    metavar="OUT.csv",
    help="List every two sets as CSV.  [default: printed alone]",
)
plot_opt = click.option(
    "--plot",
    "plot_path",
    type=click.Path(),
    default=None,
    metavar="OUT.png",
    help="Draw the matrix of the first measure.",
)
measure_opt = click.option(
    "--measure",
    "measures",
    multiple=True,
    callback=repeatable(parse_measures),
    default=CompareOptions.measures,
    show_default=True,
    metavar="NAME[,NAME...]",
    help="cka, rsa-correlation, rsa-euclidean, rsa-cosine, neighbours, procrustes.",
)
n_images_opt = click.option(
    "--images",
    "n_images",
    type=click.IntRange(min=24),
    default=CompareOptions.n_images,
    show_default=True,
    metavar="N",
    help="Draw so many of the images that all files have.",
)
n_draws_opt = click.option(
    "--draws",
    "n_draws",
    type=click.IntRange(min=0),
    default=CompareOptions.n_draws,
    show_default=True,
    metavar="N",
    help="Draws of half the images behind each interval; 0: no intervals.",
)
