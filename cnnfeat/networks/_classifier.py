"""A linear classifier that may read features of fixed length.

Heads are trained on rows of unit length by default, which no linear layer can do. A
classifier that starts from such a head scales what it reads, and a weights file that
holds one says so: `CLASSIFIER_KEY` of its metadata names the layer and the length.
Whoever loads the file without cnnfeat has to do the same.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from cnnfeat.errors import WeightsError

CLASSIFIER_KEY = "classifier"
_SMALLEST_NORM = 1e-12


class ScalingLinear(nn.Linear):
    """`nn.Linear` on features (..., d) scaled to the norm `input_norm`; None: as is."""

    input_norm: float | None = None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return scores (..., k)."""
        if self.input_norm is not None:
            input = F.normalize(input, dim=-1, eps=_SMALLEST_NORM) * self.input_norm
        return super().forward(input)

    def extra_repr(self) -> str:
        """Return the layer's settings; what it computes depends on `input_norm`."""
        return f"{super().extra_repr()}, input_norm={self.input_norm}"


class ScalingConv2d(nn.Conv2d):
    """A 1 x 1 convolution on maps (m, d, h, w) scaled by one factor an image.

    The factor gives the mean over the positions the norm `input_norm`; None: as is.
    """

    input_norm: float | None = None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return score maps (m, k, h, w)."""
        if self.input_norm is not None:
            norms = input.mean(dim=(2, 3), keepdim=True).norm(dim=1, keepdim=True)
            input = input * (self.input_norm / norms.clamp_min(_SMALLEST_NORM))
        return super().forward(input)

    def extra_repr(self) -> str:
        """Return the layer's settings; what it computes depends on `input_norm`."""
        return f"{super().extra_repr()}, input_norm={self.input_norm}"


ScalingLayer = ScalingLinear | ScalingConv2d


def make_classifier(like: nn.Module, n_classes: int) -> ScalingLayer:
    """Return a new classifier of the kind of `like`, with its input features."""
    if isinstance(like, nn.Linear):
        return ScalingLinear(like.in_features, n_classes)
    return ScalingConv2d(like.in_channels, n_classes, kernel_size=1)  # type: ignore[arg-type]


def put_classifier(module: nn.Module, name: str, layer: nn.Module) -> None:
    """Set the submodule `name` of a network, in place."""
    parent, _, attribute = name.rpartition(".")
    setattr(module.get_submodule(parent), attribute, layer)


def describe_classifier(name: str, layer: nn.Module) -> dict[str, Any]:
    """Return what a weights file says of its classifier, as JSON types."""
    norm = getattr(layer, "input_norm", None)
    return {} if norm is None else {CLASSIFIER_KEY: {"name": name, "input_norm": norm}}


def restore_classifier(
    module: nn.Module, metadata: Mapping[str, Any], where: str
) -> None:
    """Make a network's classifier scale its input where its weights file says so.

    Raises
    ------
    WeightsError
        If the metadata name no classifier of this network.
    """
    told = metadata.get(CLASSIFIER_KEY)
    if told is None:
        return
    try:
        old = module.get_submodule(str(told["name"]))
        norm = float(told["input_norm"])
        layer = make_classifier(old, old.weight.shape[0])  # type: ignore[index, arg-type]
        layer.load_state_dict(old.state_dict())
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{where}: its cnnfeat metadata is damaged") from error
    layer.input_norm = norm
    put_classifier(module, str(told["name"]), layer)
