"""Where a training run stands: what a checkpoint holds beside weights and optimiser."""

from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from cnnfeat.readback import (
    Anything,
    Described,
    Entries,
    Items,
    Number,
    OrNothing,
    Record,
    fail,
)

Tensors = dict[str, torch.Tensor]  # entries of a state dict


_COUNT = Number(0, whole=True)
_STATE = Record(
    {
        "epoch": _COUNT,
        "step": _COUNT,
        "loss_sum": Number(),
        "history": Items(
            Record(
                {
                    "epoch": _COUNT,
                    "loss": Number(),
                    "validation_loss": Anything(),  # also infinite
                    "validation_accuracy": OrNothing(Number(0, 1)),
                    "lr": Number(),
                    "seconds": Number(0),
                    "images_per_second": Number(0),
                },
                others=None,
            )
        ),
        "best_epoch": _COUNT,
        "best": Entries(),
    },
    others=None,
)


@dataclass(frozen=True)
class EpochRecord:
    """One epoch, counted from 1; accuracies are fractions, losses in nats."""

    epoch: int
    loss: float
    validation_loss: float | None
    validation_accuracy: float | None
    lr: float
    seconds: float
    images_per_second: float

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON types."""
        return asdict(self)


@dataclass
class TrainingState:
    """Where a run stands.

    `step` counts the batches done in `epoch` (from 0), `loss_sum` sums their losses.
    `best` are the trained weights of the epoch `best_epoch`, counted from 1.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    history: list[EpochRecord] = field(default_factory=list)
    best_epoch: int = 0
    best: Tensors = field(default_factory=dict)

    def add(self, record: EpochRecord) -> bool:
        """Take note of an epoch that has ended; return whether it is the best so far.

        Better is a higher validation accuracy, or as high a one with a lower loss;
        without validation rows, later is better.
        """
        best = self.history[self.best_epoch - 1] if self.best_epoch else None
        is_best = (
            best is None
            or record.validation_accuracy is None
            or _quality(record) > _quality(best)
        )
        self.history.append(record)
        self.epoch, self.step, self.loss_sum = record.epoch, 0, 0.0
        if is_best:
            self.best_epoch = record.epoch
        return is_best

    def to_dict(self) -> dict[str, Any]:
        """Return everything as tensors, numbers, and containers of them."""
        fields = {**self.__dict__}
        fields["history"] = [record.to_dict() for record in self.history]
        return fields

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "TrainingState":
        """Return what `to_dict` described.

        Raises
        ------
        Malformed
            Names the field that is missing or something else.
        """
        fields = _STATE.check("at", fields)
        history = [EpochRecord(**record) for record in fields["history"]]
        if not fields["best_epoch"] <= fields["epoch"] == len(history):
            epochs = f"{fields['best_epoch']} of {fields['epoch']}"
            fail("at/history", f"{len(history)} epochs", Described(epochs))
        return cls(**{**fields, "history": history})


def _quality(record: EpochRecord) -> tuple[float, float]:
    return record.validation_accuracy or 0.0, -(record.validation_loss or 0.0)


def interpolate(trained: Tensors, start: Tensors, share: float) -> Tensors:
    """Return the average of two states, `share` of it the start; counts stay.

    References
    ----------
    Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", section 3; their
    alpha is 1 - `share`.
    """
    return {
        name: torch.lerp(tensor, start[name], share)
        if share and tensor.is_floating_point()
        else tensor
        for name, tensor in trained.items()
    }
