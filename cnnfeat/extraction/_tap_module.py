"""A network from pixels to the features of its taps, as one module.

What every engine computes: normalising, the tapped pass, pooling, and what becomes of
several crops. Engines run it as it is, or from a graph recorded of it.
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
from importlib.metadata import version

import torch
from torch import nn

from cnnfeat._version import __version__
from cnnfeat.images import N_CROPS
from cnnfeat.layers import Tap, Tapper, pool_activation, pooled_shape
from cnnfeat.networks import Network, state_digest

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def stored_shape(tap: Tap, pool: str, crops: str) -> tuple[int, ...]:
    """Return the shape of one image's features; stacked crops are its first axis."""
    shape = pooled_shape(tap, pool)
    return (N_CROPS[crops], *shape) if crops == "ten-stacked" else shape


class TapModule(nn.Module):
    """A network from uint8 crops to the features of its taps, as one module.

    Parameters
    ----------
    network : Network
    taps : sequence of Tap
    pool : str
        As for `pool_activation`.
    crops : {"center", "ten", "ten-stacked"}
        "ten" averages over the crops in float32 (Krizhevsky et al. 2012, section 4.1,
        average predictions over ten patches; here features).
    precision : {"fp32", "bf16", "fp16"}
        Of the network; pooling follows it, averages over crops are float32.

    Notes
    -----
    Holds hooks on the network's module until `close`.
    """

    def __init__(
        self,
        network: Network,
        taps: Sequence[Tap],
        *,
        pool: str = "none",
        crops: str = "center",
        precision: str = "fp32",
    ) -> None:
        super().__init__()
        self.network = network.module
        self.device = network.device
        self.names = tuple(tap.name for tap in taps)
        self.crops = crops
        self.precision = precision
        self._steps = (network.name, repr(network.module), *map(repr, taps), pool)
        self._preprocessing = network.weights.preprocessing.to_dict()
        self._normalize = network.weights.preprocessing.normalize
        self._crop_size = network.weights.preprocessing.crop_size
        self._tapper = Tapper(
            network,
            taps,
            reduce=lambda tap, activation: pool_activation(activation, pool, tap),
        )

    def forward(self, images_nhwc: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return one float32 tensor (m, *features) for each tap, in order.

        Parameters
        ----------
        images_nhwc : tensor of shape (m, n_crops, h, w, 3), dtype=uint8
            On the network's device.
        """
        m, n_crops = images_nhwc.shape[:2]
        pixels = self._normalize(images_nhwc.flatten(0, 1))  # (m * n_crops, 3, h, w)
        dtype = PRECISIONS[self.precision]
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            activations = self._tapper(pixels)
        return tuple(
            self._join_crops(activations[name].float(), m, n_crops)
            for name in self.names
        )

    def _join_crops(self, features: torch.Tensor, m: int, n_crops: int) -> torch.Tensor:
        if self.crops == "ten":
            features = features.unflatten(0, (m, n_crops)).mean(dim=1)
        elif self.crops == "ten-stacked":
            features = features.unflatten(0, (m, n_crops))
        return features.contiguous()

    def example(self, batch_size: int) -> torch.Tensor:
        """Return seeded noise in the shape of a batch, on the network's device."""
        shape = (batch_size, N_CROPS[self.crops], *self._crop_size, 3)
        generator = torch.Generator().manual_seed(0)
        noise = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        return noise.to(self.device)

    def fingerprint(self) -> str:
        """Return a text that is the same only where this computes the same.

        The weights stand in it by the digest of the values that are in the module now.
        """
        return json.dumps(
            [
                *self._steps,
                *(self.crops, self.precision, self._preprocessing),
                {name: version(name) for name in ("torch", "torchvision", "timm")},
                __version__,
                state_digest(self.network.state_dict()),
            ]
        )

    @contextlib.contextmanager
    def in_fp32(self) -> Iterator[None]:
        """Compute in float32 for a while, whatever `precision` says."""
        precision, self.precision = self.precision, "fp32"
        try:
            yield
        finally:
            self.precision = precision

    def close(self) -> None:
        """Take the hooks off the network."""
        self._tapper.close()
