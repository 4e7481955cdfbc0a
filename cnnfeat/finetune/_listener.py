"""Whom a run tells what it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnnfeat.training import EpochRecord


def _ignore(*told: object) -> None:
    """Hear and do nothing."""


@dataclass(frozen=True)
class Listener:
    """Callbacks of a run; by default nobody listens.

    Parameters
    ----------
    stage : callable (str)
        Told what begins, in a few words: `loading squeezenet1_1`.
    step : callable (n_done, n_all, loss)
        Told after each step the training images seen, in all epochs, and the mean loss
        (float) of the epoch so far; None where a GPU has not been asked for it.
    epoch : callable (EpochRecord)
        Told of each epoch.
    """

    stage: Callable[[str], None] = _ignore
    step: Callable[[int, int, float | None], None] = _ignore
    epoch: Callable[[EpochRecord], None] = _ignore
