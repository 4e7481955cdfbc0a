"""A network ready for use: module, weights record, device. No loading, no tapping."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from cnnfeat.images import Preprocessing

if TYPE_CHECKING:
    from cnnfeat.layers import Trace


@dataclass(frozen=True)
class WeightsRecord:
    """Everything that must stay together with a set of weights.

    Attributes
    ----------
    name : str
        Short label: `IMAGENET1K_V1`, a timm tag, a file name, `random (seed 0)`.
    source : str
        Where the values come from: a URL, a path, a package, or `random`.
    sha256 : str
        Hex digest of the file's bytes; of the tensors where there is no file.
    preprocessing : Preprocessing
        The constants that the weights were trained with.
    class_names : tuple of str
        Names of the network's outputs in order; empty where unknown.
    published : dict of str to float
        Published accuracies as fractions (`top_1`, `top_5`); empty where unknown.
    metadata : dict
        The `cnnfeat` entry of a safetensors file that cnnfeat wrote; else empty.
    """

    name: str
    source: str
    sha256: str
    preprocessing: Preprocessing
    class_names: tuple[str, ...] = ()
    published: dict[str, float] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)


class Network:
    """A frozen network in evaluation mode, on one device.

    Parameters
    ----------
    name : str
        The name it was asked for by (`alexnet`, `timm/resnet18`, …).
    module : torch.nn.Module
        Switched to evaluation mode; its parameters no longer ask for gradients.
    weights : WeightsRecord
    device : torch.device or str, default="cpu"
        Where the module is moved to.
    n_classes : int, optional
        Width of the classifier; 0 for a network without one. By default the number of
        class names.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        weights: WeightsRecord,
        device: torch.device | str = "cpu",
        n_classes: int | None = None,
    ) -> None:
        self.name = name
        self.weights = weights
        self.device = torch.device(device)
        self.n_classes = len(weights.class_names) if n_classes is None else n_classes
        self.module = module.eval().requires_grad_(False).to(self.device)

    @cached_property
    def trace(self) -> "Trace":
        """What one dry run on a seeded image calls, in order (computed once)."""
        from cnnfeat.layers import trace_network

        return trace_network(self)

    def to(self, device: torch.device | str) -> "Network":
        """Move the module to `device` in place and return the network."""
        self.device = torch.device(device)
        self.module.to(self.device)
        return self

    def __repr__(self) -> str:
        return f"Network({self.name!r}, {self.weights.name!r}, {self.device})"
