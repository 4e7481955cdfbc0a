"""The layer table: what each module of a network returns, holds, costs and sees."""

from collections.abc import Sequence
from dataclasses import dataclass

from cnnfeat.layers._names import Tap, paper_names
from cnnfeat.layers._stages import is_inside, network_stages
from cnnfeat.layers._tracing import ModuleCall, trace_of
from cnnfeat.networks import Network


@dataclass(frozen=True)
class LayerInfo:
    """One row of the layer table.

    Attributes
    ----------
    name : str
        Layer name, `NAME#k` for modules that are called more than once.
    alias : str or None
        The paper's name, where there is one.
    kind : str
        Class of the module.
    shape : tuple of int
        Of one image's first output.
    parameters : int
        Own parameters, counted at the first call.
    macs : int
        Multiply-accumulates of convolutions and matrix products for one image.
    receptive_field, stride : int or None
        In pixels of the cropped image; None where each element sees all of it.
    stage : int or None
        The network's own stage that the layer is part of, counted from the end: the
        least N for which `finetune --train last:N` reaches it. None where no stage
        holds it (an activation between two stages).
    """

    name: str
    alias: str | None
    kind: str
    shape: tuple[int, ...]
    parameters: int
    macs: int
    receptive_field: int | None
    stride: int | None
    stage: int | None


def layer_table(network: Network) -> list[LayerInfo]:
    """Return a row for each module call that computes, in network order.

    Rows are the calls of leaf modules, and of modules that hold parameters or multiply
    matrices themselves. Parameters and multiply-accumulates sum to the network's.
    """
    aliases: dict[str, str] = {}
    for alias, module in paper_names(network).items():
        aliases.setdefault(module, alias)
    stages = _stages_from_the_end(network)
    return [
        _row(network, call, aliases, stages)
        for call in trace_of(network).calls
        if call.outputs and (call.is_leaf or call.n_parameters or call.macs)
    ]


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
    )
