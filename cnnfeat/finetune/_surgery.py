"""The network taken apart: its classifier, what is trained of it.

The module is changed in place, so a caller keeps what it still needs of the network
before. Nothing here trains.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from cnnfeat.errors import CnnfeatWarning, LayerError, NetworkError
from cnnfeat.layers import ModuleCall, classifier_call, is_inside, network_stages
from cnnfeat.networks import Network, make_classifier, put_classifier

CLASSIFIER_STD = 0.01  # Girshick et al. 2013, section 2.3 and appendix
_BATCH_NORMS = nn.modules.batchnorm._BatchNorm
_DROPOUTS = nn.modules.dropout._DropoutNd


def find_classifier(network: Network) -> ModuleCall:
    """Return the call of the layer that gives the class scores.

    Raises
    ------
    NetworkError
        If the network has none, or one that is neither linear nor a 1 x 1 convolution.
    """
    call = classifier_call(network.trace, network.n_classes)
    fits = call is not None and (
        isinstance(call.module, nn.Linear)
        or (isinstance(call.module, nn.Conv2d) and call.module.kernel_size == (1, 1))
    )
    if call is None or not fits:
        raise NetworkError(
            f"{network.name!r} has no linear classifier to replace; fine-tune a "
            "network that ends in class scores"
        )
    return call


def replace_classifier(
    network: Network, n_classes: int, generator: torch.Generator
) -> Network:
    """Put a new classifier of `n_classes` into the network, in place.

    Weights are Gaussian with standard deviation 0.01, biases zero, as in R-CNN.

    Returns
    -------
    Network
        The same module, as a network of `n_classes`.
    """
    call = find_classifier(network)
    new = make_classifier(call.module, n_classes)
    weight = torch.empty_like(new.weight)
    weight.normal_(0.0, CLASSIFIER_STD, generator=generator)
    with torch.no_grad():
        new.weight.copy_(weight)
        new.bias.zero_()  # type: ignore[union-attr]
    put_classifier(network.module, call.name, new)
    if hasattr(network.module, "num_classes"):
        setattr(network.module, "num_classes", n_classes)  # noqa: B010
    return Network(
        network.name, network.module, network.weights, network.device, n_classes
    )


def trained_modules(network: Network, train: str, n_stages: int | None) -> list[str]:
    """Return the names of the modules that `--train` names; "" is the whole network.

    Raises
    ------
    LayerError
        If `last:N` asks for more stages than there are; they are named.
    """
    classifier = find_classifier(network).name
    if train == "head":
        return [classifier]
    if train == "all":
        return [""]
    stages = network_stages(network)
    if n_stages is None or n_stages > len(stages):
        names = ", ".join(stage.name for stage in stages)
        raise LayerError(
            f"--train {train}: {network.name!r} has {len(stages)} stages ({names}); "
            "give fewer, or --train all (cnnfeat layers shows the stages)"
        )
    chosen = [name for stage in stages[-n_stages:] for name in stage.modules]
    return [*chosen, classifier]


@dataclass(frozen=True)
class Trained:
    """What is trained: parameters by name, and the modules that behave as in training.

    `classifier` names the new layer, `updates_statistics` whether batch-norm
    statistics move, `names` all entries of the state dict that may change.
    """

    classifier: str
    parameters: dict[str, nn.Parameter]
    in_training: tuple[nn.Module, ...]
    updates_statistics: bool
    names: tuple[str, ...]

    def set_training(self, training: bool) -> None:
        """Switch what behaves otherwise in training; everything else stays in eval."""
        for module in self.in_training:
            module.train(training)


def prepare(
    network: Network,
    modules: Sequence[str],
    *,
    dropout: float,
    statistics: bool,
    tail_only: bool = False,
) -> Trained:
    """Mark what is trained and return it; the rest keeps its values to the bit.

    Parameters
    ----------
    network : Network
    modules : sequence of str
        From `trained_modules`.
    dropout : float
        Rate of the dropout layers inside those modules and before the classifier; one
        is added at the classifier's input where there is none.
    statistics : bool
        Whether batch-norm layers inside those modules update their statistics.
    tail_only : bool
        The classifier runs alone, on stored features: nothing before it acts.
    """
    module = network.module.requires_grad_(False)
    inside = {
        name: child
        for name, child in module.named_modules()
        if any(is_inside(name, block) or not block for block in modules)
    }
    for child in inside.values():
        for parameter in child.parameters(recurse=False):
            parameter.requires_grad_(True)
    norms = {n: m for n, m in inside.items() if isinstance(m, _BATCH_NORMS)}
    moving = norms if statistics else {}
    dropping = _set_dropout(network, list(inside.values()), dropout, tail_only)
    buffers = [f"{n}.{b}" for n, m in moving.items() for b, _ in m.named_buffers()]
    parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
    return Trained(
        classifier=find_classifier(network).name,
        parameters=parameters,
        in_training=(*moving.values(), *dropping),
        updates_statistics=bool(moving),
        names=(*parameters, *buffers),
    )


def _set_dropout(
    network: Network, inside: list[nn.Module], rate: float, tail_only: bool
) -> list[nn.Module]:
    """Set the rate of the dropout layers that act; return those to switch."""
    call = find_classifier(network)
    calls = [] if tail_only else network.trace.calls
    feeding = [c.module for c in calls if _feeds(c, call)]
    found = dict.fromkeys([m for m in inside if isinstance(m, _DROPOUTS)] + feeding)
    for layer in found:
        setattr(layer, "p", rate)  # noqa: B010
    if rate and not feeding:
        added = nn.Dropout(rate).eval()
        call.module.register_forward_pre_hook(lambda _, args: (added(args[0]),))
        found[added] = None
    return list(found)


def _feeds(call: ModuleCall, classifier: ModuleCall) -> bool:
    output = call.outputs.get("")
    return (
        isinstance(call.module, _DROPOUTS)
        and output is not None
        and classifier.input is not None
        and output.value == classifier.input.value
    )


def decide_statistics(
    choice: str, batch_size: int, world_size: int, cuda: bool
) -> bool:
    """Return whether batch-norm statistics are updated.

    `auto` freezes them when a batch has fewer than `SMALLEST_BATCH_FOR_STATISTICS`
    images. Several processes share them on CUDA devices only, so on CPUs they stay
    frozen: with a warning where they were asked for.
    """
    from cnnfeat.finetune._options import SMALLEST_BATCH_FOR_STATISTICS

    enough = batch_size >= SMALLEST_BATCH_FOR_STATISTICS
    wanted = choice == "train" or (choice == "auto" and enough)
    can_share = cuda or world_size == 1
    if choice == "train" and not can_share:
        warnings.warn(
            "batch-norm statistics stay frozen: CPU processes cannot share them",
            CnnfeatWarning,
            stacklevel=2,
        )
    return wanted and can_share
