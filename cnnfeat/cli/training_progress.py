"""What fine-tuning tells on stderr: what it does, a bar while it trains, its epochs."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cnnfeat.cli import processes
from cnnfeat.cli.output import say
from cnnfeat.report import format_percent

if TYPE_CHECKING:
    from cnnfeat.finetune import EpochRecord

_SECONDS_BETWEEN_LINES = 30.0


class Silent:
    """Tells nothing; the others tell the same moments in their own way."""

    def stage(self, text: str) -> None:
        """Take note of what begins."""

    def step(self, n_done: int, n_all: int, loss: float | None) -> None:
        """Take note of the training images seen."""

    def epoch(self, record: "EpochRecord") -> None:
        """Take note of an epoch."""


class Lines(Silent):
    """A line for each thing that begins, each epoch, and each half minute of one."""

    def __init__(self, n_epochs: int) -> None:
        self._n_epochs = n_epochs
        self._last = time.monotonic()

    def stage(self, text: str) -> None:
        """Say what begins."""
        say(f"finetune: {text}")

    def step(self, n_done: int, n_all: int, loss: float | None) -> None:
        """Say how far it is, now and then."""
        now = time.monotonic()
        if now - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = now
            told = "" if loss is None else f", loss {loss:.4f}"
            say(f"finetune: {n_done} of {n_all} training images{told}")

    def epoch(self, record: "EpochRecord") -> None:
        """Say how an epoch ended."""
        self._last = time.monotonic()
        say(_epoch_line(record, self._n_epochs))


class Bar(Silent):
    """What it does, as a bar that stays below the epochs' lines."""

    def __init__(self, bar: Any, n_epochs: int) -> None:
        self._bar, self._n_epochs = bar, n_epochs
        self._task = bar.add_task("", total=None, scores="")
        self._n_epochs_done = 0
        self._validation = ""

    def stage(self, text: str) -> None:
        """Show what begins; how long it takes is not known."""
        # A new task: neither the rate nor the time of the last stage counts any more.
        self._bar.remove_task(self._task)
        self._task = self._bar.add_task(text, total=None, scores="")

    def step(self, n_done: int, n_all: int, loss: float | None) -> None:
        """Show how far it is, with the loss so far and the last validation accuracy."""
        number = self._n_epochs_done + 1
        told = [] if loss is None else [f"loss {loss:.3f}"]
        self._bar.update(
            self._task,
            description=f"epoch {number} of {self._n_epochs}",
            completed=n_done,
            total=n_all,
            scores=", ".join(told + [self._validation] * bool(self._validation)),
        )

    def epoch(self, record: "EpochRecord") -> None:
        """Say how an epoch ended, above the bar."""
        self._n_epochs_done = record.epoch
        if record.validation_accuracy is not None:
            self._validation = f"valid. {format_percent(record.validation_accuracy)} %"
        say(_epoch_line(record, self._n_epochs))


def _epoch_line(record: "EpochRecord", n_epochs: int) -> str:
    accuracy = record.validation_accuracy
    valid = "" if accuracy is None else f", validation {format_percent(accuracy)} %"
    width = len(str(n_epochs))
    return (
        f"epoch {record.epoch:{width}} of {n_epochs}: loss {record.loss:.4f}{valid}, "
        f"{record.images_per_second:,.0f} images/s"
    )


@contextmanager
def training_progress(n_epochs: int, *, quiet: bool) -> Iterator[Silent]:
    """Yield who is to be told: of several processes the first one speaks."""
    if quiet or not processes.is_first():
        yield Silent()
    elif not sys.stderr.isatty():
        yield Lines(n_epochs)
    else:
        with _rich_bar() as bar:
            yield Bar(bar, n_epochs)


def _rich_bar() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[scores]}"),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)
