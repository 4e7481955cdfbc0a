"""`cnnfeat models`."""

import click

from cnnfeat.cli import options
from cnnfeat.cli.command import command
from cnnfeat.cli.output import echo_table

_COLUMNS = {
    "name": "model",
    "source": "source",
    "n_parameters": "parameters",
    "top_1": "top-1 %",
    "offline": "available offline",
}


@command()
@click.argument("pattern", required=False)
@options.common.output_opts
def models(pattern: str | None, as_json: bool) -> None:
    """List the networks that can be loaded, and which weights are available offline.

    PATTERN is a name or glob; timm's networks are listed for patterns that begin with
    timm/. Top-1 is the published ImageNet accuracy.

    \b
    $ cnnfeat models 'resnet*'
    $ cnnfeat models 'timm/efficientnet*'
    """
    from cnnfeat.describe import describe_models

    echo_table(describe_models(pattern), _COLUMNS, as_json=as_json, key="models")
