"""SIGINT and SIGTERM: once finishes the batch and keeps the rows, twice leaves now."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from cnnfeat.errors import CnnfeatError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class ExtractionInterrupted(CnnfeatError):
    """The run was asked to stop; the message says how many rows are kept."""


class StopOnSignal:
    """Context manager that turns the first signal into a wish, `is_set`.

    The second one raises KeyboardInterrupt. Outside the main thread, where Python
    takes no signals, it does nothing.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._before: dict[int, Any] = {}

    def is_set(self) -> bool:
        """Return whether the run is to stop after the batch it is at."""
        return self._is_set

    def __enter__(self) -> "StopOnSignal":
        if threading.current_thread() is threading.main_thread():
            self._before = {n: signal.signal(n, self._handle) for n in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._is_set:
            raise KeyboardInterrupt
        self._is_set = True
