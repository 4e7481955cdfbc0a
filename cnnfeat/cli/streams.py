"""The standard streams, whatever the shell has left of them.

Where one is closed (`<&-`, `>&-`, `2>&-`), the next file that is opened would get its
number, and whatever is printed would land inside that file. So the null device takes
the place. What is told on stderr may be lost, and never ends the work. No click here:
this is imported before the program takes signals.
"""

import contextlib
import os
import sys
from typing import Any

from cnnfeat.errors import OutputError

_NAMES = ("stdin", "stdout", "stderr")


class _Streams:
    """What was found at the start; streams belong to the process."""

    def __init__(self) -> None:
        self.are_kept = False
        self.is_stdout_closed = False


_state = _Streams()


class _Lossy:
    """A text stream that loses what cannot be written: a full disk, a closed end."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or do not."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, or do not."""
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def keep() -> None:
    """Put the null device in the place of closed streams; once in a process."""
    if _state.are_kept:
        return
    _state.are_kept = True
    _state.is_stdout_closed = sys.stdout is None
    for number, name in enumerate(_NAMES):
        mode = "w" if number else "r"
        if _is_closed(number):
            # The lowest number that is free: those below are open by now.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    sys.stderr = _Lossy(sys.stderr)


def require_stdout(*outputs: str | None) -> None:
    """Refuse, before any work, a command all of whose results would be lost.

    Parameters
    ----------
    *outputs : str or None
        Files that hold the results, too, where they are asked for.

    Raises
    ------
    OutputError
        If stdout is closed and there is no other output.
    """
    if _state.is_stdout_closed and not any(outputs):
        raise OutputError(
            "stdout is closed, and nothing would be left of the work: give > FILE"
        )


def tell_what_is_lost() -> None:
    """Say on stderr that results were printed into nothing, if they were."""
    if _state.is_stdout_closed:
        lost = "stdout is closed: what would be printed is lost"
        print(f"cnnfeat: warning: {lost}", file=sys.stderr)


def _is_closed(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return True
    return False
