"""How a network's taps are computed: the reference engine, and what all engines share.

An engine takes uint8 crops and gives the features of each tap, pooled and averaged over
crops, in float32. `EagerEngine` runs the module as it is and is the reference; the
others (`_graphs`) compute the same from a graph that holds just what the taps need,
within `check_agreement`'s tolerance.
"""

import contextlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from cnnfeat.errors import CnnfeatError, CnnfeatWarning, DeviceError
from cnnfeat.extraction._tap_module import TapModule
from cnnfeat.machine import is_out_of_memory

ENGINES = ("eager", "compile", "openvino")

# What any engine may differ by from the eager one in float32: the least cosine of a
# row, and the largest difference of a value in parts of the layer's range. What real
# networks differ by in bf16 and fp16 stands in docs/measurements.md.
TOLERANCES = {"fp32": (0.99999, 1e-3), "bf16": (0.99, 0.1), "fp16": (0.9995, 0.02)}


class EngineError(CnnfeatError):
    """An engine cannot be built here, or its features are not the network's."""


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
    def start(self, images_nhwc: np.ndarray) -> Any:
        """Begin a batch and return a ticket for `finish`.

        Parameters
        ----------
        images_nhwc : ndarray of shape (m, n_crops, h, w, 3), dtype=uint8
            m is at most the batch size.
        """

    @abstractmethod
    def finish(self, ticket: Any) -> dict[str, np.ndarray]:
        """Return the float32 features (m, ...) of each tap; oldest ticket first."""

    def __call__(self, images_nhwc: np.ndarray) -> dict[str, np.ndarray]:
        """Return the features of one batch."""
        return self.finish(self.start(images_nhwc))


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

    def start(self, images_nhwc: np.ndarray) -> Any:
        """Compute on the CPU; only queue the work on a GPU."""
        size = min(len(images_nhwc), self._n_at_once or len(images_nhwc))
        parts = [images_nhwc[k : k + size] for k in range(0, len(images_nhwc), size)]
        try:
            return [self._start_part(part) for part in parts]
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        self._halve(size)
        return self.start(images_nhwc)

    def finish(self, ticket: Any) -> dict[str, np.ndarray]:
        """Return the features, on the host."""
        parts = [self._lane.receive(t) if self._lane else t for t in ticket]
        arrays = (torch.cat(tensors).numpy() for tensors in zip(*parts, strict=True))
        return dict(zip(self._module.names, arrays, strict=True))

    def _start_part(self, images_nhwc: np.ndarray) -> Any:
        with torch.inference_mode():
            if self._lane:
                return self._lane.send(self._module, images_nhwc)
            return self._module(torch.from_numpy(images_nhwc))

    def _halve(self, size: int) -> None:
        device = self._module.device
        if size == 1:
            raise DeviceError(
                f"{device}: not enough memory for one image; "
                + ("`device=cpu` has more" if self._lane else "tap fewer layers")
            )
        if self._lane:
            torch.cuda.empty_cache()
        self._n_at_once = size // 2
        warnings.warn(
            f"{size} images at once are too many for the memory of {device}: going on "
            f"with {self._n_at_once} (`batch_size={self._n_at_once}` avoids this line)",
            CnnfeatWarning,
            stacklevel=2,
        )


class _CudaLane:
    """Copies to and from a GPU that overlap with what it computes.

    Images go through pinned memory on a stream of their own; features come back into
    pinned memory behind the computation, and an event tells when they are there.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copies = torch.cuda.Stream(device)

    def send(self, module: Any, images_nhwc: np.ndarray) -> Any:
        """Queue the copy, the network and the copy back."""
        pinned = torch.from_numpy(images_nhwc).pin_memory()
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


def pad_batch(images_nhwc: np.ndarray, batch_size: int) -> np.ndarray:
    """Return the batch with zeros added up to `batch_size` rows."""
    if len(images_nhwc) == batch_size:
        return images_nhwc
    padded = np.zeros((batch_size, *images_nhwc.shape[1:]), dtype=images_nhwc.dtype)
    padded[: len(images_nhwc)] = images_nhwc
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
