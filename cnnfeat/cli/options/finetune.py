"""How a network is fine-tuned, and what is written of it."""

import click

from cnnfeat.cli.options import common, extraction, images, rows
from cnnfeat.cli.options.parsing import (
    RenamedOption,
    compose,
    grouped,
    parse_stages,
)
from cnnfeat.finetune import FinetuneOptions

weights_output_opt = click.option(
    "-o",
    "--output",
    "output_path",
    type=click.Path(),
    default=None,
    metavar="WEIGHTS",
    help="The weights file to write: .safetensors or .pth.",
)
show_augment_opt = click.option(
    "--show-augment",
    "show_augment_path",
    type=click.Path(),
    default=None,
    metavar="OUT.png",
    help="Draw a sheet of augmented images.",
)
trained_part_opt = click.option(
    "--train",
    default=FinetuneOptions.train,
    show_default=True,
    callback=parse_stages,
    metavar="head|last:N|all",
    help="What is trained: the classifier, the network's last N stages, or all of it.",
)
init_opt = click.option(
    "--init",
    type=click.Path(),
    default=FinetuneOptions.init,
    show_default=True,
    metavar="frozen|noise|HEAD.h5",
    help="What the classifier starts from: a softmax on the frozen features of the "
    "training images, Gaussian noise of standard deviation 0.01, or a head file.",
)
interpolate_opt = click.option(
    "--interpolate",
    cls=RenamedOption,
    old_name="--start-share",
    type=click.FloatRange(min=0, max=1, max_open=True),
    default=FinetuneOptions.interpolate,
    show_default=True,
    metavar="SHARE",
    help="Share of the weights started from in the result, interpolated with the "
    "trained ones (WiSE-FT); not with --init noise.",
)
epochs_opt = click.option(
    "--epochs",
    type=click.IntRange(min=1),
    default=FinetuneOptions.epochs,
    show_default=True,
    metavar="N",
    help="Passes over the training images.",
)
step_batch_opt = click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=FinetuneOptions.batch_size,
    show_default=True,
    metavar="N",
    help="Images in one training step, over all processes.",
)
lr_opt = click.option(
    "--lr",
    type=click.FloatRange(min=0, min_open=True),
    default=None,
    metavar="RATE",
    help="Learning rate of the classifier; lowered where its features have a mean norm "
    "above 20.  [default: 0.01; 0.001 for adamw]",
)
backbone_lr_scale_opt = click.option(
    "--backbone-lr-scale",
    type=click.FloatRange(min=0),
    default=FinetuneOptions.backbone_lr_scale,
    show_default=True,
    metavar="SHARE",
    help="Rate of the pretrained layers, as a share of --lr.",
)
optimizer_opt = click.option(
    "--optimizer",
    type=click.Choice(["sgd", "adamw"]),
    default=FinetuneOptions.optimizer,
    show_default=True,
    help="SGD with momentum 0.9, or AdamW.",
)
weight_decay_opt = click.option(
    "--weight-decay",
    type=click.FloatRange(min=0),
    default=FinetuneOptions.weight_decay,
    show_default=True,
    metavar="RATE",
    help="Weight decay of all trained parameters.",
)
schedule_opt = click.option(
    "--schedule",
    type=click.Choice(["cosine", "plateau"]),
    default=FinetuneOptions.schedule,
    show_default=True,
    help="How the rate falls: cosine to zero, or to a tenth when validation accuracy "
    "stops improving.",
)
warmup_opt = click.option(
    "--warmup-epochs",
    type=click.FloatRange(min=0),
    default=FinetuneOptions.warmup_epochs,
    show_default=True,
    metavar="N",
    help="Epochs over which the rate rises from zero.",
)
plateau_opt = click.option(
    "--plateau-epochs",
    type=click.IntRange(min=1),
    default=FinetuneOptions.plateau_epochs,
    show_default=True,
    metavar="N",
    help="Epochs without improvement before --schedule plateau lowers the rate.",
)
network_dropout_opt = click.option(
    "--dropout",
    type=click.FloatRange(min=0, max=1, max_open=True),
    default=FinetuneOptions.dropout,
    show_default=True,
    metavar="P",
    help="Rate of the network's dropout layers in the trained part, including one "
    "before the classifier.",
)
label_smoothing_opt = click.option(
    "--label-smoothing",
    type=click.FloatRange(min=0, max=1, max_open=True),
    default=FinetuneOptions.label_smoothing,
    show_default=True,
    metavar="SHARE",
    help="Share of each label spread over all classes.",
)
class_weights_opt = click.option(
    "--class-weights",
    type=click.Choice(["none", "balanced"]),
    default=FinetuneOptions.class_weights,
    show_default=True,
    help="balanced: in the loss small classes count as much as large ones.",
)
clip_norm_opt = click.option(
    "--clip-norm",
    type=click.FloatRange(min=0, min_open=True),
    default=None,
    metavar="NORM",
    help="Clip gradients to this norm.  [default: no clipping]",
)
batch_norm_opt = click.option(
    "--batch-norm",
    type=click.Choice(["auto", "frozen", "train"]),
    default=FinetuneOptions.batch_norm,
    show_default=True,
    help="Batch-norm statistics; auto: frozen below 32 images per batch.",
)
augment_opt = click.option(
    "--augment",
    default=None,
    metavar="none|light|classic|CONFIG",
    help="Random changes of the training images; CONFIG is a TOML or JSON file of "
    "ranges.  [default: light; none with --train head]",
)
validation_opt = click.option(
    "--validation",
    type=click.FloatRange(min=0, max=1, max_open=True),
    default=None,
    metavar="SHARE",
    help="Share of the training images used to choose the epoch; 0: keep the last.  "
    "[default: 1/6 where classes have 12 training images on average, else 0]",
)
patience_opt = click.option(
    "--patience",
    type=click.IntRange(min=0),
    default=FinetuneOptions.patience,
    show_default=True,
    metavar="N",
    help="Stop after N epochs without improvement; 0: never.",
)
cache_opt = click.option(
    "--cache-mib",
    type=click.IntRange(min=0),
    default=FinetuneOptions.cache_mib,
    show_default=True,
    metavar="N",
    help="Memory in MiB for decoded images; where they do not fit, they are decoded "
    "again in every epoch.",
)
checkpoint_opt = click.option(
    "--checkpoint-minutes",
    type=click.FloatRange(min=0),
    default=FinetuneOptions.checkpoint_minutes,
    show_default=True,
    metavar="MINUTES",
    help="Longest time between checkpoints; there is one after each epoch anyway.",
)
log_opt = click.option(
    "--log-file",
    "log_path",
    type=click.Path(),
    default=None,
    metavar="OUT.jsonl",
    help="Write one JSON object per epoch.",
)
curves_opt = click.option(
    "--curves",
    "curves_path",
    type=click.Path(),
    default=None,
    metavar="OUT.png",
    help="Draw loss and validation accuracy by epoch.",
)
tensorboard_opt = click.option(
    "--tensorboard",
    "tensorboard_dir",
    type=click.Path(),
    default=None,
    metavar="DIR",
    help="Write TensorBoard event files (needs the extra `tensorboard`).",
)
frozen_opt = click.option(
    "--frozen/--no-frozen",
    default=FinetuneOptions.frozen,
    show_default=True,
    help="Also train heads on the original network, for comparison.",
)

