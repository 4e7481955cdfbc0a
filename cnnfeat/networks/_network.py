"""A network ready for use: module, weights record, device. No loading, no tapping."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from cnnfeat.images import Preprocessing
from cnnfeat.networks._weights import state_digest


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
    seed : int or None
        Of random weights; None for all others.
    match : str
        Of a file, where names had to be stripped or were not all there: what was.
    allow_missing : tuple of str
        Globs of the names that were allowed to be missing.
    input_size : int or None
        Side of the images, where another one than the weights' own was asked for.
    is_preprocessing_given : bool
        The user said how images are prepared, in place of the weights.
    """

    name: str
    source: str
    sha256: str
    preprocessing: Preprocessing
    class_names: tuple[str, ...] = ()
    published: dict[str, float] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    match: str = ""
    allow_missing: tuple[str, ...] = ()
    input_size: int | None = None
    is_preprocessing_given: bool = False


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

    @classmethod
    def from_module(
        cls,
        module: nn.Module,
        preprocessing: Preprocessing,
        *,
        name: str = "",
        class_names: Sequence[str] = (),
        device: torch.device | str = "cpu",
    ) -> "Network":
        """Return a network of any module of the caller's, with its weights as they are.

        Parameters
        ----------
        module : torch.nn.Module
            Takes normalised images (n, 3, h, w). It is not copied: switched to
            evaluation mode, its parameters no longer ask for gradients.
        preprocessing : Preprocessing
            What the weights were trained with.
        name : str
            What files and messages call it; by default the class of the module.
        class_names : sequence of str
            The outputs in order, where the module ends in class scores.
        device : torch.device or str, default="cpu"
        """
        record = WeightsRecord(
            name="given",
            source="given",
            sha256=state_digest(module.state_dict()),
            preprocessing=preprocessing,
            class_names=tuple(class_names),
        )
        return cls(name or type(module).__name__, module, record, device)

    def to(self, device: torch.device | str) -> "Network":
        """Move the module to `device` in place and return the network."""
        self.device = torch.device(device)
        self.module.to(self.device)
        return self

    def __repr__(self) -> str:
        return f"Network({self.name!r}, {self.weights.name!r}, {self.device})"
