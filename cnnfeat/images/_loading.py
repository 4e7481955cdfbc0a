"""Images in batches, in row order, decoded here or by worker processes.

The batches are the same to the bit whatever the number of workers. Memory does not
depend on the number of images: at most `PREFETCHED_CROPS` crops, or two batches, are
decoded ahead of the batch that was asked for.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from cnnfeat.errors import DataError
from cnnfeat.images._decode import DECODERS, DEFAULT_LIMITS, DecodeLimits
from cnnfeat.images._gpu import GpuDecoder, check_decoder
from cnnfeat.images._listing import ImageList
from cnnfeat.images._pool import Result, Task, WorkerPool
from cnnfeat.images._preprocessing import N_CROPS, Preprocessing
from cnnfeat.images._worker import Job, load_into
from cnnfeat.machine import usable_cores

if TYPE_CHECKING:
    import torch

PREFETCHED_CROPS = 64
_MOST_WORKERS = 16


@dataclass(frozen=True, eq=False)
class Batch:
    """Consecutive rows of an `ImageList`, decoded and preprocessed.

    Parameters
    ----------
    start : int
        Row of the first image.
    images : ndarray of shape (m, n_crops, 3, crop_h, crop_w), dtype=uint8
        Zeros where not ok. The memory is laid out (m, n_crops, crop_h, crop_w, 3).
    ok : ndarray of shape (m,), dtype=bool
    errors : tuple of str
        Why an image could not be read; empty where ok.
    decode_seconds : float
        Time spent on these images, summed over the workers.
    """

    start: int
    images: np.ndarray
    ok: np.ndarray
    errors: tuple[str, ...]
    decode_seconds: float = 0.0


def load_batches(
    image_list: ImageList,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    crops: str = "center",
    workers: int = 0,
    first_row: int = 0,
    limits: DecodeLimits = DEFAULT_LIMITS,
    decoder: str = "pil",
    device: torch.device | None = None,
) -> Iterator[Batch]:
    """Yield the images from `first_row` on, in order; the last batch may be shorter.

    An image that cannot be read keeps its row. Closing the iterator, or an interrupt,
    stops the workers.

    Parameters
    ----------
    image_list : ImageList
        Which images.
    preprocessing : Preprocessing
        Resize and crop; normalising is left to the device.
    batch_size : int
        Images in a batch, at least 1.
    crops : {"center", "ten"}
        See `Preprocessing.apply`.
    workers : int
        Processes; 0 decodes in this one, where `limits.seconds` and
        `limits.memory_bytes` cannot be kept.
    first_row : int
        The first image to load, in [0, n_images].
    limits : DecodeLimits
        What one image may cost.
    decoder : {"pil", "fast", "nvjpeg"}
        "fast" decodes large JPEGs at reduced scale, "nvjpeg" JPEGs on the GPU, in this
        process whatever `workers` says: other values, to be recorded.
    device : torch.device, optional
        The GPU of "nvjpeg".

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
    _check("workers", workers, workers >= 0)
    _check("first_row", first_row, 0 <= first_row <= len(image_list))
    _check("crops", crops, crops in N_CROPS)
    _check("decoder", decoder, decoder in DECODERS)
    job = Job(preprocessing, crops, limits, decoder)
    plan = _Plan(image_list, job, batch_size, first_row)
    if decoder == "nvjpeg":
        check_decoder(decoder, device)
        return _load_on_gpu(plan, device)
    if workers == 0:
        return _load_here(plan)
    return _load_in_workers(plan, workers)


def default_workers() -> int:
    """Return a good number of workers: the cores this process may use, at most 16."""
    return min(_MOST_WORKERS, usable_cores())


def _check(name: str, value: object, is_valid: bool) -> None:
    if not is_valid:
        raise DataError(f"load_batches: {name} is out of range: {value!r}")


@dataclass(frozen=True)
class _Plan:
    """Which rows belong to which batch."""

    image_list: ImageList
    job: Job
    batch_size: int
    first_row: int

    def starts(self) -> range:
        return range(self.first_row, len(self.image_list), self.batch_size)

    def open_batch(self, start: int) -> _OpenBatch:
        m = min(self.batch_size, len(self.image_list) - start)
        pixels = np.zeros((m, *self.job.image_shape), dtype=np.uint8)
        return _OpenBatch(start, pixels, [""] * m, m)


