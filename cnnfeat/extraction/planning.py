"""What a run uses where the user leaves the choice: batch size, workers, engine.

A resumed run takes over what the unfinished file says, so that its rows equal those of
a run that was never interrupted to the bit.
"""

import math
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cnnfeat.errors import CnnfeatWarning, DeviceError
from cnnfeat.images import default_workers
from cnnfeat.networks import (
    CompileEngine,
    EagerEngine,
    Engine,
    EngineError,
    OpenVINOEngine,
    TapModule,
    check_agreement,
)
from cnnfeat.store.journal import read_journal

# Passes of this size use all of an AVX core's and of a GPU's arithmetic; larger ones
# only take memory. Ten crops of an image count as ten.
_CPU_BATCH_SIZE = 32
_GPU_BATCH_SIZE = 256
# An engine is worth its start-up only if the eager one would take so many seconds:
# OpenVINO starts in 3 to 10 s and computes in 0.25 to 0.8 of the eager time,
# torch.compile in 20 to 90 s and 0.5 to 1.
_PAYS_FROM_SECONDS = {"openvino": 15.0, "compile": 180.0}
# What a faster engine must save to be taken, against the noise of two measurements.
_WORTHWHILE = 0.95
# So many images of the first batch, spread over it, are enough to check and to time the
# eager engine on, which is the slowest.
_N_CHECKED = 8
_N_TRIALS = 3


def earlier_choices(output_path: str) -> dict[str, str]:
    """Return the job of the unfinished run of this output; empty without one."""
    state = read_journal(Path(f"{output_path}.part.journal"))
    return state.fingerprint if state is not None and state.rows_done else {}


def choose_batch_size(asked: int | None, n_images: int, n_crops: int, gpu: bool) -> int:
    """Return how many images go through the network at once, at most `n_images`."""
    if asked is None:
        asked = math.ceil((_GPU_BATCH_SIZE if gpu else _CPU_BATCH_SIZE) / n_crops)
    return max(1, min(asked, n_images))


def choose_workers(asked: int | None, n_images: int) -> int:
    """Return how many processes decode; none where starting them takes longer."""
    if asked is not None:
        return asked
    return default_workers() if n_images > 64 else 0


def choose_engine(
    asked: str,
    module: TapModule,
    batch_size: int,
    n_images: int,
    first_batch: Callable[[], np.ndarray],
) -> Engine:
    """Return the engine to use, checked on the first batch against the eager one.

    Parameters
    ----------
    asked : {"auto", "eager", "compile", "openvino"}
        `auto` times the eager engine and tries the others where they could pay for
        their start-up on `n_images`; one that fails costs a warning.
    module : TapModule
        What is to be computed.
    batch_size : int
        Images in one pass.
    n_images : int
        Images in the whole run, those of an earlier part included.
    first_batch : callable () -> ndarray of shape (batch_size, n_crops, h, w, 3), uint8
        Called where an engine has to be checked or timed.

    Raises
    ------
    DeviceError
        If an engine asked for by name cannot be had.
    """
    eager = EagerEngine(module)
    if asked == "eager":
        return eager
    images = first_batch()
    if asked == "auto":
        return _fastest(module, eager, images, n_images, batch_size)
    try:
        engine = _build(asked, module, batch_size)
        _check(module, eager, engine, images)
    except EngineError as error:
        raise DeviceError(f"{error}; or give --engine auto") from error
    return engine


def _fastest(
    module: TapModule,
    eager: Engine,
    images: np.ndarray,
    n_images: int,
    batch_size: int,
) -> Engine:
    """Return the first engine that is faster and pays, or the eager one."""
    few = images[_checked_rows(images)]
    eager(few)  # the first pass is slower
    seconds = _seconds_per_image(eager, few)
    on_gpu = module.device.type == "cuda"
    for name in ("compile",) if on_gpu else ("openvino", "compile"):
        if seconds * n_images < _PAYS_FROM_SECONDS[name]:
            continue
        # Converting a vision transformer has been seen to take minutes.
        if name == "openvino" and _has_attention(module):
            continue
        try:
            engine = _build(name, module, batch_size)
            _check(module, eager, engine, images)
        except EngineError as error:
            warnings.warn(f"{error}; going on without", CnnfeatWarning, stacklevel=2)
            continue
        # Again: before, images were perhaps being decoded on the same cores.
        seconds = min(seconds, _seconds_per_image(eager, few))
        if _seconds_per_image(engine, images) < _WORTHWHILE * seconds:
            return engine
    return eager


def _checked_rows(images: np.ndarray) -> np.ndarray:
    """Return a few rows spread over the batch."""
    n_rows = min(_N_CHECKED, len(images))
    return np.linspace(0, len(images) - 1, n_rows).astype(int)


def _has_attention(module: TapModule) -> bool:
    return any("Attention" in type(m).__name__ for m in module.network.modules())


def _build(name: str, module: TapModule, batch_size: int) -> Engine:
    if name == "openvino":
        return OpenVINOEngine(module, batch_size, default_threads(), module.precision)
    return CompileEngine(module, batch_size)


def default_threads() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def _check(
    module: TapModule, eager: Engine, engine: Engine, images: np.ndarray
) -> None:
    """Hold the engine's features against the eager ones; float32 only."""
    found = engine(images)
    if module.precision == "fp32":
        rows = _checked_rows(images)
        here = {name: features[rows] for name, features in found.items()}
        check_agreement(eager(images[rows]), here, engine.name)


def _seconds_per_image(engine: Engine, images: np.ndarray) -> float:
    """Return the time of one image, batches in flight as in a run: the best of a few.

    One trial alone has been seen to take three times as long, and a run of minutes then
    went on with the slower engine.
    """
    found = []
    for _ in range(_N_TRIALS):
        started = time.perf_counter()
        tickets = [engine.start(images) for _ in range(engine.depth)]
        for ticket in tickets:
            engine.finish(ticket)
        found.append(time.perf_counter() - started)
    return min(found) / (engine.depth * len(images))
