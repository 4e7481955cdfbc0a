"""The pipeline: order, bounded queues, errors that cross threads, interrupts."""

import threading
import time

import numpy as np
import pytest

from cnnfeat import extraction
from cnnfeat.channel import Channel, EndOfChannel
from cnnfeat.errors import OutputError
from cnnfeat.extraction import StageSeconds
from cnnfeat.images import Batch
from cnnfeat.layer_spec import LayerSpec


class MeanExtractor:
    """The mean of each image, with a chosen number of batches in flight."""

    batch_size = 32  # two batches of the queues' rows, whatever these hold
    specs = (LayerSpec("mean", "mean", (1,)),)

    def provenance(self):
        return {"model": "mean"}

    def __init__(self, depth=1, fails_at=None):
        self.depth = depth
        self.fails_at = fails_at
        self.n_in_flight = self.most_in_flight = self.n_started = 0

    def start(self, images):
        if self.n_started == self.fails_at:
            raise ValueError("extractor failed")
        self.n_started += 1
        self.n_in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.n_in_flight)
        return images

    def finish(self, ticket):
        self.n_in_flight -= 1
        return {"mean": ticket.mean(axis=(1, 2, 3, 4), dtype=np.float32)[:, None]}


class ListSink:
    """Keeps what it is given; slow or failing where asked."""

    def __init__(self, seconds=0.0, fails_at=None):
        self.rows, self.starts, self.n_commits = [], [], 0
        self.digests = []
        self.threads = set()
        self.seconds, self.fails_at = seconds, fails_at
        self.rows_done = 0

    def write(self, start, features, ok, errors, digests):
        if len(self.starts) == self.fails_at:
            raise OutputError("disk full")
        time.sleep(self.seconds)
        self.threads.add(threading.current_thread().name)
        self.starts.append(start)
        self.rows.extend(features["mean"][:, 0].tolist())
        self.digests.extend(digests)

    def commit(self):
        self.n_commits += 1


class CountingSource:
    """Batches of four images that hold their batch's number."""

    def __init__(self, n, fails_at=None, log=None):
        self.n, self.fails_at, self.log = n, fails_at, log if log is not None else []
        self.n_images, self.closed = 4 * n, threading.Event()

    def batches(self, batch_size, first_row, is_wanted):
        try:
            for k in range(first_row // 4, self.n):
                if k == self.fails_at:
                    raise ImportError("decoder failed")
                self.log.append(k)
                images = np.full((4, 1, 2, 2, 3), k, dtype=np.uint8)
                digests = tuple(f"{k}{letter}" for letter in "abcd")
                ok = np.ones(4, bool)
                yield Batch(4 * k, images, ok, ("",) * 4, 0.5, digests)
        finally:
            self.closed.set()


def run(source, extractor=None, sink=None, **changes):
    sink = sink or ListSink()
    extraction.run(source, extractor or MeanExtractor(), sink, **changes)
    return sink


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_rows_arrive_in_order_whatever_the_depth(depth):
    extractor = MeanExtractor(depth)
    done = []
    sink = run(CountingSource(7), extractor, done=lambda batch: done.append(batch.stop))
    assert sink.rows == np.repeat(np.arange(7.0), 4).tolist()
    assert sink.digests == [f"{k}{letter}" for k in range(7) for letter in "abcd"]
    assert sink.threads == {"cnnfeat-write"}
    assert done == [4, 8, 12, 16, 20, 24, 28]
    assert extractor.most_in_flight == depth


def test_no_batch_at_all_ends_well():
    assert run(CountingSource(0)).rows == []


def test_the_decoder_runs_only_a_few_batches_ahead_of_a_slow_sink():
    log, ahead = [], []
    sink = ListSink(seconds=0.01)
    run(
        CountingSource(20, log=log),
        sink=sink,
        done=lambda batch: ahead.append(len(log) - len(sink.starts)),
    )
    assert max(ahead) <= 2 + 1 + 2 + 1 + 1  # queue, in hand, queue, in hand, computed


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ({"source": (6, 3)}, ImportError),
        ({"extractor": MeanExtractor(fails_at=2)}, ValueError),
        ({"extractor": MeanExtractor(depth=2, fails_at=0)}, ValueError),
        ({"sink": ListSink(fails_at=1)}, OutputError),
    ],
)
def test_an_error_of_any_stage_is_raised_and_no_thread_stays(parts, error):
    n_threads = threading.active_count()
    source = CountingSource(*parts.pop("source", (50,)))
    with pytest.raises(error, match=r"failed|full"):
        run(source, **parts)
    assert threading.active_count() == n_threads


def test_the_first_error_wins_over_those_it_causes():
    def done(batch):
        if batch.stop == 12:
            raise KeyError("done")

    with pytest.raises(KeyError, match="done"):
        run(CountingSource(50), done=done)


def test_the_source_is_closed_when_the_run_ends_early():
    source = CountingSource(100)
    with pytest.raises(ValueError, match="extractor failed"):
        run(source, MeanExtractor(fails_at=1))
    assert source.closed.is_set()


def test_a_run_begins_behind_the_rows_that_the_sink_has():
    sink = ListSink()
    sink.rows_done = 12
    assert run(CountingSource(5), sink=sink).starts == [12, 16]


@pytest.mark.parametrize("depth", [1, 2])
def test_a_stopped_run_writes_what_was_begun(depth):
    extractor = MeanExtractor(depth)
    sink = run(
        CountingSource(100), extractor, is_stopped=lambda: extractor.n_started >= 5
    )
    assert sink.starts == [0, 4, 8, 12, 16]


def test_rows_are_committed_now_and_then(monkeypatch):
    from cnnfeat.extraction import _run as pipeline

    assert run(CountingSource(5)).n_commits == 0
    monkeypatch.setattr(pipeline, "SECONDS_BETWEEN_COMMITS", -1.0)
    assert run(CountingSource(5)).n_commits == 5


def test_seconds_add_up_and_name_the_limit():
    seconds = StageSeconds()
    run(CountingSource(5), sink=ListSink(seconds=0.05), seconds=seconds)
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
