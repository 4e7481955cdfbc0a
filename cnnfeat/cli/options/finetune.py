"""Options of `finetune` and `predict`."""

import click

from cnnfeat.cli.options.benchmark import splits_file_opt
from cnnfeat.cli.options.common import (
    device_opt,
    exclude_opt,
    model_opt,
    precision_opt,
    resume_opt,
    seed_opt,
    test_per_class_opt,
    train_per_class_opt,
    weights_opt,
    weights_seed_opt,
    workers_opt,
)
from cnnfeat.cli.options.parsing import RenamedOption, compose, parse_stages

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
interpolate_opt = click.option(
    "--interpolate",
    cls=RenamedOption,
    old_name="--start-share",
    type=click.FloatRange(min=0, max=1, max_open=True),
    default=0.0,
    show_default=True,
    metavar="SHARE",
    help="Share of the weights started from in the result, interpolated with the "
    "trained ones (WiSE-FT); needs --init.",
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
    help="Learning rate of the classifier, for features of mean norm 20; larger ones "
    "lower it.  [default: 0.01, adamw: 0.001]",
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
    "--log-file",
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
    interpolate_opt,
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
