"""A bounded queue between two threads, and reading ahead through one.

It is the only queue of the package: it passes on the end and errors as well as items.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

T = TypeVar("T")

# How often a waiting reader looks whether it is to give up.
_POLL_SECONDS = 0.1


class EndOfChannel(Exception):
    """The sender has finished and everything it sent was taken."""


class Channel(Generic[T]):
    """A first-in first-out queue with one sender and one receiver.

    Parameters
    ----------
    size : int
        Items that may wait; the sender is held up beyond that.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._is_finished = False
        self._is_cancelled = False
        self._error: BaseException | None = None

    def put(self, item: T) -> bool:
        """Wait for room and send; False where the receiver wants no more."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_cancelled or len(self._items) < self._size
            )
            if self._is_cancelled:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def get(self, gives_up: Callable[[], bool] = lambda: False) -> T:
        """Wait for the next item and take it.

        Parameters
        ----------
        gives_up : callable () -> bool
            Looked at while there is nothing to take.

        Raises
        ------
        EndOfChannel
            If nothing will come any more, or `gives_up` says so.
        BaseException
            What the sender finished with, after all that it had sent before.
        """
        with self._changed:
            while not (self._items or self._is_finished or gives_up()):
                self._changed.wait(_POLL_SECONDS)
            if self._items:
                self._changed.notify_all()
                return self._items.popleft()
            if self._error is not None:
                raise self._error
            raise EndOfChannel

    @property
    def is_cancelled(self) -> bool:
        """Whether the receiver wants no more."""
        return self._is_cancelled

    def finish(self, error: BaseException | None = None) -> None:
        """Say that nothing follows; `get` then raises `error` where there is one."""
        with self._changed:
            self._is_finished = True
            self._error = error
            self._changed.notify_all()

    def cancel(self) -> None:
        """Refuse everything that is still sent."""
        with self._changed:
            self._is_cancelled = True
            self._changed.notify_all()


@contextmanager
def read_ahead(
    make_items: Callable[[Callable[[], bool]], Generator[T, None, None]], size: int
) -> Iterator[Channel[T]]:
    """Let a thread of its own run a generator and keep up to `size` items ready.

    The generator is made, run and closed by that thread, which ends with the block.
    After KeyboardInterrupt nobody waits for it: it is a daemon.

    Parameters
    ----------
    make_items : callable (is_wanted) -> generator
        `is_wanted()` turns false when nobody takes items any more; a generator that
        waits for something looks at it.
    size : int
        Items that may wait.
    """
    ready: Channel[T] = Channel(size)

    def work() -> None:
        error: BaseException | None = None
        items = make_items(lambda: not ready.is_cancelled)
        try:
            for item in items:
                if not ready.put(item):
                    break
        # Whatever it is, the reader must hear of it and not wait for ever.
        except BaseException as raised:
            error = raised
        finally:
            items.close()
            ready.finish(error)

    thread = start_thread("read-ahead", work)
    try:
        yield ready
    except KeyboardInterrupt:
        raise
    except BaseException:
        _end(ready, thread)
        raise
    _end(ready, thread)


def _end(ready: Channel[Any], thread: threading.Thread) -> None:
    ready.cancel()
    thread.join()


def start_thread(name: str, target: Callable[[], None]) -> threading.Thread:
    """Start a daemon thread, so that leaving at once does not wait for it."""
    thread = threading.Thread(target=target, name=f"cnnfeat-{name}", daemon=True)
    thread.start()
    return thread
