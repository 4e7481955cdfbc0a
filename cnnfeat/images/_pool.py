"""Worker processes that decode images: started, fed, watched, replaced and stopped.

A `WorkerPool` knows no batches and no order. It hands out tasks, and gives back each
one with its pixels or the reason why there are none:

- a worker that dies is replaced; its image is tried once more, since the cause may have
  lain outside (another program's kill, memory that was short), and then given up;
- so is one that takes longer than `limits.seconds` for an image, by the clock: the
  whole program may have been stopped meanwhile;
- workers that die before they are ready, time after time, end the run.

Pixels pass through anonymous shared memory (a descriptor, no name), which the kernel
frees with the last process that holds it, however that process ends. POSIX only.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import IO

import numpy as np

from cnnfeat.errors import CnnfeatError
from cnnfeat.images._reading import Location
from cnnfeat.images._worker import DecodingJob, Loaded
from cnnfeat.interrupts import SIGNALS

# One task in work and one waiting, so that a worker never waits for the parent.
TASKS_PER_WORKER = 2
_MAX_ATTEMPTS = 2
_MAX_FAILED_STARTS = 3
_START_SECONDS = 120.0
_REAP_SECONDS = 5.0
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_COMMAND = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from cnnfeat.images._worker import main; main(*map(int, sys.argv[2:]))"
)


@dataclass
class Task:
    """One image to load: its row, where it lies, how often it was begun."""

    row: int
    location: Location
    n_attempts: int = 0


@dataclass(frozen=True)
class Result:
    """One image that is done.

    Parameters
    ----------
    row : int
    pixels : ndarray of shape (n_crops, crop_h, crop_w, 3), dtype=uint8, or None
        A view of shared memory, valid until the next result is asked for.
    loaded : Loaded
        What the worker says of it.
    """

    row: int
    pixels: np.ndarray | None
    loaded: Loaded


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    free_slots: list[int]
    stderr: IO[bytes]  # what it says as it dies, such as a failed import
    since: float  # monotonic time at which the present task, or the start, began
    is_ready: bool = False
    tasks: deque[tuple[int, Task]] = field(default_factory=deque)  # (slot, task)


class WorkerPool:
    """A fixed number of worker processes.

    To be made and used by one thread: on Linux workers die with the thread that
    started them.

    Parameters
    ----------
    job : DecodingJob
        What is done to each image.
    n_workers : int
        At least 1.
    """

    def __init__(self, job: DecodingJob, n_workers: int) -> None:
        self._job = job
        self._n_slots = n_workers * TASKS_PER_WORKER
        image_bytes = int(np.prod(job.image_shape))
        self._memory_fd = _shared_memory(self._n_slots * image_bytes)
        self._slots = np.frombuffer(mmap.mmap(self._memory_fd, 0), dtype=np.uint8)
        self._slots = self._slots.reshape(self._n_slots, *job.image_shape)
        self._waiting: deque[Task] = deque()
        self._failed_starts = 0
        self._workers: list[_Worker] = []
        for k in range(n_workers):
            first = k * TASKS_PER_WORKER
            self._start_worker([first + i for i in range(TASKS_PER_WORKER)])

    @property
    def n_free(self) -> int:
        """Return how many more tasks would be begun without waiting."""
        return self._n_slots - self.n_unfinished

    @property
    def n_unfinished(self) -> int:
        """Return how many tasks were submitted and not yet given back."""
        return len(self._waiting) + sum(len(w.tasks) for w in self._workers)

    def submit(self, task: Task) -> None:
        """Take on a task; it is sent to the next worker with a free slot."""
        self._waiting.append(task)
        self._feed()

    def results(self, timeout: float) -> Iterator[Result]:
        """Yield what is done; wait for something to happen, once.

        Parameters
        ----------
        timeout : float
            Seconds after which nothing need have happened.

        Raises
        ------
        CnnfeatError
            If no worker can be started.
        """
        by_connection = {worker.connection: worker for worker in self._workers}
        ready = wait(list(by_connection), min(timeout, self._seconds_left()))
        for connection in ready:
            if isinstance(connection, Connection):
                yield from self._receive(by_connection[connection])
        for worker in list(self._workers):
            if self._is_late(worker, time.monotonic()):
                yield from self._replace_late(worker)
        self._feed()

    def close(self) -> None:
        """Kill the workers, which hold nothing that could be lost, and free all."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            _reap(worker.process)
            worker.connection.close()
            worker.stderr.close()
        self._workers.clear()
        os.close(self._memory_fd)

    def _start_worker(self, slots: list[int]) -> None:
        ours, theirs = Pipe()
        stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed with it)
        with theirs:
            arguments = json.dumps(sys.path), theirs.fileno(), self._memory_fd
            command = [sys.executable, "-c", _COMMAND, *map(str, arguments)]
            with _signals_blocked():
                process = subprocess.Popen(
                    [*command, str(os.getpid())],
                    pass_fds=(theirs.fileno(), self._memory_fd),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                    # One thread each: there is a worker for every core.
                    env={**os.environ, **_ONE_THREAD},
                    # Out of reach of the terminal's Ctrl-C, which the parent handles.
                    process_group=0,
                )
        self._workers.append(_Worker(process, ours, slots, stderr, time.monotonic()))
        try:
            ours.send(self._job)
        except ConnectionError:
            return  # dead already: `results` finds out

    def _feed(self) -> None:
        """Send waiting tasks to the workers that have the fewest."""
        while self._waiting:
            free = [w for w in self._workers if w.is_ready and w.free_slots]
            if not free:
                return
            worker = min(free, key=lambda w: len(w.tasks))
            slot, task = worker.free_slots.pop(), self._waiting.popleft()
            if not worker.tasks:
                worker.since = time.monotonic()
            worker.tasks.append((slot, task))
            try:
                worker.connection.send((slot, task.location))
            except ConnectionError:
                worker.is_ready = False  # dead: `results` finds out

    def _receive(self, worker: _Worker) -> Iterator[Result]:
        try:
            while worker.connection.poll():
                message = worker.connection.recv()
                worker.since = time.monotonic()
                if not worker.is_ready and message == "ready":
                    worker.is_ready, self._failed_starts = True, 0
                    continue
                slot, task = worker.tasks.popleft()
                worker.free_slots.append(slot)
                pixels = None if message.reason else self._slots[slot]
                yield Result(task.row, pixels, message)
        except (EOFError, ConnectionError):
            yield from self._replace_dead(worker)

    def _replace_dead(self, worker: _Worker) -> Iterator[Result]:
        status = _reap(worker.process)
        had_begun = bool(worker.tasks) or worker.is_ready
        given_up = self._give_back(worker)
        if not had_begun:
            self._failed_starts += 1
            if self._failed_starts >= _MAX_FAILED_STARTS:
                raise _cannot_start(worker, status)
        self._replace(worker)
        if given_up is not None:
            reason = f"the decoder was {_ending(status)}"
            yield Result(given_up.row, None, Loaded(reason))

    def _give_back(self, worker: _Worker) -> Task | None:
        """Queue a dead worker's tasks again; return the one that has failed twice."""
        tasks = [task for _, task in worker.tasks]
        if tasks:
            tasks[0].n_attempts += 1  # the worker takes them in turn: it was this one
        is_given_up = bool(tasks) and tasks[0].n_attempts >= _MAX_ATTEMPTS
        self._waiting.extendleft(reversed(tasks[is_given_up:]))
        return tasks[0] if is_given_up else None

    def _replace_late(self, worker: _Worker) -> Iterator[Result]:
        worker.process.kill()
        if not worker.is_ready:
            yield from self._replace_dead(worker)
            return
        _reap(worker.process)
        given_up = self._give_back(worker)
        self._replace(worker)
        if given_up is not None:
            seconds = self._job.limits.seconds
            reason = f"took longer than {seconds:g} s"
            yield Result(given_up.row, None, Loaded(reason, seconds=seconds))

    def _replace(self, worker: _Worker) -> None:
        worker.connection.close()
        worker.stderr.close()
        self._workers.remove(worker)
        self._start_worker(worker.free_slots + [slot for slot, _ in worker.tasks])

    def _is_late(self, worker: _Worker, now: float) -> bool:
        if not worker.is_ready:
            return now - worker.since > _START_SECONDS
        return bool(worker.tasks) and now - worker.since > self._job.limits.seconds

    def _seconds_left(self) -> float:
        """Return the time until the first worker would be late."""
        now = time.monotonic()
        limit = self._job.limits.seconds
        left = [
            (limit if worker.is_ready else _START_SECONDS) - (now - worker.since)
            for worker in self._workers
            if worker.tasks or not worker.is_ready
        ]
        return max(0.0, min(left, default=_START_SECONDS)) + 0.01


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Start processes that no signal to stop reaches, from their first moment on.

    They inherit what is blocked, and ignore it as soon as they can. The parent kills
    them when it has no more use for them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _cannot_start(worker: _Worker, status: int) -> CnnfeatError:
    worker.stderr.seek(0)
    lines = worker.stderr.read().decode("utf-8", "replace").split("\n")
    said = next((line for line in reversed(lines) if line.strip()), "")
    return CnnfeatError(
        f"the decoding processes cannot be started ({_ending(status)}"
        f"{': ' if said else ''}{said.strip()}); try `workers=0`"
    )


def _shared_memory(n_bytes: int) -> int:
    """Return a descriptor of zeroed memory that can be passed to other processes."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("cnnfeat-images", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, n_bytes)
    return descriptor


def _reap(process: subprocess.Popen[bytes]) -> int:
    """Return how a killed or dead process ended; do not wait long for it.

    One that reads from a drive that has vanished dies only when the kernel gives the
    read up. It never comes back to its own code, so nothing of it has to be awaited.
    """
    try:
        return process.wait(_REAP_SECONDS)
    except subprocess.TimeoutExpired:
        return -signal.SIGKILL


def _ending(status: int) -> str:
    """Return how a process ended, in words."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"killed ({signal.Signals(-status).name})"
    except ValueError:
        return f"killed (signal {-status})"
