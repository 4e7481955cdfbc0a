"""Images in batches, in row order, decoded here or by worker processes.

The batches are the same to the bit whatever the number of workers. Memory does not
depend on the number of images: workers hold two images each, and behind a slow image at
most `PREFETCHED_CROPS` crops, or two batches, are decoded ahead of its batch.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cnnfeat.errors import DataError
from cnnfeat.image_table import ImageTable
from cnnfeat.images._decode import DECODERS, DEFAULT_LIMITS, DecodeLimits
from cnnfeat.images._notes import warn_of_notes
from cnnfeat.images._places import locate
from cnnfeat.images._pool import Result, Task, WorkerPool
from cnnfeat.images._preprocessing import N_CROPS, Preprocessing
from cnnfeat.images._worker import DecodingJob, Loaded, load_into
from cnnfeat.machine import most_workers, usable_cores
from cnnfeat.value_range import read_range

if TYPE_CHECKING:
    import torch

PREFETCHED_CROPS = 64
# How often a wait for workers looks whether anybody still wants images.
_POLL_SECONDS = 0.1
_MOST_WORKERS = 16


@dataclass(frozen=True, eq=False)
class Batch:
    """Consecutive rows of an `ImageTable`, decoded and preprocessed.

    Parameters
    ----------
    start : int
        Row of the first image.
    images_nhwc : ndarray of shape (m, n_crops, crop_h, crop_w, 3), dtype=uint8
        Zeros where not ok.
    ok : ndarray of shape (m,), dtype=bool
    errors : tuple of str
        Why an image could not be read; empty where ok.
    decode_seconds : float
        Time spent on these images, summed over the workers.
    digests : tuple of str
        Of each image's bytes (`content_digest`), empty where not ok. None at all where
        the pixels come from no file.
    notes : tuple of m tuple of str
        What is worth a warning; `load_batches` gives it at its end.
    """

    start: int
    images_nhwc: np.ndarray
    ok: np.ndarray
    errors: tuple[str, ...]
    decode_seconds: float = 0.0
    digests: tuple[str, ...] = ()
    notes: tuple[tuple[str, ...], ...] = ()

    @property
    def stop(self) -> int:
        """Row behind the last image."""
        return self.start + len(self.ok)


def load_batches(
    image_list: ImageTable,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    crops: str = "center",
    workers: int = 0,
    first_row: int = 0,
    limits: DecodeLimits = DEFAULT_LIMITS,
    decoder: str = "pil",
    device: torch.device | None = None,
    is_wanted: Callable[[], bool] = lambda: True,
    warns: bool = True,
) -> Generator[Batch, None, None]:
    """Yield the images from `first_row` on, in order; the last batch may be shorter.

    An image that cannot be read keeps its row. Decoding goes on while the generator is
    asked for a batch; `cnnfeat.channel.read_ahead` keeps it asked. Closing it stops the
    workers.

    Parameters
    ----------
    image_list : ImageTable
        Which images.
    preprocessing : Preprocessing
        Resize and crop; normalising is left to the device.
    batch_size : int
        Images in a batch, at least 1.
    crops : {"center", "ten", "ten-stacked"}
        See `Preprocessing.apply`.
    workers : int
        Processes, at most `most_workers()`; 0 decodes in this one, where
        `limits.seconds` and `limits.memory_bytes` cannot be kept.
    first_row : int
        The first image to load, in [0, n_images].
    limits : DecodeLimits
        What one image may cost.
    decoder : {"pil", "fast", "nvjpeg"}
        "fast" decodes large JPEGs at reduced scale, "nvjpeg" JPEGs on the GPU, in this
        process whatever `workers` says: other values, to be recorded.
    device : torch.device, optional
        The GPU of "nvjpeg".
    is_wanted : callable () -> bool
        Looked at now and then while workers decode; false ends the batches.
    warns : bool
        Warn, behind the last batch, of images that use little of the range of their
        values, or have pages that were not asked for.

    Raises
    ------
    DeviceError
        If "nvjpeg" cannot be had on `device`.
    DataError
        If an argument is out of its range (at once, before the first batch).
    CnnfeatError
        If the workers cannot be started.
    """
    _check("batch_size", batch_size, batch_size >= 1)
    _check("workers", workers, 0 <= workers <= most_workers())
    _check("first_row", first_row, 0 <= first_row <= len(image_list))
    _check("crops", crops, crops in N_CROPS)
    _check("decoder", decoder, decoder in DECODERS)
    job = DecodingJob(
        preprocessing, crops, limits, decoder, read_range(image_list.value_range)
    )
    plan = _Plan(image_list, job, batch_size, first_row)
    if decoder == "nvjpeg":
        batches = _load_on_gpu(plan, device)
    elif workers == 0:
        batches = _load_here(plan)
    else:
        batches = _load_in_workers(plan, workers, is_wanted)
    return _warned(batches, image_list) if warns else batches


def _warned(
    batches: Generator[Batch, None, None], image_list: ImageTable
) -> Generator[Batch, None, None]:
    """Yield the batches, and warn of what was noted when all of them have come."""
    noted: dict[str, list[int]] = {}  # rows by note
    n_rows = 0
    with closing(batches):
        for batch in batches:
            for k, notes in enumerate(batch.notes):
                for note in notes:
                    noted.setdefault(note, []).append(batch.start + k)
            n_rows += len(batch.ok)
            yield batch
    if n_rows and batch.stop == len(image_list):
        warn_of_notes(noted, n_rows, image_list)


def default_workers() -> int:
    """Return a good number of workers: the cores this process may use, at most 16."""
    return min(_MOST_WORKERS, usable_cores())


def _check(name: str, value: object, is_valid: bool) -> None:
    if not is_valid:
        raise DataError(f"load_batches: {name} is out of range: {value!r}")


@dataclass(frozen=True)
class _Plan:
    """Which rows belong to which batch."""

    image_list: ImageTable
    job: DecodingJob
    batch_size: int
    first_row: int

    def starts(self) -> range:
        return range(self.first_row, len(self.image_list), self.batch_size)

    def open_batch(self, start: int) -> _OpenBatch:
        m = min(self.batch_size, len(self.image_list) - start)
        pixels = np.zeros((m, *self.job.image_shape), dtype=np.uint8)
        return _OpenBatch(start, pixels, [Loaded()] * m, m)


@dataclass
class _OpenBatch:
    """A batch that is being filled, in any order."""

    start: int
    pixels: np.ndarray  # (m, n_crops, h, w, 3)
    loaded: list[Loaded]
    n_missing: int

    def finish(self) -> Batch:
        return Batch(
            start=self.start,
            images_nhwc=self.pixels,
            ok=np.array([not one.reason for one in self.loaded], dtype=bool),
            errors=tuple(one.reason for one in self.loaded),
            decode_seconds=sum(one.seconds for one in self.loaded),
            digests=tuple(one.digest for one in self.loaded),
            notes=tuple(one.notes for one in self.loaded),
        )


def _load_here(plan: _Plan) -> Generator[Batch, None, None]:
    for start in plan.starts():
        batch = plan.open_batch(start)
        for k in range(len(batch.loaded)):
            location = locate(plan.image_list, start + k)
            batch.loaded[k] = load_into(plan.job, location, batch.pixels[k])
        yield batch.finish()


def _load_on_gpu(
    plan: _Plan, device: torch.device | None
) -> Generator[Batch, None, None]:
    # It imports torch, which `--help` and decoding workers must not pay for.
    from cnnfeat.images._gpu import GpuDecoder, check_decoder

    check_decoder(plan.job.decoder, device)
    with GpuDecoder(plan.job, device) as decoder:
        for start in plan.starts():
            batch = plan.open_batch(start)
            rows = range(start, start + len(batch.loaded))
            locations = [locate(plan.image_list, row) for row in rows]
            batch.loaded = decoder.load_into(locations, batch.pixels)
            yield batch.finish()


def _load_in_workers(
    plan: _Plan, n_workers: int, is_wanted: Callable[[], bool]
) -> Generator[Batch, None, None]:
    pool = WorkerPool(plan.job, n_workers)
    try:
        yield from _Filler(plan, pool).batches(is_wanted)
    finally:
        pool.close()


class _Filler:
    """Keeps a pool of workers busy and puts what comes back where it belongs."""

    def __init__(self, plan: _Plan, pool: WorkerPool) -> None:
        self._plan = plan
        self._pool = pool
        rows = range(plan.first_row, len(plan.image_list))
        self._tasks = (Task(row, locate(plan.image_list, row)) for row in rows)
        self._next: Task | None = next(self._tasks, None)
        self._open: dict[int, _OpenBatch] = {}  # by start row
        n_crops = plan.batch_size * N_CROPS[plan.job.crops]
        # A slow image holds up its own batch only: the next ones may be filled.
        self._n_open = 1 + max(2, PREFETCHED_CROPS // n_crops)

    def batches(self, is_wanted: Callable[[], bool]) -> Generator[Batch, None, None]:
        """Yield the batches in order, until nobody wants the next one."""
        for start in self._plan.starts():
            while start not in self._open or self._open[start].n_missing:
                self._feed(start)
                for result in self._pool.results(_POLL_SECONDS):
                    self._keep(result)
                if not is_wanted():
                    return
            # Before the reader takes the batch, so that workers go on meanwhile.
            self._feed(start + self._plan.batch_size)
            yield self._open.pop(start).finish()

    def _feed(self, start: int) -> None:
        """Submit what the workers have room for, of the batches from `start` on."""
        end = start + self._n_open * self._plan.batch_size
        while self._next is not None and self._next.row < end and self._pool.n_free:
            own = self._start_of(self._next.row)
            if own not in self._open:
                self._open[own] = self._plan.open_batch(own)
            self._pool.submit(self._next)
            self._next = next(self._tasks, None)

    def _keep(self, result: Result) -> None:
        start = self._start_of(result.row)
        batch, k = self._open[start], result.row - start
        if result.pixels is not None:
            batch.pixels[k] = result.pixels
        batch.loaded[k] = result.loaded
        batch.n_missing -= 1

    def _start_of(self, row: int) -> int:
        return row - (row - self._plan.first_row) % self._plan.batch_size
