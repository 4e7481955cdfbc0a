"""The pipeline: order, bounded queues, errors that cross threads, interrupts."""

import threading
import time

import numpy as np
import pytest

from cnnfeat.channel import Channel, EndOfChannel
from cnnfeat.errors import OutputError
from cnnfeat.extraction import Engine
from cnnfeat.extraction._pipeline import StageSeconds, run_pipeline
from cnnfeat.images import Batch


class MeanEngine(Engine):
    """The mean of each image, with a chosen number of batches in flight."""

    name = "mean"

    def __init__(self, depth=1, fails_at=None):
        self.depth = depth
        self.fails_at = fails_at
        self.n_in_flight = self.most_in_flight = self.n_started = 0

    def start(self, images):
        if self.n_started == self.fails_at:
            raise ValueError("engine failed")
        self.n_started += 1
        self.n_in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.n_in_flight)
        return images

    def finish(self, ticket):
        self.n_in_flight -= 1
        return {"mean": ticket.mean(axis=(1, 2, 3, 4), dtype=np.float32)[:, None]}


class ListWriter:
    """Keeps what it is given; slow or failing where asked."""

    def __init__(self, seconds=0.0, fails_at=None):
        self.rows, self.starts, self.n_commits = [], [], 0
        self.threads = set()
        self.seconds, self.fails_at = seconds, fails_at

    def write(self, start, features, ok, errors):
        if len(self.starts) == self.fails_at:
            raise OutputError("disk full")
        time.sleep(self.seconds)
        self.threads.add(threading.current_thread().name)
        self.starts.append(start)
        self.rows.extend(features["mean"][:, 0].tolist())

    def commit(self):
        self.n_commits += 1


def batches(n, fails_at=None, log=None):
    for k in range(n):
        if k == fails_at:
            raise ImportError("decoder failed")
        if log is not None:
            log.append(k)
        images = np.full((4, 1, 3, 2, 2), k, dtype=np.uint8)
        yield Batch(4 * k, images, np.ones(4, bool), ("",) * 4, decode_seconds=0.5)


def run(source, engine=None, writer=None, **changes):
    engine, writer = engine or MeanEngine(), writer or ListWriter()
    given = {
        "batch_size": 32,  # two batches of the queues' rows, whatever these hold
        "seconds": StageSeconds(),
        "check": lambda batch: None,
        "done": lambda n: None,
        "is_stopped": lambda: False,
        **changes,
    }
    run_pipeline(source, engine, writer, **given)
    return writer


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_rows_arrive_in_order_whatever_the_depth(depth):
    engine = MeanEngine(depth)
    done = []
    writer = run(batches(7), engine, done=done.append)
    assert writer.rows == np.repeat(np.arange(7.0), 4).tolist()
    assert writer.threads == {"cnnfeat-write"}
    assert done == [4, 8, 12, 16, 20, 24, 28]
    assert engine.most_in_flight == depth


def test_no_batch_at_all_ends_well():
    assert run(batches(0)).rows == []


def test_the_decoder_runs_only_a_few_batches_ahead_of_a_slow_writer():
    log, ahead = [], []
    writer = ListWriter(seconds=0.01)
    run(
        batches(20, log=log),
        writer=writer,
        done=lambda n: ahead.append(len(log) - len(writer.starts)),
    )
    assert max(ahead) <= 2 + 1 + 2 + 1 + 1  # queue, in hand, queue, in hand, computed


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ({"source": (6, 3)}, ImportError),
        ({"engine": MeanEngine(fails_at=2)}, ValueError),
        ({"engine": MeanEngine(depth=2, fails_at=0)}, ValueError),
        ({"writer": ListWriter(fails_at=1)}, OutputError),
    ],
)
def test_an_error_of_any_stage_is_raised_and_no_thread_stays(parts, error):
    n_threads = threading.active_count()
    source = batches(*parts.pop("source", (50,)))
    with pytest.raises(error, match=r"failed|full"):
        run(source, **parts)
    assert threading.active_count() == n_threads


def test_the_first_error_wins_over_those_it_causes():
    def check(batch):
        if batch.start == 8:
            raise KeyError("check")

    with pytest.raises(KeyError, match="check"):
        run(batches(50), check=check)


def test_the_source_is_closed_when_the_run_ends_early():
    closed = threading.Event()

    def source():
        try:
            yield from batches(100)
        finally:
            closed.set()

    with pytest.raises(ValueError, match="engine failed"):
        run(source(), MeanEngine(fails_at=1))
    assert closed.is_set()


@pytest.mark.parametrize("depth", [1, 2])
def test_a_stopped_run_writes_what_was_begun(depth):
    engine = MeanEngine(depth)
    writer = run(batches(100), engine, is_stopped=lambda: engine.n_started >= 5)
    assert writer.starts == [0, 4, 8, 12, 16]


def test_rows_are_committed_now_and_then(monkeypatch):
    from cnnfeat.extraction import _pipeline as pipeline

    assert run(batches(5)).n_commits == 0
    monkeypatch.setattr(pipeline, "SECONDS_BETWEEN_COMMITS", -1.0)
    assert run(batches(5)).n_commits == 5


def test_seconds_add_up_and_name_the_limit():
    seconds = StageSeconds()
    run(batches(5), writer=ListWriter(seconds=0.05), seconds=seconds)
    assert seconds.decode == 2.5
    assert seconds.write >= 0.25
    assert seconds.to_dict()["limit"] == "write"
    assert StageSeconds(forward=1, wait_for_images=0.5).limit == "decode"
    assert StageSeconds(forward=1, wait_for_images=0.05).limit == "forward"


def test_a_channel_hands_on_items_then_the_error():
    channel = Channel(2)
    assert channel.put("a")
    channel.finish(OSError("gone"))
    assert channel.get() == "a"
    with pytest.raises(OSError, match="gone"):
        channel.get()


def test_a_channel_can_be_given_up_from_either_end():
    channel = Channel(1)
    with pytest.raises(EndOfChannel):
        channel.get(gives_up=lambda: True)
    channel.cancel()
    assert not channel.put("a")
