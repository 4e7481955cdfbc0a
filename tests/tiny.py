"""A miniature network for tests: three computing layers and no weights file."""

import torch
from torch import nn

from cnnfeat.images._preprocessing import Preprocessing
from cnnfeat.networks._network import Network, WeightsRecord
from cnnfeat.networks._weights import state_digest

TINY_PREPROCESSING = Preprocessing(
    resize_size=36,
    crop_size=(32, 32),
    interpolation="bilinear",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)


class TinyNet(nn.Module):
    """conv - relu (in place) - pool - conv - relu (in place) - flatten - linear."""

    def __init__(self, n_classes: int = 5) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, kernel_size=3, stride=2, padding=1),  # (4, 16, 16)
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),  # (4, 8, 8)
            nn.Conv2d(4, 6, kernel_size=3, stride=2, padding=1),  # (6, 4, 4)
            nn.ReLU(inplace=True),
        )
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(6 * 4 * 4, n_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.flatten(self.features(images)))


def wrap(module: nn.Module, *, n_classes: int, name: str = "tiny") -> Network:
    """Any module as a `Network` with a proper weights record."""
    record = WeightsRecord(
        name="seeded",
        source="tests",
        sha256=state_digest(module.state_dict()),
        preprocessing=TINY_PREPROCESSING,
        class_names=tuple(f"class {k}" for k in range(n_classes)),
    )
    return Network(name, module, record, "cpu", n_classes)


def make_tiny_network(seed: int = 0, n_classes: int = 5) -> Network:
    """The same network for the same seed, whatever torch's generators hold."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        module = TinyNet(n_classes)
    return wrap(module, n_classes=n_classes)
