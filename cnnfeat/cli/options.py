"""Every option and argument of the command line, defined once.

The same flag has the same meaning in every command. Callbacks turn text into values
and raise `click.BadParameter` (exit status 2) on anything else.
"""

import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

DEFAULT_MODEL = "efficientnet_lite0"

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[F], F]


def compose(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return one decorator that applies several, so that the first is listed first."""

    def apply(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


def parse_device(ctx: Any, param: Any, value: str) -> str:
    """Accept `auto`, `cpu`, `cuda` and `cuda:N`."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
        raise click.BadParameter(f"{value!r} is not auto, cpu, cuda or cuda:N")
    return value


def parse_count_or_auto(ctx: Any, param: Any, value: str) -> int | None:
    """Turn `auto` into None and a positive whole number into an int."""
    if value == "auto":
        return None
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"{value!r} is neither auto nor a number from 1")
    return int(value)


def parse_C(ctx: Any, param: Any, value: str | None) -> tuple[float, ...] | None:
    """Turn `0.1,1,10` into positive finite floats, sorted and without repeats."""
    if value is None:
        return None
    try:
        values = [float(part) for part in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value!r} is not numbers with commas") from None
    if not all(math.isfinite(C) and C > 0 for C in values):
        raise click.BadParameter(f"{value!r}: every C must be finite and above 0")
    return tuple(sorted(set(values)))


def parse_sizes(ctx: Any, param: Any, value: str | None) -> tuple[int, ...]:
    """Turn `5,10,15` into positive whole numbers, sorted and without repeats."""
    if value is None:
        return ()
    parts = value.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise click.BadParameter(f"{value!r} is not whole numbers from 1 with commas")
    return tuple(sorted({int(part) for part in parts}))


