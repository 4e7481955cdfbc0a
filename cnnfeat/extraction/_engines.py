"""How a network's taps are computed: the reference engine, and what all engines share.

An engine takes uint8 crops and gives the features of each tap, pooled and averaged over
crops, in float32. `EagerEngine` runs the module as it is and is the reference; the
others (`compiled`, `openvino`) compute the same from a graph that holds just what the
taps need, within `check_agreement`'s tolerance.
"""

import contextlib
import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import nn

from cnnfeat._version import __version__
from cnnfeat.errors import CnnfeatError, CnnfeatWarning, DeviceError
from cnnfeat.layers import Tap, Tapper, pool_activation, pooled_shape
from cnnfeat.networks import Network, state_digest

ENGINES = ("eager", "compile", "openvino")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
N_CROPS = {"center": 1, "ten": 10, "ten-stacked": 10}
# Crops in one pass that suit most networks, by device. On a CPU the activations of
# eight still fit its caches, those of 32 do not (docs/measurements.md has figures); a
# GPU needs many to be busy.
CROPS_AT_ONCE = {"cpu": 8, "cuda": 256}

# What any engine may differ by from the eager one in float32: the least cosine of a
# row, and the largest difference of a value in parts of the layer's range. What real
# networks differ by in bf16 and fp16 stands in docs/measurements.md.
TOLERANCES = {"fp32": (0.99999, 1e-3), "bf16": (0.99, 0.1), "fp16": (0.9995, 0.02)}


class EngineError(CnnfeatError):
    """An engine cannot be built here, or its features are not the network's."""


def stored_shape(tap: Tap, pool: str, crops: str) -> tuple[int, ...]:
    """Return the shape of one image's features; stacked crops are its first axis."""
    shape = pooled_shape(tap.shape, pool, channels_last=tap.channels_last)
    return (N_CROPS[crops], *shape) if crops == "ten-stacked" else shape


