"""Options of several commands, of extraction and of heads."""

import click

from cnnfeat.cli.options.parsing import (
    compose,
    parse_C,
    parse_count_or_auto,
    parse_device,
)

DEFAULT_MODEL = "efficientnet_lite0"

images_arg = click.argument("images", metavar="IMAGES")
features_arg = click.argument("features_path", metavar="FEATURES.h5")
head_arg = click.argument("head_path", metavar="HEAD.h5")
file_arg = click.argument("file_path", metavar="FILE.h5")

features_output_opt = click.option(
    "-o",
    "--output",
    "output_path",
    required=True,
    metavar="FEATURES.h5",
    help="The feature file to write.",
)
head_output_opt = click.option(
    "-o",
    "--output",
    "output_path",
    required=True,
    metavar="HEAD.h5",
    help="The head file to write.",
)
overwrite_opt = click.option(
    "--overwrite", is_flag=True, help="Replace an output that exists."
)
resume_opt = click.option(
    "--resume",
    is_flag=True,
    help="Go on where an interrupted run stopped; start anew where there is none.",
)
json_opt = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on stdout."
)
quiet_opt = click.option("--quiet", is_flag=True, help="No progress on stderr.")

model_opt = click.option(
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    metavar="NAME",
    help="A torchvision name, timm/NAME, or efficientnet_lite0; see `cnnfeat models`.",
)
weights_opt = click.option(
    "--weights",
    default="default",
    show_default=True,
    metavar="default|random|PATH",
    help="The published ImageNet weights, random ones, or a .pth or .safetensors file.",
)
taps_opt = click.option(
    "--layer",
    "layers",
    multiple=True,
    metavar="NAME",
    help="A layer to tap: a name or glob that `cnnfeat layers` lists, a paper's name "
    "such as fc6 or fc6:pre, or all. Repeatable.  [default: the layer before the "
    "classifier]",
)
pool_opt = click.option(
    "--pool",
    type=click.Choice(["none", "avg", "max", "pyramid"]),
    default="none",
    show_default=True,
    help="Pool each spatial activation; pyramid: 1x1, 2x2 and 4x4 maxima.",
)
crops_opt = click.option(
    "--crops",
    type=click.Choice(["center", "ten", "ten-stacked"]),
    default="center",
    show_default=True,
    help="One centre crop; or four corners, centre and the mirror image of each, "
    "averaged or all ten kept.",
)
device_opt = click.option(
    "--device",
    default="auto",
    show_default=True,
    callback=parse_device,
    metavar="auto|cpu|cuda[:N]",
    help="Where the network runs; auto: the GPU if there is one.",
)
batch_size_opt = click.option(
    "--batch-size",
    default="auto",
    show_default=True,
    callback=parse_count_or_auto,
    metavar="N|auto",
    help="Images in one forward pass.",
)
workers_opt = click.option(
    "--workers",
    type=click.IntRange(min=0),
    default=None,
    metavar="N",
    help="Processes that decode images; 0: decode in the main one, where an image that "
    "takes for ever is not stopped.  [default: as many as pay on this machine]",
)
engine_opt = click.option(
    "--engine",
    type=click.Choice(["auto", "eager", "compile", "openvino"]),
    default="auto",
    show_default=True,
    help="What runs the network: PyTorch as it is, torch.compile, or OpenVINO; auto: "
    "the fastest that pays for its start-up.",
)
decoder_opt = click.option(
    "--decoder",
    type=click.Choice(["pil", "fast", "nvjpeg"]),
    default="pil",
    show_default=True,
    help="fast: decode large JPEGs at reduced scale; nvjpeg: decode JPEGs on the GPU. "
    "Features differ slightly, and those of two decoders are never mixed.",
)
precision_opt = click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16", "fp16"]),
    default="fp32",
    show_default=True,
    help="Arithmetic of the forward pass; an engine other than eager is refused where "
    "its features leave the tolerance against fp32: cosine 0.99999, bf16 0.99, fp16 "
    "0.9995.",
)
dtype_opt = click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="Number type in the file.",
)
on_error_opt = click.option(
    "--on-error",
    type=click.Choice(["skip", "fail"]),
    default="skip",
    show_default=True,
    help="An image that cannot be read: keep its row as failed, or stop.",
)
seed_opt = click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Draws the training and test rows.",
)
weights_seed_opt = click.option(
    "--weights-seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of --weights random.",
)

feature_layer_opt = click.option(
    "--layer",
    default=None,
    metavar="NAME",
    help="A layer in the file; a+b joins several.  [default: the only one]",
)
C_opt = click.option(
    "--C",
    "C",
    default=None,
    callback=parse_C,
    metavar="VALUE[,VALUE...]",
    help="Penalty C; of several, the best inside the training rows is taken.  "
    "[default: a grid that suits --scale]",
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
    help="At most so many test images of each class.  [default: all the rest]",
)
scale_opt = click.option(
    "--scale",
    type=click.Choice(["mean-norm", "l2", "standard", "none"]),
    default="l2",
    show_default=True,
    help="How features are scaled, fitted on the training rows.",
)
exclude_opt = click.option(
    "--exclude",
    "exclude_classes",
    multiple=True,
    metavar="CLASS",
    help="Leave a class out. Repeatable.",
)
dropout_opt = click.option(
    "--dropout",
    type=click.FloatRange(min=0, max=1, max_open=True),
    default=0.0,
    show_default=True,
    metavar="P",
    help="Share of the features dropped at random while training (DeCAF).",
)
sqrt_opt = click.option(
    "--signed-sqrt", is_flag=True, help="sign(x) sqrt|x| before scaling (Razavian)."
)
pca_opt = click.option(
    "--pca",
    "n_components",
    type=click.IntRange(min=1),
    default=None,
    metavar="N",
    help="Keep the first N principal components of the training rows.",
)
verbose_opt = click.option(
    "--verbose", is_flag=True, help="Tell which solver was chosen and why, on stderr."
)

rows_opt = click.option(
    "--rows",
    type=click.Choice(["heldout", "all"]),
    default="heldout",
    show_default=True,
    help="Which rows of the head's own feature file are scored.",
)
confusion_opt = click.option(
    "--confusion",
    "confusion_path",
    default=None,
    metavar="OUT.png",
    help="Draw the confusion matrix.",
)
predictions_opt = click.option(
    "--predictions",
    "predictions_path",
    default=None,
    metavar="OUT.csv",
    help="Write the predicted class of every scored row.",
)

head_training_opts = compose(
    feature_layer_opt,
    C_opt,
    train_per_class_opt,
    test_per_class_opt,
    exclude_opt,
    seed_opt,
    scale_opt,
    sqrt_opt,
    pca_opt,
    dropout_opt,
    device_opt,
    overwrite_opt,
    verbose_opt,
    json_opt,
)
