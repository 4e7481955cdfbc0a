"""SIGINT, SIGTERM and SIGHUP: once is a wish to stop at a safe place, twice is now."""

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

from cnnfeat.errors import CnnfeatError

SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if hasattr(signal, name)
)
# timeout(1) and a closing terminal send a signal twice and mean it once.
SECONDS_OF_ONE_WISH = 0.5


def signals_to_take() -> list[int]:
    """Return `SIGNALS` without those that are ignored, as SIGHUP is under nohup."""
    return [n for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]


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

    The second one raises `Stopped`, unless it comes with the first. Signals that are
    ignored stay so. Outside the main thread, where Python takes no signals, it does
    nothing.

    Attributes
    ----------
    signum : int
        The signal that came; SIGINT's number until one does.
    """

    def __init__(self) -> None:
        self.signum = int(signal.SIGINT)
        self._is_set = False
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def is_set(self) -> bool:
        """Return whether the run is to stop after the batch it is at."""
        return self._is_set

    def __enter__(self) -> "StopOnSignal":
        if threading.current_thread() is threading.main_thread():
            self._before = {
                n: signal.signal(n, self._handle) for n in signals_to_take()
            }
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
        now = time.monotonic()
        if not self._is_set:
            self._is_set, self.signum, self._since = True, number, now
        elif now - self._since > SECONDS_OF_ONE_WISH:
            raise Stopped(number)