class TapModule(nn.Module):
    """A network from uint8 crops to the features of its taps, as one module.

    Parameters
    ----------
    network : Network
    taps : sequence of Tap
    pool : {"none", "avg", "max", "pyramid"}
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
        self._identity = (network.name, repr(network.module), *map(repr, taps), pool)
        self._preprocessing = network.weights.preprocessing.to_dict()
        self._normalize = network.weights.preprocessing.normalize
        self._crop_size = network.weights.preprocessing.crop_size
        self._tapper = Tapper(
            network,
            taps,
            reduce=lambda tap, activation: pool_activation(
                activation, pool, channels_last=tap.channels_last
            ),
        )

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return one float32 tensor (m, *features) for each tap, in order.

        Parameters
        ----------
        images : tensor of shape (m, n_crops, h, w, 3), dtype=uint8
            On the network's device.
        """
        m, n_crops = images.shape[:2]
        pixels = self._normalize(images.flatten(0, 1).permute(0, 3, 1, 2))
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

    def identity(self) -> str:
        """Return a text that is the same only where this computes the same.

        The weights stand in it by the digest of the values that are in the module now.
        """
        return json.dumps([self.operations(), state_digest(self.network.state_dict())])

    def operations(self) -> str:
        """Return a text that is the same only where this takes the same steps.

        The weights' values do not stand in it, the versions of the libraries do.
        """
        return json.dumps(
            [
                *self._identity,
                *(self.crops, self.precision, self._preprocessing),
                {name: version(name) for name in ("torch", "torchvision", "timm")},
                __version__,
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


class Engine(ABC):
    """Computes the features of one batch after the other.

    Attributes
    ----------
    name : str
        As recorded in the provenance.
    depth : int
        How many batches may be started before the first of them is finished.
    """

    name = ""
    depth = 1

    @abstractmethod
    def start(self, images: np.ndarray) -> Any:
        """Begin a batch and return a ticket for `finish`.

        Parameters
        ----------
        images : ndarray of shape (m, n_crops, h, w, 3), dtype=uint8
            m is at most the batch size.
        """

    @abstractmethod
    def finish(self, ticket: Any) -> dict[str, np.ndarray]:
        """Return the float32 features (m, ...) of each tap; oldest ticket first."""

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the features of one batch."""
        return self.finish(self.start(images))


class EagerEngine(Engine):
    """Runs the module in channels-last layout, line by line.

    A batch that is too large for the device's memory is computed in halves from then
    on, with a warning.
    """

    name = "eager"

    def __init__(self, module: TapModule) -> None:
        self._module = module.to(memory_format=torch.channels_last)
        self._n_at_once: int | None = None
        self._lane = _CudaLane(module.device) if module.device.type == "cuda" else None
        self.depth = 2 if self._lane else 1

    def start(self, images: np.ndarray) -> Any:
        """Compute on the CPU; only queue the work on a GPU."""
        size = min(len(images), self._n_at_once or len(images))
        parts = [images[k : k + size] for k in range(0, len(images), size)]
        try:
            return [self._start_part(part) for part in parts]
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
        self._halve(size)
        return self.start(images)

    def finish(self, ticket: Any) -> dict[str, np.ndarray]:
        """Return the features, on the host."""
        parts = [self._lane.receive(t) if self._lane else t for t in ticket]
        arrays = (torch.cat(tensors).numpy() for tensors in zip(*parts, strict=True))
        return dict(zip(self._module.names, arrays, strict=True))

    def _start_part(self, images: np.ndarray) -> Any:
        with torch.inference_mode():
            if self._lane:
                return self._lane.send(self._module, images)
            return self._module(torch.from_numpy(images))

    def _halve(self, size: int) -> None:
        device = self._module.device
        if size == 1:
            raise DeviceError(
                f"{device}: not enough memory for one image; "
                + ("--device cpu has more" if self._lane else "tap fewer layers")
            )
        if self._lane:
            torch.cuda.empty_cache()
        self._n_at_once = size // 2
        warnings.warn(
            f"{size} images at once are too many for the memory of {device}: going on "
            f"with {self._n_at_once} (--batch-size {self._n_at_once} avoids this line)",
            CnnfeatWarning,
            stacklevel=2,
        )


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Tell whether memory ran out; the CPU's allocator has no class for it."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(
        error
    )


class _CudaLane:
    """Copies to and from a GPU that overlap with what it computes.

    Images go through pinned memory on a stream of their own; features come back into
    pinned memory behind the computation, and an event tells when they are there.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copies = torch.cuda.Stream(device)

    def send(self, module: Any, images: np.ndarray) -> Any:
        """Queue the copy, the network and the copy back."""
        pinned = torch.from_numpy(images).pin_memory()
        with torch.cuda.stream(self._copies):
            there = pinned.to(self._device, non_blocking=True)
        stream = torch.cuda.current_stream(self._device)
        stream.wait_stream(self._copies)
        there.record_stream(stream)
        outputs = module(there)
        back = [
            torch.empty(out.shape, dtype=out.dtype, pin_memory=True).copy_(
                out, non_blocking=True
            )
            for out in outputs
        ]
        arrived = torch.cuda.Event()
        arrived.record(stream)
        return pinned, back, arrived  # `pinned` must outlive the copy

    def receive(self, ticket: Any) -> list[torch.Tensor]:
        """Wait for the features of one batch."""
        _, back, arrived = ticket
        arrived.synchronize()
        return list(back)


def pad_batch(images: np.ndarray, batch_size: int) -> np.ndarray:
    """Return the batch with zeros added up to `batch_size` rows."""
    if len(images) == batch_size:
        return images
    padded = np.zeros((batch_size, *images.shape[1:]), dtype=images.dtype)
    padded[: len(images)] = images
    return padded


def check_agreement(
    reference: Mapping[str, np.ndarray],
    found: Mapping[str, np.ndarray],
    engine: str,
    precision: str = "fp32",
) -> None:
    """Raise EngineError where features leave the tolerance against the eager ones.

    Parameters
    ----------
    reference, found : mapping of str to ndarray of shape (m, ...), dtype=float32
        The same rows by the eager engine in float32 and by another one.
    engine : str
        The other one's name, for the message.
    precision : {"fp32", "bf16", "fp16"}
        The other one's: decides the tolerance.

    Raises
    ------
    EngineError
        If a row's cosine, or a value's difference in parts of the layer's range, is
        beyond `TOLERANCES[precision]`; names the layer and both figures.
    """
    least_cosine, most_difference = TOLERANCES[precision]
    how = engine if precision == "fp32" else f"{engine} in {precision}"
    for name, expected in reference.items():
        a = expected.reshape(len(expected), -1).astype(np.float64)
        b = found[name].reshape(len(expected), -1).astype(np.float64)
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosine = np.ones(len(a))
        np.divide((a * b).sum(axis=1), norms, out=cosine, where=norms > 0)
        span = float(np.ptp(a)) or 1.0
        difference = float(np.abs(a - b).max()) / span
        if not (cosine.min() >= least_cosine and difference <= most_difference):
            raise EngineError(
                f"engine {how}: layer {name!r} is not what eager computes: cosine "
                f"{cosine.min():.6f} (at least {least_cosine}), largest difference "
                f"{difference:.1e} of the range (at most {most_difference:g})"
            )


@contextlib.contextmanager
def quiet_compilers() -> Any:
    """Keep compilers' warnings, which are for their developers, off stderr."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
