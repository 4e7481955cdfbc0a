"""A network's own stages: what is trained or frozen as a whole."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from cnnfeat.layers._names import Tap
from cnnfeat.layers._tracing import trace_of
from cnnfeat.networks import Network

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


@dataclass(frozen=True)
class Stage:
    """A block of the network that is trained or frozen as a whole.

    `modules` are dotted names; the first gives the stage its name.
    """

    name: str
    modules: tuple[str, ...]


def network_stages(network: Network) -> list[Stage]:
    """Return the network's own stages, in the order they run.

    Stages are the children of the network that hold parameters. A child that holds more
    than half of the network's layers (torchvision's `features`, timm's `blocks`) stands
    for its own children, and so on; a normalisation layer belongs to the stage before
    it. `--train last:N` counts them from the end.
    """
    first_run = _first_runs(network)
    names = sorted(
        _blocks(network.module, "", len(first_run)),
        key=lambda name: min(
            (at for leaf, at in first_run.items() if is_inside(leaf, name)),
            default=len(trace_of(network).calls),
        ),
    )
    stages: list[Stage] = []
    for name in names:
        if stages and isinstance(network.module.get_submodule(name), _NORMS):
            before = stages.pop()
            stages.append(Stage(before.name, (*before.modules, name)))
        else:
            stages.append(Stage(name, (name,)))
    return stages


def stages_below(network: Network, tap: Tap, whole: bool = False) -> list[Stage]:
    """Return the stages that a tapped activation depends on; with `whole`, all.

    Stages that start to run before the tapped module ends count.
    """
    calls = trace_of(network).calls
    first_run = _first_runs(network)
    end = max(k for k, call in enumerate(calls) if call.name == tap.module)
    return [
        stage
        for stage in network_stages(network)
        if whole
        or any(
            at <= end and is_inside(leaf, module)
            for leaf, at in first_run.items()
            for module in stage.modules
        )
    ]


def _first_runs(network: Network) -> dict[str, int]:
    """Return when each layer with parameters of its own first ran."""
    first: dict[str, int] = {}
    for at, call in enumerate(trace_of(network).calls):
        if call.is_leaf and call.n_parameters:
            first.setdefault(call.name, at)
    return first


def _blocks(module: nn.Module, prefix: str, n_layers: int) -> Iterator[str]:
    for name, child in module.named_children():
        if not any(True for _ in child.parameters()):
            continue
        n_inside = sum(
            any(True for _ in m.parameters(recurse=False)) for m in child.modules()
        )
        if n_inside > n_layers / 2 and any(True for _ in child.children()):
            yield from _blocks(child, f"{prefix}{name}.", n_layers)
        else:
            yield prefix + name


def is_inside(name: str, block: str) -> bool:
    """Return whether a dotted module name is `block` or stands below it."""
    return name == block or name.startswith(f"{block}.")
