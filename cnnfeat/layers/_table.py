"""The layer table: what each module of a network returns, holds, costs and sees."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from cnnfeat.layers._blocks import blocks_of
from cnnfeat.layers._classifier import default_layer
from cnnfeat.layers._info import LayerInfo, computing_layers
from cnnfeat.layers._names import Tap, paper_names
from cnnfeat.layers._stages import is_inside, network_stages
from cnnfeat.layers._tokens import tokens_of
from cnnfeat.layers._tracing import ModuleCall, TracedTensor, trace_of
from cnnfeat.networks import Network


def layer_table(network: Network) -> list[LayerInfo]:
    """Return a row for each module call that computes, in network order.

    Rows are the calls of leaf modules, and of modules that hold parameters or multiply
    matrices themselves. Parameters and multiply-accumulates sum to the network's.
    """
    return computing_layers(all_layers(network))


def all_layers(network: Network) -> list[LayerInfo]:
    """Return a row for each module call, in the order in which they end.

    Where the layer before the classifier is the classifier's input (`NAME:in`), that
    has a row too, before the classifier's.
    """
    aliases: dict[str, str] = {}
    for alias, module in paper_names(network).items():
        aliases.setdefault(module, alias)
    stages = _stages_from_the_end(network)
    places = blocks_of(network).places()
    default = default_layer(network)
    rows = []
    for call in trace_of(network).calls:
        row = _row(network, call, aliases, stages) if call.outputs else None
        if call.input is not None and f"{call.name}:in" == default and row:
            rows.append(_input_row(row, default, call.input))
        if row:
            place = places.get(row.name)
            rows.append(replace(row, is_default=row.name == default, place=place))
    return rows


def _input_row(row: LayerInfo, name: str, tensor: TracedTensor) -> LayerInfo:
    """Return the row of what a module reads."""
    return replace(
        row,
        name=name,
        kind="input",
        shape=tensor.shape[1:],
        parameters=0,
        macs=0,
        receptive_field=tensor.grid.receptive_field if tensor.grid else None,
        stride=tensor.grid.stride if tensor.grid else None,
        is_leaf=False,
        is_default=True,
        grid=None,
        n_prefix_tokens=None,
    )


def tapped_macs(network: Network, taps: Sequence[Tap]) -> int:
    """Return the multiply-accumulates of one crop until the deepest tap is reached."""
    calls = trace_of(network).calls
    tapped = {tap.module for tap in taps}
    deepest = max(k for k, call in enumerate(calls) if call.name in tapped)
    return sum(call.macs for call in calls[: deepest + 1])


def _stages_from_the_end(network: Network) -> dict[str, int]:
    """Return the number of each stage, by the modules it is made of."""
    numbered = enumerate(reversed(network_stages(network)), start=1)
    return {module: number for number, stage in numbered for module in stage.modules}


def _row(
    network: Network, call: ModuleCall, aliases: dict[str, str], stages: dict[str, int]
) -> LayerInfo:
    output = next(iter(call.outputs.values()))
    several = trace_of(network).n_calls[call.name] > 1
    tokens = tokens_of(network, output.shape[1:])
    return LayerInfo(
        name=f"{call.name}#{call.call}" if several else call.name,
        alias=aliases.get(call.name),
        kind=call.kind,
        shape=output.shape[1:],
        parameters=call.n_parameters,
        macs=call.macs,
        receptive_field=output.grid.receptive_field if output.grid else None,
        stride=output.grid.stride if output.grid else None,
        stage=next((n for m, n in stages.items() if is_inside(call.name, m)), None),
        is_leaf=call.is_leaf,
        grid=tokens.grid if tokens else None,
        n_prefix_tokens=tokens.n_prefix if tokens else None,
    )


def kernel_layers(network: Network) -> dict[str, torch.Tensor]:
    """Return the kernels of convolutions (c_out, c_in, h, w) and linear layers (k, d).

    By module name, in the order they run.
    """
    return {
        call.name: call.module.weight
        for call in trace_of(network).calls
        if isinstance(call.module, (nn.Conv2d, nn.Linear))
    }
