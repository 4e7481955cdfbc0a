"""The part of a network behind the classifier's input, as a module of its own.

With only the classifier trained, everything before it gives the same features in every
epoch; they are computed once, and the tail is trained on them.
"""

import torch
from torch import nn

from cnnfeat.finetune._surgery import find_classifier
from cnnfeat.layers import Tapper, resolve_layers
from cnnfeat.networks import Network


class Tail(nn.Module):
    """The classifier and what follows it; takes the classifier's input."""

    def __init__(self, classifier: nn.Module, after: list[nn.Module]) -> None:
        super().__init__()
        self.classifier = classifier
        self.after = nn.Sequential(*after)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return class scores (m, n_classes) of features (m, ...)."""
        return self.after(self.classifier(features)).flatten(1)


def classifier_input(network: Network, images: torch.Tensor) -> torch.Tensor:
    """Return what the classifier reads for a batch of normalised images."""
    taps = resolve_layers(network, [f"{find_classifier(network).name}:in"])
    with Tapper(network, taps) as tapper:
        return tapper(images)[taps[0].name]


def split_tail(network: Network) -> Tail | None:
    """Return the network behind its classifier's input, or None where it is not known.

    What follows the classifier is taken from the container it stands in (SqueezeNet: a
    ReLU and the pooling). Nobody is trusted: on a seeded image the tail must give the
    network's own scores, else None is returned and the whole network has to run.
    """
    call = find_classifier(network)
    parent, _, attribute = call.name.rpartition(".")
    container = network.module.get_submodule(parent)
    after: list[nn.Module] = []
    if isinstance(container, nn.Sequential):
        names = [name for name, _ in container.named_children()]
        after = list(container)[names.index(attribute) + 1 :]
    tail = Tail(call.module, after).eval()
    height, width = network.weights.preprocessing.crop_size
    generator = torch.Generator().manual_seed(1)
    image = torch.randn((1, 3, height, width), generator=generator).to(network.device)
    with torch.no_grad():
        expected = network.module(image)
        found = tail(classifier_input(network, image))
    same = found.shape == expected.shape and torch.allclose(
        found, expected, rtol=1e-4, atol=1e-5
    )
    return tail if same else None
