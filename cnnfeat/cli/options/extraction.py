"""Which network is loaded, and how features are taken from it."""

import click

from cnnfeat.cli.options.parsing import parse_count_or_auto

features_output_opt = click.option(
    "-o",
    "--output",
    "output_path",
    required=True,
    metavar="FEATURES.h5",
    help="The feature file to write.",
)
model_opt = click.option(
    "--model",
    default="efficientnet_lite0",
    show_default=True,
    metavar="NAME",
    help="The network: a torchvision name, timm/NAME, or efficientnet_lite0; see "
    "`cnnfeat models`.",
)
weights_opt = click.option(
    "--weights",
    default="default",
    show_default=True,
    metavar="default|random|PATH",
    help="The published ImageNet weights, random ones, or a .pth or .safetensors file.",
)
weights_seed_opt = click.option(
    "--weights-seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="SEED",
    help="Seed of --weights random.",
)
network_layers_opt = click.option(
    "--layer",
    "layers",
    multiple=True,
    metavar="NAME|GLOB",
    help="A layer of the network: a name or glob that `cnnfeat layers` lists, a "
    "paper's name such as fc6 or fc6:pre, or all. Repeatable.  [default: the layer "
    "before the classifier]",
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
forward_batch_opt = click.option(
    "--batch-size",
    default="auto",
    show_default=True,
    callback=parse_count_or_auto,
    metavar="N|auto",
    help="Images in one forward pass.",
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
