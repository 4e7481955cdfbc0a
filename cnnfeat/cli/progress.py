"""Progress on stderr: a bar on a terminal, an occasional line elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cnnfeat.cli.output import say

_SECONDS_BETWEEN_LINES = 30.0

Progress = Callable[[int, int, int], None]


@contextmanager
def progress_bar(title: str, *, quiet: bool) -> Iterator[Progress | None]:
    """Yield a callback (n_done, n_all, n_failed), or None when `quiet`."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with _rich_bar(title) as progress:
            yield progress
    else:
        yield _occasional_line(title)


def _occasional_line(title: str) -> Progress:
    """Return a callback that writes a line every half minute and none in between."""
    started = last = time.monotonic()
    first = total = -1

    def progress(n_done: int, n_all: int, n_failed: int) -> None:
        nonlocal started, last, first, total
        now = time.monotonic()
        if n_all != total:  # the first call, or another stage of the work
            started, first, total = now, n_done, n_all
        if now - last < _SECONDS_BETWEEN_LINES:
            return
        last = now
        speed = ""
        if n_done > first:
            rate = (n_done - first) / max(now - started, 1e-9)
            left = (n_all - n_done) / rate
            speed = f" {rate:.1f} a second, {left:.0f} s left,"
        say(f"{title}: {n_done} of {n_all},{speed} {n_failed} failed")

    return progress


@contextmanager
def _rich_bar(title: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress as Bar,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}"),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None, rate="", failed="")

        def progress(n_done: int, n_all: int, n_failed: int) -> None:
            speed = bar.tasks[0].speed
            bar.update(
                task,
                completed=n_done,
                total=n_all,
                rate=f"{speed:.1f}/s" if speed else "",
                failed=f"{n_failed} failed" if n_failed else "",
            )

        yield progress


ByteProgress = Callable[[str, int, int | None], None]
_MIB = 1 << 20


@contextmanager
def byte_progress(*, quiet: bool) -> Iterator[ByteProgress | None]:
    """Yield a callback (file name, bytes so far, bytes in all or None), or None."""
    if quiet:
        yield None
        return
    last = 0.0

    def progress(name: str, n_done: int, n_all: int | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < _SECONDS_BETWEEN_LINES:
            return
        last = now
        of = f" of {n_all / _MIB:.0f}" if n_all else ""
        say(f"download: {name}: {n_done / _MIB:.0f}{of} MiB")

    yield progress
