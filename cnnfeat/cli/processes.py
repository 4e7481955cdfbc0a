"""Which of several processes speaks, where torchrun started the command; the end."""

import atexit
import os
import sys
from datetime import timedelta
from typing import NoReturn

_SECONDS_TO_ANSWER = 10


def is_first() -> bool:
    """Return whether this is the process that writes and prints; True when alone."""
    return not _has_others() or os.environ.get("RANK", "0") == "0"


def is_first_to_fail() -> bool:
    """Return whether no other process has failed before this one; True when alone.

    Mostly all fail alike, at the same moment, and torchrun ends those that are left:
    the one that comes first must tell, whichever it is. They count themselves in
    torchrun's own store; where there is none, the first process speaks.
    """
    if not _has_others() or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return is_first()
    try:
        from torch.distributed import TCPStore  # a second and more

        store = TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            timeout=timedelta(seconds=_SECONDS_TO_ANSWER),
        )
        run = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        return int(store.add(f"cnnfeat/failed/{run}", 1)) == 1
    except (RuntimeError, KeyError, ValueError, ImportError, AttributeError):
        return is_first()  # no store, or torch's import was interrupted


def leave(status: int) -> NoReturn:
    """End this process without taking its modules apart.

    Python would delete what torch and torchvision have defined object by object, for up
    to a second. What is registered for the end is run; threads are not waited for.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # the reader went away, or the disk is full
            status = status or 1
    os._exit(status)


def _has_others() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1
