"""What a run uses where the user leaves the choice: batch size, workers, engine.

Batch size and engine are measured on the first images, where the run is long enough for
that to pay, and noted for the next run. A resumed run takes over what the unfinished
file says, so that its rows equal those of a run that was never interrupted to the bit.
"""

import ctypes
import math
import time
import warnings
from collections.abc import Callable, Iterable
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
from cnnfeat.extraction._model_cache import cache_folder
from cnnfeat.extraction._speeds import SpeedNote, SpeedNotes, describe_machine
from cnnfeat.extraction._tap_module import TapModule
from cnnfeat.images import N_CROPS
from cnnfeat.machine import usable_cores

# Crops in one pass that suit most networks, by device. On a CPU the activations of
# eight still fit its caches, those of 32 do not (docs/measurements.md has figures); a
# GPU needs many to be busy.
CROPS_AT_ONCE = {"cpu": 8, "cuda": 256}
# Crops in one pass that are tried beside the usual number: a linear layer reads all its
# weights once a batch. More than 16 on a CPU would cost memory that the run itself does
# without.
_OTHER_CROPS_AT_ONCE = {"cpu": 16, "cuda": 64}
# Measuring may cost at most one image in so many.
_ONE_TRIAL_IN = 40
# An engine is worth its start-up only if the eager one would take so many seconds:
# OpenVINO starts in 3 to 10 s and computes in 0.25 to 0.8 of the eager time,
# torch.compile in 20 to 90 s and 0.5 to 1. Networks with attention start in 7 to 25 s
# with OpenVINO, and some are not faster.
_PAYS_FROM_SECONDS = {"openvino": 8.0, "compile": 180.0}
_PAYS_FROM_WITH_ATTENTION = 60.0
# Up to which part of the eager engine's time another one is taken. The trial has the
# cores to itself; while images are decoded on them the eager engine, whose threads wait
# for each other in every layer, loses half its speed, and OpenVINO a third.
_WORTHWHILE = {"openvino": 1.15, "compile": 0.95}
# So much below that it is taken again without measuring.
_WORTH_NOTING = 0.9
# So many images of the first batch, spread over it, are enough to check and to time the
# eager engine on, which is the slowest.
_N_CHECKED = 8
_N_TRIALS = 3


@dataclass(frozen=True)
class Plan:
    """The engine, and how many images go through it at once."""

    engine: Engine
    batch_size: int


def batch_sizes(n_images: int, n_crops: int, device: str) -> list[int]:
    """Return the numbers of images worth trying at once, the usual one first."""
    crops = (CROPS_AT_ONCE[device], _OTHER_CROPS_AT_ONCE[device])
    sizes = [math.ceil(n / n_crops) for n in crops]
    return list(dict.fromkeys(min(size, n_images) for size in sizes))