finetuning_opts = compose(
    grouped(
        "Outputs",
        weights_output_opt,
        show_augment_opt,
        log_opt,
        curves_opt,
        tensorboard_opt,
        frozen_opt,
        checkpoint_opt,
        common.resume_opt,
        common.overwrite_opt,
    ),
    grouped(
        "Network",
        extraction.model_opt,
        extraction.weights_opt,
        extraction.weights_seed_opt,
        extraction.allow_missing_opt,
        extraction.preprocessing_opt,
        trained_part_opt,
        init_opt,
        interpolate_opt,
        batch_norm_opt,
        network_dropout_opt,
    ),
    grouped(
        "Images",
        images.table_opts,
        rows.choosing_opts,
        validation_opt,
        augment_opt,
        extraction.value_range_opt,
        extraction.pages_opt,
    ),
    grouped(
        "Training",
        epochs_opt,
        patience_opt,
        step_batch_opt,
        lr_opt,
        backbone_lr_scale_opt,
        schedule_opt,
        warmup_opt,
        plateau_opt,
        optimizer_opt,
        weight_decay_opt,
        label_smoothing_opt,
        class_weights_opt,
        clip_norm_opt,
    ),
    grouped(
        "Machine",
        common.device_opt,
        common.workers_opt,
        extraction.precision_opt,
        cache_opt,
    ),
)
