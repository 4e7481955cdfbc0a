"""The layer that gives a network's class scores, and the layer before it."""

from dataclasses import dataclass

import torch
from torch import nn

from cnnfeat.errors import LayerError, NetworkError
from cnnfeat.layers._info import ROOT, VIEW_KINDS
from cnnfeat.layers._tokens import tokens_of
from cnnfeat.layers._tracing import ModuleCall, TracedTensor, trace_of
from cnnfeat.networks import Network

_LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True, eq=False)
class Classifier:
    """The layer that gives the class scores, found once for each network.

    Attributes
    ----------
    name : str
        Dotted module name.
    module : torch.nn.Module
        An `nn.Linear`, or an `nn.Conv2d` of 1 x 1 pixels.
    input_shape : tuple of int
        What it reads of one image: (d,), or maps (d, h, w).
    dropouts : tuple of torch.nn.Module
        Dropout layers whose output it reads.
    """

    name: str
    module: nn.Module
    input_shape: tuple[int, ...]
    dropouts: tuple[nn.Module, ...] = ()

    @property
    def input_layer(self) -> str:
        """Name of what it reads, as `resolve_layers` takes it."""
        return f"{self.name}:in"

    @property
    def n_inputs(self) -> int:
        """Number of features that one score is made of."""
        return int(self.module.weight[0].numel())  # type: ignore[index]


def find_classifier(network: Network) -> Classifier:
    """Return the layer that gives the class scores: the last linear one to run.

    Raises
    ------
    NetworkError
        If the network has none, or one that is neither linear nor a 1 x 1 convolution.
    """
    call = _last_linear(network)
    is_linear = call is not None and (
        isinstance(call.module, nn.Linear)
        or (isinstance(call.module, nn.Conv2d) and call.module.kernel_size == (1, 1))
    )
    if call is None or call.input is None or not is_linear:
        raise NetworkError(
            f"{network.name!r} has no linear classifier to replace; fine-tune a "
            "network that ends in class scores"
        )
    dropouts = [
        other.module
        for other in trace_of(network).calls
        if isinstance(other.module, nn.modules.dropout._DropoutNd)
        and "" in other.outputs
        and other.outputs[""].value == call.input.value
    ]
    return Classifier(
        call.name, call.module, tuple(call.input.shape[1:]), tuple(dropouts)
    )


def default_layer(network: Network) -> str:
    """Return the name of the layer before the classifier.

    It is the earliest module whose output is the tensor that the classifier reads.
    Modules that only pass a tensor on (Flatten, Dropout, Identity) count only where no
    other does; a parent without parameters stands for the module inside it. Where no
    module returns that tensor, it is the classifier's own input: `NAME:in`.
    """
    trace, classifier = trace_of(network), _last_linear(network)
    source = classifier.input if classifier else trace.root.outputs.get("")
    if source is None:
        return trace.root.name
    matches = [call for call in trace.calls if _returns(call, source)]
    matches = [call for call in matches if call.name != ROOT]
    computing = [call for call in matches if call.kind not in VIEW_KINDS]
    found = next(iter(computing or matches), None)
    if found is None:
        return f"{classifier.name if classifier else ROOT}:in"
    while found.parent is not None and _returns(found.parent, source):
        if found.parent.name == ROOT or list(found.parent.module.parameters()):
            break
        found = found.parent
    return found.name


def last_maps(network: Network) -> str:
    """Return the last module before the classifier that gives maps of the image.

    Raises
    ------
    LayerError
        If the network has none.
    """
    found = ""
    classifier = _last_linear(network)
    for call in trace_of(network).calls:
        if classifier is not None and call.name == classifier.name:
            break
        output = call.outputs.get("")
        if output is None or call.name == ROOT or call.kind in VIEW_KINDS:
            continue
        if _has_maps(network, output):
            found = call.name
    if not found:
        raise LayerError(f"{network.name!r} has no layer of maps: give `layer`")
    return found


def _has_maps(network: Network, output: TracedTensor) -> bool:
    shape = output.shape[1:]
    if len(shape) == 3:
        positions = shape[:2] if output.channels_last else shape[1:]
        return positions[0] * positions[1] > 1
    return tokens_of(network, shape) is not None


def _last_linear(network: Network) -> ModuleCall | None:
    """Return the last Linear or convolution called, or None for a headless network."""
    calls = [
        call
        for call in trace_of(network).calls
        if isinstance(call.module, _LINEAR) and call.is_leaf
    ]
    return calls[-1] if calls and network.n_classes else None


def _returns(call: ModuleCall, tensor: TracedTensor) -> bool:
    """Tell whether the module's only output holds the numbers of `tensor`."""
    output = call.outputs.get("")
    return (
        output is not None
        and output.value == tensor.value
        and torch.Size(output.shape).numel() == torch.Size(tensor.shape).numel()
    )