class Planner:
    """Chooses batch size and engine for one run.

    Parameters
    ----------
    module : TapModule
        What is to be computed.
    n_images : int
        Images in the whole run, those of an earlier part included.
    first_images : callable (n) -> ndarray of shape (n, n_crops, h, w, 3), uint8
        Called at most once, where something has to be checked or timed.
    """

    def __init__(
        self,
        module: TapModule,
        n_images: int,
        first_images: Callable[[int], np.ndarray],
    ) -> None:
        self._module = module
        self._n_images = n_images
        self._decode = first_images
        self._images: np.ndarray | None = None
        self._eager = EagerEngine(module)

    def plan(self, engine: str, batch_size: int | None) -> Plan:
        """Return the plan for what was asked.

        Parameters
        ----------
        engine : {"auto", "eager", "compile", "openvino"}
            `auto` times the eager engine and tries the others where they could pay for
            their start-up; one that fails costs a warning. Every engine but the eager
            one is checked against it.
        batch_size : int or None
            None takes the size that the eager engine is fastest with.

        Raises
        ------
        DeviceError
            If an engine asked for by name cannot be had.
        """
        machine = describe_machine(self._module.device, usable_cores())
        work = f"{self._module.operations()} {batch_size} {machine}"
        notes = SpeedNotes(cache_folder(), work)
        size = min(batch_size or 0, self._n_images) or self._choose_size(notes)
        if engine == "eager":
            return Plan(self._eager, size)
        if engine == "auto":
            return Plan(self._fastest(size, notes), size)
        try:
            return Plan(self._start(engine, size), size)
        except EngineError as error:
            raise DeviceError(f"{error}; or give --engine auto") from error

    def _choose_size(self, notes: SpeedNotes) -> int:
        """Return the noted size, the fastest one, or the usual one of a short run."""
        n_crops = N_CROPS[self._module.crops]
        sizes = batch_sizes(self._n_images, n_crops, self._module.device.type)
        note = notes.find()
        if note is not None and note.batch_size in sizes:
            return note.batch_size
        if self._n_images < _ONE_TRIAL_IN * _N_TRIALS * sum(sizes) or len(sizes) == 1:
            return sizes[0]
        images = self._first(max(sizes))
        seconds = _least_seconds((self._eager, images[:size]) for size in sizes)
        best = sizes[int(np.argmin(seconds))]
        notes.keep(SpeedNote(best))
        return best

    def _fastest(self, size: int, notes: SpeedNotes) -> Engine:
        """Return the first engine that is faster and pays, or the eager one."""
        note = notes.find()
        if note is not None and note.engine and note.batch_size == size:
            if not self._pays(note.engine, note.eager_seconds):
                return self._eager
            try:
                return self._start(note.engine, size)
            except EngineError:
                pass  # it is tried again below, which tells why
        few = self._few(size)
        self._eager(few)  # the first pass is slower
        (seconds,) = _least_seconds([(self._eager, few)])
        on_gpu = self._module.device.type == "cuda"
        for name in ("compile",) if on_gpu else ("openvino", "compile"):
            if not self._pays(name, seconds):
                continue
            try:
                engine = self._start(name, size)
            except EngineError as error:
                warnings.warn(
                    f"{error}; going on without", CnnfeatWarning, stacklevel=2
                )
                continue
            # In turn, so that a busy moment meets both.
            again, found = _least_seconds(
                [(self._eager, few), (engine, self._first(size))]
            )
            seconds = min(seconds, again)
            limit = _WORTHWHILE[name] * seconds
            if found < _WORTH_NOTING * limit:
                notes.keep(SpeedNote(size, name, seconds))
            if found < limit:
                return engine
        return self._eager

    def _pays(self, engine: str, eager_seconds: float) -> bool:
        pays_from = _PAYS_FROM_SECONDS[engine]
        if _has_attention(self._module):
            pays_from = max(pays_from, _PAYS_FROM_WITH_ATTENTION)
        return eager_seconds * self._n_images >= pays_from

    def _start(self, name: str, size: int) -> Engine:
        """Return the engine, its features held against the eager ones."""
        engine = _build(name, self._module, size)
        images = self._first(size)
        rows = _checked_rows(size)
        found = {layer: features[rows] for layer, features in engine(images).items()}
        with self._module.in_fp32():
            expected = self._eager(images[rows])
        check_agreement(expected, found, engine.name, self._module.precision)
        return engine

    def _first(self, n: int) -> np.ndarray:
        """Return the first `n` images; the first call asks for the most."""
        if self._images is None:
            self._images = self._decode(n)
        return self._images[:n]

    def _few(self, size: int) -> np.ndarray:
        return self._first(size)[_checked_rows(size)]


def return_memory() -> None:
    """Give what the start of a run used for a while back to the system.

    glibc keeps freed memory, which would count for the whole of the run.
    """
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _checked_rows(n_images: int) -> np.ndarray:
    """Return a few rows spread over the batch."""
    return np.linspace(0, n_images - 1, min(_N_CHECKED, n_images)).astype(int)


def _has_attention(module: TapModule) -> bool:
    return any("Attention" in type(m).__name__ for m in module.network.modules())


def _build(name: str, module: TapModule, batch_size: int) -> Engine:
    if name == "openvino":
        return OpenVINOEngine(module, batch_size, usable_cores(), module.precision)
    return CompileEngine(module, batch_size)


def _least_seconds(trials: Iterable[tuple[Engine, np.ndarray]]) -> list[float]:
    """Return each trial's time of one image, the least of a few taken in turn.

    One trial alone has been seen to take three times as long, and a run of minutes then
    went on with the slower engine.
    """
    trials = list(trials)
    rounds = [
        [_seconds_per_image(engine, images) for engine, images in trials]
        for _ in range(_N_TRIALS)
    ]
    return [min(times) for times in zip(*rounds, strict=True)]


def _seconds_per_image(engine: Engine, images: np.ndarray) -> float:
    """Return the time of one image, batches in flight as in a run."""
    started = time.perf_counter()
    tickets = [engine.start(images) for _ in range(engine.depth)]
    for ticket in tickets:
        engine.finish(ticket)
    return (time.perf_counter() - started) / (engine.depth * len(images))