def parse_controls(ctx: Any, param: Any, value: str | None) -> tuple[str, ...]:
    """Turn `pixels,random` into names of controls."""
    names = tuple(dict.fromkeys((value or "").split(","))) if value else ()
    unknown = [name for name in names if name not in ("pixels", "random")]
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r} is neither pixels nor random")
    return names


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
    help="Processes that decode images; 0: decode in the main one.  [default: as many "
    "as pay on this machine]",
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
    type=click.Choice(["pil", "fast"]),
    default="pil",
    show_default=True,
    help="fast: decode large JPEGs at reduced scale; features differ slightly, and the "
    "two are never mixed.",
)
precision_opt = click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16", "fp16"]),
    default="fp32",
    show_default=True,
    help="Arithmetic of the forward pass.",
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
controls_opt = click.option(
    "--control",
    "controls",
    default=None,
    callback=parse_controls,
    metavar="pixels,random",
    help="Add rows for raw pixels and for the same network with random weights, "
    "extracted once beside the feature file.",
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
    help="What the solver's square matrices may take, in MiB.  [default: no limit]",
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

    heads = chosen.pop("heads") or ("svm",)
    return BenchmarkOptions(draw=draw_options(chosen), heads=heads, **chosen)


def refuse_together(chosen: dict[str, Any], first: str, second: str) -> None:
    """Raise a usage error when two flags that contradict each other are both set."""
    if chosen.get(first) and chosen.get(second):
        raise click.UsageError(f"--{first} and --{second} contradict each other")


# -- predict ---------------------------------------------------------------------------

classifier_arg = click.argument("model_path", metavar="WEIGHTS|HEAD.h5")
predictions_output_opt = click.option(
    "-o",
    "--output",
    "output_path",
    default=None,
    metavar="OUT.csv",
    help="Write the predictions as CSV.  [default: print them]",
)
file_model_opt = click.option(
    "--model",
    default=None,
    metavar="NAME",
    help="The network that a weights file is of.  [default: the one it names]",
)
top_opt = click.option(
    "--top",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="K",
    help="Classes to give for each image, best first.",
)

# -- finetune --------------------------------------------------------------------------


def parse_stages(ctx: Any, param: Any, value: str) -> str:
    """Accept `head`, `all` and `last:N` with N from 1."""
    if not re.fullmatch(r"head|all|last:[1-9]\d*", value):
        raise click.BadParameter(f"{value!r} is not head, last:N or all")
    return value


def require_any(**given: Any) -> None:
    """Raise a usage error when none of some options is given."""
    if not any(given.values()):
        names = " or ".join(f"--{name.replace('_', '-')}" for name in given)
        raise click.UsageError(f"nothing to do: give {names}")


weights_output_opt = click.option(
    "-o",
    "--output",
    "output_path",
    default=None,
    metavar="WEIGHTS",
    help="The weights file to write: .safetensors or .pth.",
)
show_augment_opt = click.option(
    "--show-augment",
    "show_augment_path",
    default=None,
    metavar="OUT.png",
    help="Draw a sheet of augmented images.",
)
trained_part_opt = click.option(
    "--train",
    default="all",
    show_default=True,
    callback=parse_stages,
    metavar="head|last:N|all",
    help="What is trained: the classifier, the network's last N stages, or all of it.",
)
init_opt = click.option(
    "--init",
    default=None,
    metavar="HEAD.h5",
    help="Start the classifier from a trained head.  [default: Gaussian, 0.01]",
)
epochs_opt = click.option(
    "--epochs",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Passes over the training images.",
)
training_batch_opt = click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Images in one step, over all processes.",
)
lr_opt = click.option(
    "--lr",
    type=click.FloatRange(min=0, min_open=True),
    default=None,
    help="Learning rate of the classifier.  [default: 0.01, adamw: 0.001]",
)
backbone_lr_scale_opt = click.option(
    "--backbone-lr-scale",
    type=click.FloatRange(min=0),
    default=0.1,
    show_default=True,
    help="Rate of the pretrained layers, as a share of --lr.",
)
optimizer_opt = click.option(
    "--optimizer",
    type=click.Choice(["sgd", "adamw"]),
    default="sgd",
    show_default=True,
    help="SGD with momentum 0.9, or AdamW.",
)
weight_decay_opt = click.option(
    "--weight-decay",
    type=click.FloatRange(min=0),
    default=5e-4,
    show_default=True,
    help="Of all trained parameters.",
)
schedule_opt = click.option(
    "--schedule",
    type=click.Choice(["cosine", "plateau"]),
    default="cosine",
    show_default=True,
    help="How the rate falls: cosine to zero, or a tenth when validation accuracy "
    "stands still.",
)
warmup_opt = click.option(
    "--warmup-epochs",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Epochs in which the rate grows from zero.",
)
plateau_opt = click.option(
    "--plateau-epochs",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Epochs of standstill before --schedule plateau lowers the rate.",
)
network_dropout_opt = click.option(
    "--dropout",
    type=click.FloatRange(min=0, max=1, max_open=True),
    default=0.0,
    show_default=True,
    metavar="P",
    help="Rate of the trained part's dropout layers, one before the classifier "
    "included.",
)
label_smoothing_opt = click.option(
    "--label-smoothing",
    type=click.FloatRange(min=0, max=1, max_open=True),
    default=0.0,
    show_default=True,
    help="Share of each label spread over all classes.",
)
clip_norm_opt = click.option(
    "--clip-norm",
    type=click.FloatRange(min=0, min_open=True),
    default=None,
    help="Longest gradient.  [default: any]",
)
batch_norm_opt = click.option(
    "--batch-norm",
    type=click.Choice(["auto", "frozen", "train"]),
    default="auto",
    show_default=True,
    help="Batch-norm statistics; auto: frozen below 32 images a batch.",
)
augment_opt = click.option(
    "--augment",
    default=None,
    metavar="none|light|classic|CONFIG",
    help="Random changes of the training images; CONFIG is a TOML or JSON file of "
    "ranges.  [default: light, with --train head none]",
)
validation_opt = click.option(
    "--validation",
    type=click.FloatRange(min=0, max=1, max_open=True),
    default=1 / 6,
    show_default="1/6",
    help="Share of the training images that chooses the epoch; 0: keep the last.",
)
patience_opt = click.option(
    "--patience",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="Stop after so many epochs without a better one; 0: never.",
)
split_index_opt = click.option(
    "--split-index",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Which of several splits in SPLITS.csv.",
)
cache_opt = click.option(
    "--cache-mib",
    type=click.IntRange(min=0),
    default=2048,
    show_default=True,
    help="Memory for decoded images; where they do not fit, they are decoded again "
    "in every epoch.",
)
checkpoint_opt = click.option(
    "--checkpoint-minutes",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="Longest time between checkpoints; there is one after each epoch anyway.",
)
log_opt = click.option(
    "--log",
    "log_path",
    default=None,
    metavar="OUT.jsonl",
    help="Write one JSON object an epoch.",
)
curves_opt = click.option(
    "--curves",
    "curves_path",
    default=None,
    metavar="OUT.png",
    help="Draw loss and validation accuracy by epoch.",
)
tensorboard_opt = click.option(
    "--tensorboard",
    "tensorboard_dir",
    default=None,
    metavar="DIR",
    help="Write TensorBoard event files (needs the extra `tensorboard`).",
)
frozen_opt = click.option(
    "--frozen/--no-frozen",
    default=True,
    show_default=True,
    help="Train heads on the untouched network, for comparison.",
)

finetuning_opts = compose(
    model_opt,
    weights_opt,
    weights_seed_opt,
    trained_part_opt,
    init_opt,
    epochs_opt,
    training_batch_opt,
    lr_opt,
    backbone_lr_scale_opt,
    optimizer_opt,
    weight_decay_opt,
    schedule_opt,
    warmup_opt,
    plateau_opt,
    network_dropout_opt,
    label_smoothing_opt,
    clip_norm_opt,
    batch_norm_opt,
    precision_opt,
    augment_opt,
    validation_opt,
    patience_opt,
    train_per_class_opt,
    test_per_class_opt,
    splits_file_opt,
    split_index_opt,
    exclude_opt,
    seed_opt,
    device_opt,
    workers_opt,
    cache_opt,
    checkpoint_opt,
    log_opt,
    curves_opt,
    tensorboard_opt,
    frozen_opt,
    resume_opt,
)
