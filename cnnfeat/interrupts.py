"""SIGINT, SIGTERM and SIGHUP: once is a wish to stop at a safe place, twice is now."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from cnnfeat.errors import CnnfeatError

SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if hasattr(signal, name)
)


class Interrupted(CnnfeatError):
    """The run was asked to stop; the message says what is kept and how to go on.

    `signum` is the signal's number: the command ends with status 128 + `signum`, as
    shells report it.
    """

    def __init__(self, message: str, signum: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.signum = int(signum)


class Stopped(KeyboardInterrupt):
    """A signal that ends the work where it stands; what is unfinished is removed."""

    def __init__(self, signum: int = signal.SIGINT) -> None:
        super().__init__()
        self.signum = int(signum)


class StopOnSignal:
    """Context manager that turns the first signal into a wish, `is_set`.

    The second one raises `Stopped`. Outside the main thread, where Python takes no
    signals, it does nothing.

    Attributes
    ----------
    signum : int
        The signal that came; SIGINT's number until one does.
    """

    def __init__(self) -> None:
        self.signum = int(signal.SIGINT)
        self._is_set = False
        self._before: dict[int, Any] = {}

    def is_set(self) -> bool:
        """Return whether the run is to stop after the batch it is at."""
        return self._is_set

    def __enter__(self) -> "StopOnSignal":
        if threading.current_thread() is threading.main_thread():
            self._before = {n: signal.signal(n, self._handle) for n in SIGNALS}
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
            raise Stopped(number)
        self._is_set, self.signum = True, number
