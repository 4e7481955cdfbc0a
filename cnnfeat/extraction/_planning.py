"""Engine and batch size, where the user leaves the choice: a fixed table.

Nothing is timed, so the same command makes the same choice, and the same bits, again. A
batch of eight was within 5 % of the fastest size for seven of eight networks on a CPU,
and OpenVINO faster than eager for all without attention (docs/measurements.md). A
resumed run takes over what the unfinished file says.
"""

import ctypes
import math
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from cnnfeat.errors import CnnfeatWarning, DeviceError
from cnnfeat.extraction._engines import (
    EagerEngine,
    Engine,
    EngineError,
    check_agreement,
)
from cnnfeat.extraction._graphs import CompileEngine, OpenVINOEngine
from cnnfeat.extraction._tap_module import TapModule
from cnnfeat.images import N_CROPS
from cnnfeat.machine import usable_cores

# Crops in one pass, by device. On a CPU the activations of eight still fit its caches,
# those of 32 do not; a GPU needs many to be busy.
CROPS_AT_ONCE = {"cpu": 8, "cuda": 256}
# OpenVINO's first start on a network takes 7 s more than eager, the later ones 0.5 s
# (benchmarks/extract.py). Between the two: a first run may lose a few seconds that the
# next one wins back.
_PAYS_FROM_SECONDS = 5.0
# Multiply-accumulates that a core does in a second, eager: between the 9 and 33 billion
# of efficientnet_lite0 (depthwise layers) and VGG-16.
_MACS_A_CORE_SECOND = 2e10
# So many images of a batch, spread over it, are enough to hold an engine against eager.
_N_CHECKED = 8


@dataclass(frozen=True)
class Plan:
    """The engine, and how many images go through it at once."""

    engine: Engine
    batch_size: int


class Planner:
    """Chooses engine and batch size for one run.

    Parameters
    ----------
    module : TapModule
        What is to be computed.
    n_macs : int
        Multiply-accumulates of one crop.
    n_images : int
        Images in the whole run, those of an earlier part included.
    first_images : callable (n) -> ndarray of shape (n, n_crops, h, w, 3), uint8
        Called at most once, where an engine has to be checked.
    """

    def __init__(
        self,
        module: TapModule,
        n_macs: int,
        n_images: int,
        first_images: Callable[[int], np.ndarray],
    ) -> None:
        self._module = module
        self._n_macs = n_macs
        self._n_images = n_images
        self._first_images = first_images
        self._eager = EagerEngine(module)

    def plan(self, engine: str, batch_size: int | None) -> Plan:
        """Return the plan for what was asked.

        Parameters
        ----------
        engine : {"auto", "eager", "compile", "openvino"}
            `auto` is OpenVINO where it pays for its start-up, else eager; where it
            fails, that costs a warning. Every engine but the eager one is held against
            it.
        batch_size : int or None
            None is what suits the device.

        Raises
        ------
        DeviceError
            If an engine asked for by name cannot be had.
        """
        n_crops = N_CROPS[self._module.crops]
        usual = math.ceil(CROPS_AT_ONCE[self._module.device.type] / n_crops)
        size = min(batch_size or usual, self._n_images)
        if engine == "auto":
            engine = "openvino" if self._openvino_pays() else "eager"
            try:
                return Plan(self._start(engine, size), size)
            except EngineError as error:
                warnings.warn(
                    f"{error}; going on without", CnnfeatWarning, stacklevel=4
                )
                return Plan(self._eager, size)
        try:
            return Plan(self._start(engine, size), size)
        except EngineError as error:
            raise DeviceError(f"{error}; or give `engine=auto`") from error

    def _openvino_pays(self) -> bool:
        if self._module.device.type != "cpu" or _has_attention(self._module):
            return False
        n_macs = self._n_images * N_CROPS[self._module.crops] * self._n_macs
        eager_seconds = n_macs / (_MACS_A_CORE_SECOND * usable_cores())
        return eager_seconds >= _PAYS_FROM_SECONDS

    def _start(self, name: str, size: int) -> Engine:
        """Return the engine, its features held against the eager ones."""
        if name == "eager":
            return self._eager
        engine = _build(name, self._module, size)
        images_nhwc = self._first_images(size)
        rows = np.linspace(0, size - 1, min(_N_CHECKED, size)).astype(int)
        found = {
            layer: features[rows] for layer, features in engine(images_nhwc).items()
        }
        with self._module.in_fp32():
            expected = self._eager(images_nhwc[rows])
        check_agreement(expected, found, engine.name, self._module.precision)
        return engine


def return_memory() -> None:
    """Give what the start of a run used for a while back to the system.

    glibc keeps freed memory, which would count for the whole of the run.
    """
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _has_attention(module: TapModule) -> bool:
    """Tell whether OpenVINO is no faster, and starts in 7 to 25 s."""
    return any("Attention" in type(m).__name__ for m in module.network.modules())


def _build(name: str, module: TapModule, batch_size: int) -> Engine:
    if name == "openvino":
        return OpenVINOEngine(module, batch_size, usable_cores(), module.precision)
    return CompileEngine(module, batch_size)
