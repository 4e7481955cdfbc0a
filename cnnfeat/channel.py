"""A bounded queue between two threads that passes on the end, and errors, as well."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

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
