"""The optimiser, and how its rates change while a run lasts."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch

from cnnfeat.readback import Malformed, Number, Record, Text, fail
from cnnfeat.training._settings import MOMENTUM, TrainingSettings
from cnnfeat.training._surgery import Trained

_COUNT = Number(0, whole=True)
_SCHEDULE = Record(
    {
        "kind": Text(("cosine", "plateau")),
        **dict.fromkeys(("n_steps", "n_warmup", "patience", "n_bad"), _COUNT),
        "factor": Number(0, 1),
        "best": Number(-1, 1),
    },
    others=None,
)
_TENTH = 0.1  # Krizhevsky et al. 2012, section 5: the rate is divided by ten


def build_optimizer(
    trained: Trained, settings: TrainingSettings, input_scale: float
) -> torch.optim.Optimizer:
    """Return the optimiser of what is trained, the classifier first.

    The rate of each group before the schedule is kept as `base_lr`. `input_scale` is
    the mean norm of what the classifier reads, over the 20 that the rates are meant
    for. Above 1 it lowers the classifier's rate: a step moves its scores by the rate
    times the squared norm (AdamW: the norm), and SqueezeNet's norm of 87 would take 19
    times the step that suits others.
    """
    head = f"{trained.classifier}."
    lr = settings.learning_rate
    excess = max(1.0, input_scale)
    head_lr = lr / excess ** (1 if settings.optimizer == "adamw" else 2)
    groups: list[dict[str, Any]] = []
    for is_head, base_lr in ((True, head_lr), (False, lr * settings.backbone_lr_scale)):
        parameters = [
            p for n, p in trained.parameters.items() if n.startswith(head) == is_head
        ]
        if parameters:
            groups.append({"params": parameters, "lr": base_lr, "base_lr": base_lr})
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
    return torch.optim.SGD(
        groups, lr=lr, momentum=MOMENTUM, weight_decay=settings.weight_decay
    )


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Give an optimiser the state that one like it had.

    torch takes over whatever is there, and fails at the next step, or not at all.

    Raises
    ------
    Malformed
        If it is not the state of these parameters with these settings.
    """
    before = [_settings_of(group) for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    if [_settings_of(group) for group in optimizer.param_groups] != before:
        raise Malformed("optimizer/param_groups: of other settings")
    for parameter, buffers in optimizer.state.items():
        for name, value in buffers.items():
            shape = getattr(value, "shape", ())
            if shape not in ((), parameter.shape):
                fail(f"optimizer/{name}", str(tuple(parameter.shape)), tuple(shape))


def _settings_of(group: dict[str, Any]) -> dict[str, Any]:
    """Return what is set of a group for a whole run; its rate follows the schedule."""
    return {key: value for key, value in group.items() if key not in ("params", "lr")}


@dataclass
class Schedule:
    """The factor on every rate: a linear warm-up, then cosine or plateau.

    Attributes
    ----------
    kind : {"cosine", "plateau"}
    n_steps, n_warmup : int
        Of the whole run, in batches.
    patience : int
        Epochs without a better accuracy before plateau divides the rates by ten.
    """

    kind: str
    n_steps: int
    n_warmup: int
    patience: int
    factor: float = 1.0
    best: float = -1.0
    n_bad: int = 0

    def at(self, step: int) -> float:
        """Return the factor for the step-th batch, counted from 0."""
        if step < self.n_warmup:
            return (step + 1) / (self.n_warmup + 1)
        if self.kind == "plateau":
            return self.factor
        share = (step - self.n_warmup) / max(1, self.n_steps - self.n_warmup)
        return 0.5 * (1 + math.cos(math.pi * share))

    def after_epoch(self, step: int, accuracy: float | None) -> None:
        """Take note of an epoch's validation accuracy (a fraction)."""
        if self.kind != "plateau" or accuracy is None or step <= self.n_warmup:
            return
        if accuracy > self.best:
            self.best, self.n_bad = accuracy, 0
            return
        self.n_bad += 1
        if self.n_bad >= self.patience:
            self.factor, self.n_bad = self.factor * _TENTH, 0

    def apply(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Set the optimiser's rates for a step."""
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * self.at(step)

    def state_dict(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned; Malformed for anything else."""
        for name, value in _SCHEDULE.check("schedule", state).items():
            setattr(self, name, value)
