"""SIGINT, SIGTERM and SIGHUP end the program: the first cleanly, the second at once.

The first one raises `Stopped` where the main thread is, so that unfinished outputs are
removed on the way out. A verb that can stop at a safe place takes it for itself
(`StopOnSignal`). The second one is seen by a thread of its own: the main thread may be
inside a long computation, where Python takes no signals.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from cnnfeat.cli import processes
from cnnfeat.interrupts import SECONDS_OF_ONE_WISH, SIGNALS, Stopped, signals_to_take

_SECONDS_TO_UNWIND = 1.0
_SECONDS_BETWEEN_RAISES = 0.5


class _Signals:
    """What has come so far; signals belong to the process, so there is one of these."""

    def __init__(self) -> None:
        self.is_watched = False
        self.came: int | None = None  # the signal that has been raised
        self.is_over = False  # there is nothing left to interrupt


_state = _Signals()


def came() -> int | None:
    """Return the number of the signal that interrupted the work; None without one."""
    return _state.came


@contextmanager
def watched() -> Iterator[None]:
    """End the process on a signal: status 128 + its number and one line on stderr."""
    _watch()
    try:
        yield
    except BaseException:
        # Not only `Stopped`: libraries make other errors of what interrupts an import.
        if _state.came is None:
            raise
        _tell()
        processes.leave(128 + _state.came)


def disregard() -> None:
    """Let the process end by itself from here on: its results are out."""
    _state.is_over = True


def _watch() -> None:
    """Take the signals; those that are ignored from the start, as by nohup, stay so."""
    if _state.is_watched:
        return
    _state.is_watched = True
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(
        target=_end_at_second, args=(reading,), name="cnnfeat-signals", daemon=True
    ).start()
    for number in signals_to_take():
        signal.signal(number, _raise_first)
    os.register_at_fork(after_in_child=_leave_to_parent)
    sys.unraisablehook = _hide_stopped


def _leave_to_parent() -> None:
    """Take no signals in a fork: it writes to the same pipe, and would end its parent.

    Libraries fork, and terminate what they have forked.
    """
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        if signal.getsignal(number) is _raise_first:
            signal.signal(number, signal.SIG_DFL)


def _raise_first(number: int, frame: FrameType | None) -> None:
    if _state.came is None and not _state.is_over:
        _state.came = number
        signal.signal(signal.SIGALRM, _raise_again)
        every = _SECONDS_BETWEEN_RAISES
        signal.setitimer(signal.ITIMER_REAL, every, every)
        raise Stopped(number)


def _raise_again(number: int, frame: FrameType | None) -> None:
    """Stop work that went on: an `except:` or a `__del__` has swallowed the first."""
    is_unwinding = sys.exception() is not None
    if _state.came is not None and not is_unwinding and not _state.is_over:
        raise Stopped(_state.came)


def _hide_stopped(unraisable: "sys.UnraisableHookArgs") -> None:
    if not isinstance(unraisable.exc_value, Stopped):
        sys.__unraisablehook__(unraisable)


def _end_at_second(reading: int) -> None:
    """Wait for a second signal, leave the main thread a moment, and end the process."""
    number = _next_signal(reading)
    first = time.monotonic()
    while time.monotonic() - first <= SECONDS_OF_ONE_WISH:
        number = _next_signal(reading)
    time.sleep(_SECONDS_TO_UNWIND)
    if not _state.is_over:
        _tell()
    os._exit(128 + number)


def _next_signal(reading: int) -> int:
    while (number := os.read(reading, 1)[0]) not in SIGNALS:
        pass  # the timer of `_raise_again`
    return number


def _tell() -> None:
    if processes.is_first():
        with suppress(OSError):
            os.write(2, b"cnnfeat: interrupted\n")