@dataclass
class _OpenBatch:
    """A batch that is being filled, in any order."""

    start: int
    pixels: np.ndarray  # (m, n_crops, h, w, 3)
    errors: list[str]
    n_missing: int
    decode_seconds: float = 0.0

    def finish(self) -> Batch:
        return Batch(
            start=self.start,
            images=self.pixels.transpose(0, 1, 4, 2, 3),  # (m, n_crops, 3, h, w)
            ok=np.array([not error for error in self.errors], dtype=bool),
            errors=tuple(self.errors),
            decode_seconds=self.decode_seconds,
        )


def _load_here(plan: _Plan) -> Iterator[Batch]:
    for start in plan.starts():
        batch = plan.open_batch(start)
        for k in range(len(batch.errors)):
            location = plan.image_list.locate(start + k)
            reason, seconds = load_into(plan.job, location, batch.pixels[k])
            batch.errors[k] = reason
            batch.decode_seconds += seconds
        yield batch.finish()


def _load_on_gpu(plan: _Plan, device: torch.device | None) -> Iterator[Batch]:
    with GpuDecoder(plan.job, device) as decoder:
        for start in plan.starts():
            batch = plan.open_batch(start)
            rows = range(start, start + len(batch.errors))
            locations = [plan.image_list.locate(row) for row in rows]
            batch.decode_seconds = decoder.load_into(
                locations, batch.pixels, batch.errors
            )
            yield batch.finish()


def _load_in_workers(plan: _Plan, n_workers: int) -> Iterator[Batch]:
    pump = _Pump(plan, n_workers)
    pump.thread.start()
    try:
        for _ in plan.starts():
            item = pump.finished.get()
            if isinstance(item, BaseException):
                raise item
            pump.let_one_in()
            yield item
    finally:
        pump.stop()


@dataclass
class _Pump:
    """A thread that keeps the workers busy while the batches' reader computes."""

    plan: _Plan
    n_workers: int
    finished: queue.SimpleQueue[Batch | BaseException] = field(
        default_factory=queue.SimpleQueue
    )

    def __post_init__(self) -> None:
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        self._is_stopping = False
        n_crops = self.plan.batch_size * N_CROPS[self.plan.job.crops]
        # Batches that may be open or unread.
        self._n_allowed = 1 + max(2, PREFETCHED_CROPS // n_crops)
        self._open: dict[int, _OpenBatch] = {}  # by start row
        # A daemon, so that an iterator nobody closed does not keep Python from ending.
        self.thread = threading.Thread(
            target=self._run, name="cnnfeat-images", daemon=True
        )

    def let_one_in(self) -> None:
        """Allow one more batch to be begun: one was taken."""
        self._n_allowed += 1
        os.write(self._wake_write, b"\0")

    def stop(self) -> None:
        """Stop the workers and wait until they are gone."""
        self._is_stopping = True
        os.write(self._wake_write, b"\0")
        self.thread.join()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _run(self) -> None:
        try:
            pool = WorkerPool(self.plan.job, self.n_workers)
            try:
                self._drive(pool)
            finally:
                pool.close()
        # Whatever it is, the reader of the batches must hear of it and not wait.
        except BaseException as error:
            self.finished.put(error)

    def _drive(self, pool: WorkerPool) -> None:
        tasks = self._tasks()
        task = next(tasks, None)
        to_finish = iter(self.plan.starts())
        next_start = next(to_finish, None)
        while next_start is not None and not self._is_stopping:
            while task is not None and pool.n_free > 0 and self._may_begin(task):
                self._begin(task)
                pool.submit(task)
                task = next(tasks, None)
            for result in pool.results(self._wake_read):
                self._keep(result)
            self._drain_wake()
            while next_start in self._open and not self._open[next_start].n_missing:
                self.finished.put(self._open.pop(next_start).finish())
                next_start = next(to_finish, None)

    def _tasks(self) -> Iterator[Task]:
        for row in range(self.plan.first_row, len(self.plan.image_list)):
            yield Task(row, self.plan.image_list.locate(row))

    def _may_begin(self, task: Task) -> bool:
        n_before = (task.row - self.plan.first_row) // self.plan.batch_size
        return n_before < self._n_allowed

    def _begin(self, task: Task) -> None:
        start = self._start_of(task.row)
        if start not in self._open:
            self._open[start] = self.plan.open_batch(start)

    def _keep(self, result: Result) -> None:
        start = self._start_of(result.row)
        batch, k = self._open[start], result.row - start
        if result.pixels is not None:
            batch.pixels[k] = result.pixels
        batch.errors[k] = result.reason
        batch.decode_seconds += result.seconds
        batch.n_missing -= 1

    def _start_of(self, row: int) -> int:
        return row - (row - self.plan.first_row) % self.plan.batch_size

    def _drain_wake(self) -> None:
        try:
            while os.read(self._wake_read, 4096):
                pass
        except BlockingIOError:
            return
