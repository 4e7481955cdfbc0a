"""The one pipeline: a thread reads ahead, this one computes, a thread writes.

The stages are joined by bounded queues, so that memory does not depend on the number of
images and the slowest stage sets the pace. Rows reach the sink in order. An error in
any stage stops the others and is raised in the calling thread.
"""

import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from cnnfeat.channel import Channel, EndOfChannel, read_ahead, start_thread
from cnnfeat.extraction._interfaces import AnyExtractor, Sink, Source
from cnnfeat.images import Batch

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
    def measure(self, stage: str) -> Generator[None, None, None]:
        """Add the time that the block takes to `stage`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - started
            setattr(self, stage, getattr(self, stage) + elapsed)


class _Rows(NamedTuple):
    """One batch on its way to the sink."""

    start: int
    features: dict[str, np.ndarray]
    ok: np.ndarray
    errors: tuple[str, ...]
    digests: tuple[str, ...]


def _rows(batch: Batch, features: dict[str, np.ndarray]) -> _Rows:
    return _Rows(batch.start, features, batch.ok, batch.errors, batch.digests)


def _never() -> bool:
    return False


def run(
    source: Source,
    extractor: AnyExtractor,
    sink: Sink,
    *,
    seconds: StageSeconds | None = None,
    done: Callable[[Batch], None] | None = None,
    is_stopped: Callable[[], bool] = _never,
) -> None:
    """Take every row that the sink has not got yet through the extractor.

    Parameters
    ----------
    source : Source
    extractor : AnyExtractor
        Its batch size is settled: `Extractor.plan` has been called, or it was given.
    sink : Sink
        Used by a thread of its own, and by nobody else until this returns.
    seconds : StageSeconds, optional
        Added to.
    done : callable (Batch), optional
        Called after each batch, once it has been computed; may raise.
    is_stopped : callable () -> bool
        When true, the batches at hand are finished and written, and no more.

    Raises
    ------
    Exception
        The first error of any stage; rows committed so far are safe.
    """
    seconds = seconds or StageSeconds()
    rows: Channel[_Rows] = Channel(_n_queued(extractor))
    ended: Channel[None] = Channel(1)
    writing = start_thread("write", partial(_write, sink, rows, ended, seconds))
    computed = compute(source, extractor, sink.rows_done, seconds, is_stopped)
    try:
        for batch, features in computed:
            with seconds.measure("wait_for_writer"):
                taken = rows.put(_rows(batch, features))
            if not taken:
                break  # the sink has failed: its error is raised at the end
            if done:
                done(batch)
    except KeyboardInterrupt:
        raise  # the second signal: leave without waiting for the other threads
    except BaseException:
        rows.cancel()
        rows.finish()
        writing.join()
        raise
    computed.close()
    rows.finish()
    writing.join()
    _raise_error_of(ended)


def compute(
    source: Source,
    extractor: AnyExtractor,
    first_row: int = 0,
    seconds: StageSeconds | None = None,
    is_stopped: Callable[[], bool] = _never,
) -> Generator[tuple[Batch, dict[str, np.ndarray]], None, None]:
    """Yield each batch and its features, in order; the one loop over batches of pixels.

    Up to `extractor.depth` batches are in flight while the source is read ahead.
    """
    seconds = seconds or StageSeconds()
    size = extractor.batch_size or _n_at_once(source)
    in_flight: deque[tuple[Batch, Any]] = deque()

    def finish_oldest() -> tuple[Batch, dict[str, np.ndarray]]:
        batch, ticket = in_flight.popleft()
        with seconds.measure("forward"):
            return batch, extractor.finish(ticket)

    reading = partial(source.batches, size, first_row)
    with read_ahead(reading, max(2, _QUEUED_ROWS // size)) as images:
        while not is_stopped():
            try:
                with seconds.measure("wait_for_images"):
                    batch = images.get(gives_up=is_stopped)
            except EndOfChannel:
                break
            seconds.decode += batch.decode_seconds
            with seconds.measure("forward"):
                in_flight.append((batch, extractor.start(batch.images_nhwc)))
            if len(in_flight) >= extractor.depth:
                yield finish_oldest()
        while in_flight:
            yield finish_oldest()


def _n_queued(extractor: AnyExtractor) -> int:
    return max(2, _QUEUED_ROWS // (extractor.batch_size or _QUEUED_ROWS))


def _n_at_once(source: Source) -> int:
    return max(1, min(source.n_images, _QUEUED_ROWS))


def _raise_error_of(ended: Channel[None]) -> None:
    try:
        ended.get()
    except EndOfChannel:
        return


def _write(
    sink: Sink, rows: Channel[_Rows], ended: Channel[None], seconds: StageSeconds
) -> None:
    """Hand on what comes, and commit now and then and at the end."""
    error: BaseException | None = None
    committed = time.monotonic()
    try:
        while True:
            batch = rows.get()
            with seconds.measure("write"):
                sink.write(*batch)
                if time.monotonic() - committed > SECONDS_BETWEEN_COMMITS:
                    sink.commit()
                    committed = time.monotonic()
    except EndOfChannel:
        pass
    # Whatever it is, the main thread must hear of it and not wait.
    except BaseException as raised:
        error = raised
    finally:
        rows.cancel()
        ended.finish(error)
