"""The part of a network behind the classifier's input, as a module of its own.

With only the classifier trained, everything before it gives the same features in every
epoch; they are computed once, and the tail is trained on them.
"""

import torch
from torch import nn

from cnnfeat.layers import Classifier
from cnnfeat.networks import Network

_MARGIN = 2.0  # other images score lower than those looked at


class Tail(nn.Module):
    """The classifier and what follows it; takes the classifier's input."""

    def __init__(self, classifier: nn.Module, after: list[nn.Module]) -> None:
        super().__init__()
        self.classifier = classifier
        self.after = nn.Sequential(*after)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return class scores (m, n_classes) of features (m, ...)."""
        return self.after(self.classifier(features)).flatten(1)

    def lift_above_relu(self, features: torch.Tensor) -> None:
        """Raise all biases alike until no score of `features` is cut off by a ReLU.

        SqueezeNet's scores pass a ReLU before they are averaged. A constant added to
        every class changes no probability, and above zero a ReLU does nothing.
        """
        if not any(isinstance(module, nn.ReLU) for module in self.after):
            return
        with torch.no_grad():
            lowest = float(self.classifier(features).min())
            if lowest < 0:
                self.classifier.bias.sub_(_MARGIN * lowest)  # type: ignore[operator]


def split_tail(
    network: Network,
    classifier: Classifier,
    images: torch.Tensor,
    inputs: torch.Tensor,
) -> Tail | None:
    """Return the network behind its classifier's input, or None where it is not known.

    What follows the classifier is taken from the container it stands in (SqueezeNet: a
    ReLU and the pooling). Nobody is trusted: the tail must give the network's own
    scores, else None is returned and the whole network has to run.

    Parameters
    ----------
    network : Network
    classifier : Classifier
        The network's.
    images : tensor of shape (m, 3, h, w), dtype=float32
        Normalised images to compare the scores on.
    inputs : tensor of shape (m, ...), dtype=float32
        What the classifier reads for them.
    """
    parent, _, attribute = classifier.name.rpartition(".")
    container = network.module.get_submodule(parent)
    after: list[nn.Module] = []
    if isinstance(container, nn.Sequential):
        names = [name for name, _ in container.named_children()]
        after = list(container)[names.index(attribute) + 1 :]
    tail = Tail(classifier.module, after).eval()
    with torch.no_grad():
        expected, found = network.module(images), tail(inputs)
    same = found.shape == expected.shape and torch.allclose(
        found, expected, rtol=1e-4, atol=1e-5
    )
    return tail if same else None
