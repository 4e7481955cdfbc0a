"""When a run goes wrong: the loss is not finite, or nothing is learnt."""

import math
from collections.abc import Sequence

from cnnfeat.errors import DataError
from cnnfeat.training._settings import TrainingSettings
from cnnfeat.training._state import EpochRecord

# Epochs after the warm-up in which a run may still be at chance.
_EPOCHS_AT_CHANCE = 3
_FLAT = 0.98  # a loss above this share of another one has not fallen


def check_finite(loss: float, epoch: int, settings: TrainingSettings) -> None:
    """Refuse a loss that is not finite; `epoch` counts from 1.

    Raises
    ------
    DataError
        Saying what to change.
    """
    if not math.isfinite(loss):
        lr = settings.learning_rate
        raise DataError(
            f"the run diverges: the loss is not finite in epoch {epoch} with "
            f"`lr={lr:g}`; try `lr={lr / 10:g}`, `clip_norm=1` or a longer "
            "`warmup_epochs`"
        )


def check_learning(
    history: Sequence[EpochRecord],
    n_validation: int,
    n_classes: int,
    settings: TrainingSettings,
) -> None:
    """Stop a run that is at chance, on the training rows too, after the warm-up.

    Raises
    ------
    DataError
        Saying what to change.
    """
    record, k = history[-1], n_classes
    late = record.epoch >= settings.warmup_epochs + _EPOCHS_AT_CHANCE
    if record.validation_accuracy is None or not late:
        return
    best = max(one.validation_accuracy or 0.0 for one in history)
    # One standard deviation of guessing above chance.
    bound = 1 / k + math.sqrt((1 / k) * (1 - 1 / k) / n_validation)
    losses = (record.loss, record.validation_loss or math.inf)
    falls = record.loss < _FLAT * history[0].loss
    if best <= bound and min(losses) >= _FLAT * math.log(k) and not falls:
        lr = settings.learning_rate
        raise DataError(
            f"the run does not learn: after {record.epoch} epochs validation "
            f"accuracy is {100 * best:.1f} % (chance: {100 / k:.1f} %) with "
            f"`lr={lr:g}`; try `lr={lr / 10:g}` or {lr * 10:g}, or train more layers"
        )
