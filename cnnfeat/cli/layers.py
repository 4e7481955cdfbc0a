"""`cnnfeat layers`."""

from cnnfeat.cli import options
from cnnfeat.cli.command import command
from cnnfeat.cli.output import echo_table

_COLUMNS = {
    "name": "layer",
    "alias": "alias",
    "kind": "kind",
    "shape": "shape",
    "parameters": "parameters",
    "macs": "MACs",
    "receptive_field": "field",
    "stride": "stride",
    "stage": "stage",
}


@command()
@options.extraction.model_opt
@options.common.output_opts
def layers(model: str, as_json: bool) -> None:
    """List the layers of a network that can be tapped, in the order they run.

    Shape is of one image's activation; MACs are multiply-accumulates for one image;
    receptive field and stride are in pixels of the network's input. Stages are counted
    from the end, as by `finetune --train last:N`: last:2 trains stages 2 and 1.

    \b
    $ cnnfeat layers --model alexnet
    """
    from cnnfeat.describe import describe_layers

    echo_table(describe_layers(model), _COLUMNS, as_json=as_json, key="layers")
