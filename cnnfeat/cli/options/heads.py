"""How a head is trained on features, and how it is scored."""

import click

from cnnfeat.benchmark import HEADS
from cnnfeat.cli.options import common, images, rows
from cnnfeat.cli.options.parsing import compose, parse_C, repeatable

kind_arg = click.argument("kind", metavar="KIND", type=click.Choice(HEADS))
head_output_opt = click.option(
    "-o",
    "--output",
    "output_path",
    type=click.Path(),
    required=True,
    metavar="HEAD.h5",
    help="The head file to write.",
)
file_layer_opt = click.option(
    "--layer",
    default=None,
    metavar="NAME[+NAME...]",
    help="A layer in the file; a+b joins several.  [default: the only one]",
)
C_opt = click.option(
    "--C",
    "C",
    default=None,
    multiple=True,
    callback=repeatable(parse_C),
    metavar="VALUE[,VALUE...]",
    help="Penalty C; of several, the best inside the training rows is chosen. For ncm "
    "and knn there is none.  "
    "[default: powers of ten that suit --scale, more of them while the best is at an "
    "edge]",
)
scale_opt = click.option(
    "--scale",
    type=click.Choice(["mean-norm", "l2", "standard", "none"]),
    default="l2",
    show_default=True,
    help="How features are scaled, fitted on the training rows.",
)
sqrt_opt = click.option(
    "--signed-sqrt", is_flag=True, help="sign(x) sqrt|x| before scaling (Perronnin)."
)
power_opt = click.option(
    "--power",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    metavar="P",
    help="sign(x) |x|^P before scaling; 2 in Razavian, section 3.6.",
)
pca_opt = click.option(
    "--pca",
    "n_components",
    type=click.IntRange(min=1),
    default=None,
    metavar="N",
    help="Keep the first N principal components of the training rows.",
)
feature_dropout_opt = click.option(
    "--dropout",
    type=click.FloatRange(min=0, max=1, max_open=True),
    default=0.0,
    show_default=True,
    metavar="P",
    help="Share of the features dropped at random while a head is trained (DeCAF); svm "
    "and softmax.",
)

scored_rows_opt = click.option(
    "--rows",
    type=click.Choice(["heldout", "all"]),
    default="heldout",
    show_default=True,
    help="Which rows of the head's own feature file are scored; of other files all.",
)
confusion_opt = click.option(
    "--confusion",
    "confusion_path",
    type=click.Path(),
    default=None,
    metavar="OUT.png",
    help="Draw the confusion matrix.",
)
predictions_opt = click.option(
    "--predictions",
    "predictions_path",
    type=click.Path(),
    default=None,
    metavar="OUT.csv",
    help="Write what is predicted of every scored row: class, probability or score, "
    "whether it is right, runner-up.",
)
mistakes_opt = click.option(
    "--mistakes",
    "mistakes_path",
    type=click.Path(),
    default=None,
    metavar="OUT.png",
    help="Draw the images that are taken for another class, the surest mistakes first.",
)

per_class_opt = click.option(
    "--per-class",
    "per_class_path",
    type=click.Path(),
    default=None,
    metavar="OUT.csv",
    help="Write the accuracy of every class; the ten worst are printed.",
)

head_training_opts = compose(
    file_layer_opt,
    C_opt,
    rows.choosing_opts,
    images.relabelling_opts,
    scale_opt,
    sqrt_opt,
    power_opt,
    pca_opt,
    feature_dropout_opt,
    common.device_opt,
    common.overwrite_opt,
    common.quietly_opt,
    common.verbose_opt,
    common.json_opt,
)
