"""Which network is loaded, and how features are taken from it."""

import itertools
from typing import Any

import click

from cnnfeat.cli.options.listing import complete_layers, complete_models
from cnnfeat.cli.options.parsing import (
    parse_count_or_auto,
    parse_max_failed,
    parse_names,
    parse_pages,
    parse_range,
    parse_shard,
    refuse_together,
    repeatable,
)
from cnnfeat.extract import MOST_SHARDS, ExtractOptions

features_output_opt = click.option(
    "-o",
    "--output",
    "output_path",
    type=click.Path(),
    required=True,
    metavar="FEATURES.h5",
    help="The feature file to write.",
)
model_opt = click.option(
    "--model",
    shell_complete=complete_models,
    default=ExtractOptions.model,
    show_default=True,
    metavar="NAME",
    help="The network: a torchvision name, timm/NAME, or efficientnet_lite0; see "
    "`cnnfeat models`. Or package.module:factory, your own code, which returns an "
    "nn.Module.",
)
weights_opt = click.option(
    "--weights",
    default=ExtractOptions.weights,
    show_default=True,
    metavar="default|random|PATH",
    help="The published ImageNet weights, random ones, or a .pth or .safetensors file; "
    "of several files the .index.json; or the folder that `cnnfeat weights` filled.",
)
allow_missing_opt = click.option(
    "--allow-missing",
    multiple=True,
    callback=repeatable(parse_names),
    metavar="GLOB[,...]",
    help="Tensors that a file of --weights need not have as the network does: those "
    "missing stay random, those too many or of another shape are left out. A "
    "classifier may be missing anyway.  [default: none]",
)
input_size_opt = click.option(
    "--input-size",
    type=click.IntRange(min=1),
    metavar="PIXELS",
    help="Side of the crop, the resized image in proportion; position embeddings are "
    "interpolated.  [default: the network's own]",
)
preprocessing_opt = click.option(
    "--preprocessing",
    metavar="FILE.json|NAME",
    help="How images are resized, cropped and normalised: a file, or as for another "
    "network.  [default: as the weights were trained]",
)
weights_seed_opt = click.option(
    "--weights-seed",
    type=click.IntRange(min=0),
    default=ExtractOptions.weights_seed,
    show_default=True,
    metavar="SEED",
    help="Seed of --weights random.",
)
network_layers_opt = click.option(
    "--layer",
    "layers",
    multiple=True,
    callback=repeatable(parse_names),
    shell_complete=complete_layers,
    metavar="NAME|GLOB[,...]",
    help="Layers of the network: names that `cnnfeat layers` lists, globs (* stays "
    "within one level, ** crosses levels), papers' names such as fc6 or fc6:pre, "
    "blocks and stages by number (block.11, block.-4..-1, stage.2), or all. After a "
    "transformer's block :norm takes it through the final norm; after that norm :pre "
    "leaves it out.  [default: the layer before the classifier]",
)
pool_opt = click.option(
    "--pool",
    type=click.Choice(["auto", "none", "avg", "max", "pyramid"]),
    default=ExtractOptions.pool,
    show_default=True,
    help="Pool each spatial activation, of a transformer its patches; pyramid: 1x1, "
    "2x2 and 4x4 maxima; auto: none, but avg where no --layer is named and the layer "
    "before the classifier is not pooled (SqueezeNet).",
)
tokens_opt = click.option(
    "--tokens",
    type=click.Choice(["cls", "mean", "cls+mean", "patches", "registers", "all"]),
    help="In place of --pool, which tokens of a transformer to keep. mean: of the "
    "patches alone; patches: all, as a grid.",
)
crops_opt = click.option(
    "--crops",
    type=click.Choice(["center", "ten", "ten-stacked"]),
    default=ExtractOptions.crops,
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
    default=ExtractOptions.engine,
    show_default=True,
    help="What runs the network: PyTorch as it is, torch.compile, or OpenVINO; auto: "
    "the fastest that pays for its start-up. Any but eager is refused where features "
    "differ from eager's in fp32: cosine below 0.99999 (bf16 0.99, fp16 0.9995).",
)
decoder_opt = click.option(
    "--decoder",
    type=click.Choice(["pil", "fast", "nvjpeg"]),
    default=ExtractOptions.decoder,
    show_default=True,
    help="fast: decode large JPEGs at reduced scale; nvjpeg: decode JPEGs on the GPU. "
    "Features differ slightly, and those of two decoders are never mixed.",
)
value_range_opt = click.option(
    "--range",
    "value_range",
    default=ExtractOptions.value_range,
    show_default=True,
    callback=parse_range,
    metavar="auto|full|minmax|P1,P99|LO,HI",
    help="Which values are black and white, in images with more than 8 bits a channel "
    "(others never change): all that the type can hold; each image's least and "
    "greatest; its percentiles, such as P1,P99; or two values, such as 0,4095. auto: "
    "one range for all images, 8, 10, 12 or 14 bits where those looked at hold no "
    "more, else full.",
)
pages_opt = click.option(
    "--pages",
    default=ExtractOptions.pages,
    show_default=True,
    callback=parse_pages,
    metavar="first|all|N",
    help="Which pages of files that hold several (TIFF, GIF): the first, with a "
    "warning; a row for each, named FILE#page=N; or page N, from 1. A list may name "
    "FILE#page=N itself.",
)
precision_opt = click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16", "fp16"]),
    default=ExtractOptions.precision,
    show_default=True,
    help="Arithmetic of the forward pass.",
)
dtype_opt = click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    default=ExtractOptions.dtype,
    show_default=True,
    help="Number type in the file.",
)
retry_failed_opt = click.option(
    "--retry-failed",
    is_flag=True,
    help="Try the failed images of a finished FEATURES.h5 again, all else as it was "
    "extracted; the other rows are kept.",
)
add_opt = click.option(
    "--add",
    is_flag=True,
    help="Add to a finished FEATURES.h5 the listed images that it does not hold, all "
    "else as it was extracted; the rows that are there are kept.",
)
shard_opt = click.option(
    "--shard",
    default=None,
    callback=parse_shard,
    metavar="I/N",
    help="Extract the I-th of N shares of the images, into FEATURES-0000I-of-0000N.h5, "
    "for `cnnfeat merge`; one that is whole is left, and a broken one goes on.  "
    "[default: all images into one file]",
)
shards_opt = click.option(
    "--shards",
    type=click.IntRange(min=1, max=MOST_SHARDS),
    default=None,
    metavar="N",
    help="Extract all N shares in turn.",
)
on_error_opt = click.option(
    "--on-error",
    type=click.Choice(["skip", "fail"]),
    default=ExtractOptions.on_error,
    show_default=True,
    help="An image that cannot be read: keep its row as failed, or stop.",
)
max_failed_opt = click.option(
    "--max-failed",
    default=ExtractOptions.max_failed,
    show_default=True,
    callback=parse_max_failed,
    metavar="N|SHARE%",
    help="Stop, and write nothing, where more images cannot be read than this number, "
    "or this share of all.",
)

_EXCLUSIVE = ("resume", "overwrite", "retry_failed", "add")


def refuse_contradictions(chosen: dict[str, Any]) -> None:
    """Raise a usage error where options of an extraction exclude each other."""
    for first, second in itertools.combinations(_EXCLUSIVE, 2):
        refuse_together(chosen, first, second)
    refuse_together(chosen, "shard", "shards")
    for one in ("shard", "shards"):
        refuse_together(chosen, one, "retry_failed")
        refuse_together(chosen, one, "add")
    is_pooled = chosen["pool"] != ExtractOptions.pool
    refuse_together({**chosen, "pool": is_pooled}, "pool", "tokens")
