"""Three stages at once: a thread decodes ahead, this one computes, a thread writes.

The stages are joined by bounded queues, so that memory does not depend on the number
of images and the slowest stage sets the pace. The same code runs whatever the number of
decoding processes; rows reach the writer in order. An error in any stage stops the
others and is raised in the calling thread.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from cnnfeat.channel import Channel, EndOfChannel
from cnnfeat.extraction._engines import Engine
from cnnfeat.images import Batch
from cnnfeat.store import FeatureWriter

# Rows waiting between two stages, but no fewer than two batches: a slow image or a
# commit is bridged by so many rows, whatever the batch size.
_QUEUED_ROWS = 64
# Rows are made safe on disk (flush and fsync) about this often.
SECONDS_BETWEEN_COMMITS = 10.0


@dataclass
class StageSeconds:
    """Where the time of a run went, in seconds.

    Attributes
    ----------
    start : float
        Before the first batch: network, engine, output file.
    decode : float
        Reading, decoding and preprocessing, summed over the decoding processes.
    forward : float
        The network, with the copies to and from its device.
    write : float
        The file, in a thread of its own.
    wait_for_images, wait_for_writer : float
        The network had nothing to do.
    """

    start: float = 0.0
    decode: float = 0.0
    forward: float = 0.0
    write: float = 0.0
    wait_for_images: float = 0.0
    wait_for_writer: float = 0.0

    @property
    def limit(self) -> str:
        """The stage that set the pace: `decode`, `forward` or `write`."""
        waits = {"decode": self.wait_for_images, "write": self.wait_for_writer}
        longest = max(waits, key=lambda stage: waits[stage])
        # A tenth is what the first batch and jitter cost a run that never waits.
        return longest if waits[longest] > 0.1 * self.forward else "forward"

    def to_dict(self) -> dict[str, Any]:
        """Return the seconds, rounded to milliseconds, and the limit."""
        seconds = {name: round(value, 3) for name, value in asdict(self).items()}
        return {**seconds, "limit": self.limit}

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time that the block takes to `stage`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - started
            setattr(self, stage, getattr(self, stage) + elapsed)


class _Rows(NamedTuple):
    """One batch on its way to the file."""

    start: int
    features: dict[str, np.ndarray]
    ok: np.ndarray
    errors: tuple[str, ...]


def run_pipeline(
    batches: Iterator[Batch],
    engine: Engine,
    writer: FeatureWriter,
    *,
    batch_size: int,
    seconds: StageSeconds,
    check: Callable[[Batch], None],
    done: Callable[[int], None],
    is_stopped: Callable[[], bool],
) -> None:
    """Take batches through the engine into the writer, to the end or until stopped.

    Parameters
    ----------
    batches : generator of Batch
        Run, and closed, by a thread of its own.
    engine : Engine
        Used by the calling thread.
    writer : FeatureWriter
        Used by a thread of its own, and by nobody else until this returns.
    batch_size : int
        Rows in a batch.
    seconds : StageSeconds
        Added to.
    check : callable (Batch)
        Called before a batch is computed; may raise.
    done : callable (n_rows)
        Called with the number of rows computed, after each batch.
    is_stopped : callable () -> bool
        When true, the batches at hand are finished and written, and no more.

    Raises
    ------
    Exception
        The first error of any stage; rows committed so far are safe.
    """
    n_queued = max(2, _QUEUED_ROWS // batch_size)
    images: Channel[Batch] = Channel(n_queued)
    rows: Channel[_Rows] = Channel(n_queued)
    ended: Channel[None] = Channel(1)
    decoding = _thread("decode", _decode, batches, images)
    writing = _thread("write", _write, writer, rows, ended, seconds)
    try:
        _compute(images, rows, engine, seconds, check, done, is_stopped)
    except KeyboardInterrupt:
        raise  # the second signal: leave without waiting for the other threads
    except BaseException:
        rows.cancel()
        _stop(images, decoding, rows, writing)
        raise
    _stop(images, decoding, rows, writing)
    _raise_error_of(ended)


def _thread(name: str, target: Callable[..., None], *args: Any) -> threading.Thread:
    # Daemons, so that leaving at once does not wait for them.
    thread = threading.Thread(
        target=target, args=args, name=f"cnnfeat-{name}", daemon=True
    )
    thread.start()
    return thread


def _stop(
    images: Channel[Batch],
    decoding: threading.Thread,
    rows: Channel[_Rows],
    writing: threading.Thread,
) -> None:
    images.cancel()
    rows.finish()
    decoding.join()
    writing.join()


def _raise_error_of(ended: Channel[None]) -> None:
    try:
        ended.get()
    except EndOfChannel:
        return


def _decode(batches: Generator[Batch, None, None], images: Channel[Batch]) -> None:
    """Keep `images` filled until there are no more batches, or nobody takes them."""
    error: BaseException | None = None
    try:
        for batch in batches:
            if not images.put(batch):
                break
    # Whatever it is, the main thread must hear of it and not wait.
    except BaseException as raised:
        error = raised
    finally:
        batches.close()
        images.finish(error)


def _compute(
    images: Channel[Batch],
    rows: Channel[_Rows],
    engine: Engine,
    seconds: StageSeconds,
    check: Callable[[Batch], None],
    done: Callable[[int], None],
    is_stopped: Callable[[], bool],
) -> None:
    """Keep `engine.depth` batches in flight and send their rows on, in order."""
    in_flight: deque[tuple[Batch, Any]] = deque()

    def send_oldest() -> bool:
        batch, ticket = in_flight.popleft()
        with seconds.measure("forward"):
            features = engine.finish(ticket)
        with seconds.measure("wait_for_writer"):
            is_taken = rows.put(_Rows(batch.start, features, batch.ok, batch.errors))
        if is_taken:
            done(batch.start + len(batch.ok))
        return is_taken

    while not is_stopped():
        try:
            with seconds.measure("wait_for_images"):
                batch = images.get(gives_up=is_stopped)
        except EndOfChannel:
            break
        seconds.decode += batch.decode_seconds
        check(batch)
        with seconds.measure("forward"):
            # (m, n_crops, 3, h, w) lies in memory as (m, n_crops, h, w, 3)
            in_flight.append(
                (batch, engine.start(batch.images.transpose(0, 1, 3, 4, 2)))
            )
        if len(in_flight) >= engine.depth and not send_oldest():
            return  # the writer has failed: its error is raised at the end
    while in_flight and send_oldest():
        pass


def _write(
    writer: FeatureWriter,
    rows: Channel[_Rows],
    ended: Channel[None],
    seconds: StageSeconds,
) -> None:
    """Write what comes, and commit now and then and at the end."""
    error: BaseException | None = None
    committed = time.monotonic()
    try:
        while True:
            batch = rows.get()
            with seconds.measure("write"):
                writer.write(*batch)
                if time.monotonic() - committed > SECONDS_BETWEEN_COMMITS:
                    writer.commit()
                    committed = time.monotonic()
    except EndOfChannel:
        pass
    # Whatever it is, the main thread must hear of it and not wait.
    except BaseException as raised:
        error = raised
    finally:
        rows.cancel()
        ended.finish(error)
