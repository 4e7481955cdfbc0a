"""`cnnfeat layers`."""

from typing import Any

import click

from cnnfeat.cli import options
from cnnfeat.cli.command import command
from cnnfeat.cli.reports import echo_layers


@command()
@options.listing.model_and_pattern_args
@options.extraction.model_opt
@options.extraction.input_size_opt
@options.extraction.preprocessing_opt
@options.listing.every_opt
@options.common.output_opts
@click.pass_context
def layers(
    ctx: click.Context,
    words: tuple[str, ...],
    model: str,
    every: bool,
    as_json: bool,
    **size: Any,
) -> None:
    """List the layers of a network that can be tapped, in the order they run.

    By default blocks, stages, pools and the classifier; * marks the layer that is taken
    where none is named. PATTERN is a part of the name, or a glob: * and ? stay within
    one level of dots, ** crosses levels. It lists whatever fits, blocks too.

    Shape is of one image's activation; MACs are multiply-accumulates for one image;
    field and stride are in pixels of the network's input. Parameters and MACs are those
    since the row above, with PATTERN those of all inside. Stages are counted from the
    end, as by `finetune --train last:N`: last:2 trains stages 2 and 1. An alias is a
    paper's name, or block.N or stage.N, counted from 0 in every network that repeats
    blocks; `extract --layer` takes it.

    \b
    $ cnnfeat layers
    $ cnnfeat layers resnet50 'layer3.*'
    $ cnnfeat layers --model alexnet --all
    """
    from cnnfeat.describe import describe_layers

    model, pattern = options.listing.model_and_pattern(ctx, words, model)
    rows: list[dict[str, Any]] = describe_layers(model, pattern, every=every, **size)
    echo_layers(model, rows, short=not (every or pattern), as_json=as_json)
