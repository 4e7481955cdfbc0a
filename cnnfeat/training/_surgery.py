"""The network taken apart: its classifier, what is trained of it.

The module is changed in place, so a caller keeps what it still needs of the network
before. Nothing here trains.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from cnnfeat.errors import CnnfeatWarning, LayerError
from cnnfeat.layers import Classifier, is_inside, network_stages
from cnnfeat.networks import Network, make_classifier, put_classifier
from cnnfeat.readback import Described, Entries, fail
from cnnfeat.training._settings import SMALLEST_BATCH_FOR_STATISTICS, TrainingSettings
from cnnfeat.training._state import Tensors
from cnnfeat.training._world import World

CLASSIFIER_STD = 0.01  # Girshick et al. 2013, section 2.3 and appendix
_BATCH_NORMS = nn.modules.batchnorm._BatchNorm
_DROPOUTS = nn.modules.dropout._DropoutNd


def replace_classifier(
    network: Network, old: Classifier, n_classes: int, generator: torch.Generator
) -> tuple[Network, Classifier]:
    """Put a new classifier of `n_classes` into the network, in place.

    Weights are Gaussian with standard deviation 0.01, biases zero, as in R-CNN.

    Returns
    -------
    Network
        The same module, as a network of `n_classes`.
    Classifier
        The new one.
    """
    new = make_classifier(old.module, n_classes)
    weight = torch.empty_like(new.weight)
    weight.normal_(0.0, CLASSIFIER_STD, generator=generator)
    with torch.no_grad():
        new.weight.copy_(weight)
        new.bias.zero_()  # type: ignore[union-attr]
    put_classifier(network.module, old.name, new)
    if hasattr(network.module, "num_classes"):
        setattr(network.module, "num_classes", n_classes)  # noqa: B010
    changed = Network(
        network.name, network.module, network.weights, network.device, n_classes
    )
    return changed, replace(old, module=new)


def trained_modules(network: Network, classifier: Classifier, train: str) -> list[str]:
    """Return the names of the modules to train; "" is the whole network.

    Parameters
    ----------
    network : Network
    classifier : Classifier
        The network's.
    train : str
        `head`, `all`, or `last:N` for the classifier and the last N stages.

    Raises
    ------
    LayerError
        If `last:N` asks for more stages than there are; they are named.
    """
    if train == "all":
        return [""]
    if train == "head":
        return [classifier.name]
    stages = network_stages(network)
    n_stages = int(train.removeprefix("last:"))
    if n_stages > len(stages):
        names = ", ".join(stage.name for stage in stages)
        raise LayerError(
            f"`train={train}`: {network.name!r} has {len(stages)} stages ({names}); "
            "give fewer, or `train=all` (cnnfeat layers shows the stages)"
        )
    chosen = [name for stage in stages[-n_stages:] for name in stage.modules]
    return [*chosen, classifier.name]


@dataclass(frozen=True, eq=False)
class Trained:
    """What is trained: parameters by name, and the modules that behave as in training.

    `module` is the whole network, `classifier` the name of the new layer;
    `updates_statistics` says whether batch-norm statistics move; `names` are all
    entries of the state dict that may change.
    """

    module: nn.Module
    classifier: str
    parameters: dict[str, nn.Parameter]
    in_training: tuple[nn.Module, ...]
    updates_statistics: bool
    names: tuple[str, ...]

    def set_training(self, training: bool) -> None:
        """Switch what behaves otherwise in training; everything else stays in eval."""
        for module in self.in_training:
            module.train(training)

    def state(self) -> Tensors:
        """Return copies of all that may change, on the CPU."""
        state = self.module.state_dict()
        return {name: state[name].detach().cpu().clone() for name in self.names}

    def check(self, where: str, state: Any) -> Tensors:
        """Return what `state` may have returned; Malformed for anything else."""
        state = Entries().check(where, state)
        own = self.module.state_dict()
        if sorted(state) != sorted(self.names):
            found = Described(f"{len(state)} others")
            fail(where, f"the {len(self.names)} tensors that are trained", found)
        for name, tensor in state.items():
            if not isinstance(tensor, torch.Tensor) or tensor.shape != own[name].shape:
                fail(f"{where}/{name}", str(tuple(own[name].shape)), tensor)
        return state

    def load(self, state: Tensors) -> None:
        """Put back what `state` returned."""
        self.module.load_state_dict(state, strict=False)


def prepare(
    network: Network,
    classifier: Classifier,
    modules: Sequence[str],
    settings: TrainingSettings,
    world: World,
) -> Trained:
    """Mark what is trained and return it; the rest keeps its values to the bit.

    Parameters
    ----------
    network : Network
    classifier : Classifier
        Its `dropouts` are those that act: none where it runs alone, on features.
    modules : sequence of str
        From `trained_modules`.
    settings : TrainingSettings
        `dropout` is the rate of the dropout layers inside those modules and before the
        classifier; one is added at its input where there is none. `batch_norm` says
        whether batch-norm layers inside those modules update their statistics.
    world : World
        Several processes share the statistics.
    """
    on_cuda = network.device.type == "cuda"
    statistics = decide_statistics(settings, world, on_cuda)
    if statistics and world.size > 1:
        nn.SyncBatchNorm.convert_sync_batchnorm(network.module)
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
    dropping = _set_dropout(classifier, list(inside.values()), settings.dropout)
    buffers = [f"{n}.{b}" for n, m in moving.items() for b, _ in m.named_buffers()]
    parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
    return Trained(
        module=module,
        classifier=classifier.name,
        parameters=parameters,
        in_training=(*moving.values(), *dropping),
        updates_statistics=bool(moving),
        names=(*parameters, *buffers),
    )


def _set_dropout(
    classifier: Classifier, inside: list[nn.Module], rate: float
) -> list[nn.Module]:
    """Set the rate of the dropout layers that act; return those to switch."""
    trained = [module for module in inside if isinstance(module, _DROPOUTS)]
    found = list(dict.fromkeys([*trained, *classifier.dropouts]))
    for layer in found:
        setattr(layer, "p", rate)  # noqa: B010
    if rate and not classifier.dropouts:
        added = nn.Dropout(rate).eval()
        classifier.module.register_forward_pre_hook(lambda _, args: (added(args[0]),))
        found.append(added)
    return found


def decide_statistics(settings: TrainingSettings, world: World, on_cuda: bool) -> bool:
    """Return whether batch-norm statistics are updated.

    `auto` freezes them when a batch has fewer than `SMALLEST_BATCH_FOR_STATISTICS`
    images. Several processes share them on CUDA devices only, so on CPUs they stay
    frozen: with a warning where they were asked for.
    """
    choice = settings.batch_norm
    enough = settings.batch_size >= SMALLEST_BATCH_FOR_STATISTICS
    wanted = choice == "train" or (choice == "auto" and enough)
    can_share = on_cuda or world.size == 1
    if choice == "train" and not can_share:
        warnings.warn(
            "batch-norm statistics stay frozen: CPU processes cannot share them",
            CnnfeatWarning,
            stacklevel=2,
        )
    return wanted and can_share
