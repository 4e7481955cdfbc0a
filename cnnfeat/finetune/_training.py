"""The training loop: epochs, validation, the best epoch, checkpoints, divergence."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from cnnfeat.errors import DataError
from cnnfeat.finetune._distributed import World, wrap
from cnnfeat.finetune._options import FinetuneOptions
from cnnfeat.finetune._rows import Rows
from cnnfeat.finetune._schedule import Schedule, build_optimizer
from cnnfeat.finetune._sources import Source
from cnnfeat.finetune._surgery import Trained

_STEPS_BETWEEN_CHECKS = 16
# Epochs after the warm-up in which a run may still be at chance.
_EPOCHS_AT_CHANCE = 3
_FLAT = 0.98  # a loss above this share of another one has not fallen
_DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}

State = dict[str, torch.Tensor]
# Told as (images trained on, in all, failed).
Progress = Callable[[int, int, int], None]


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


@dataclass(frozen=True)
class Job:
    """All that a run trains on and with.

    `model` maps inputs of `source` to class scores; `module` is the whole network,
    whose state dict names what is trained; `feature_norm` is the mean norm of what the
    classifier reads.
    """

    model: nn.Module
    module: nn.Module
    trained: Trained
    source: Source
    rows: Rows
    y: np.ndarray
    n_classes: int
    options: FinetuneOptions
    world: World
    device: torch.device
    save: Callable[[dict[str, Any]], None]
    feature_norm: float
    on_epoch: Callable[[EpochRecord], None] | None = None
    progress: Progress | None = None


@dataclass
class Progressed:
    """Where a run stands: everything that a checkpoint holds beside the weights.

    `step` counts the batches done in `epoch` (from 0), `loss_sum` sums their losses.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    history: list[EpochRecord] = field(default_factory=list)
    best_epoch: int = 0
    best: State = field(default_factory=dict)


class Trainer:
    """Trains a `Job`; `run` returns where it ended, the best weights loaded."""

    def __init__(self, job: Job) -> None:
        self.job = job
        options = job.options
        self._model = wrap(job.model, job.world, job.device)
        self._optimizer = build_optimizer(job.trained, options, job.feature_norm)
        n_batches = len(self._batches(0))
        self._schedule = Schedule(
            options.schedule,
            n_steps=options.epochs * n_batches,
            n_warmup=round(options.warmup_epochs * n_batches),
            patience=options.plateau_epochs,
        )
        needs_scaling = options.precision == "fp16" and job.device.type == "cuda"
        self._scaler = torch.amp.GradScaler(job.device.type, enabled=needs_scaling)
        self._at = Progressed()
        self._start = take_state(job.module, job.trained.names)
        self._saved_at = time.monotonic()

    def run(self, state: dict[str, Any] | None) -> Progressed:
        """Train from the start, or from a checkpoint's state.

        Ctrl-C ends the run with the best epoch so far, once there is one.

        Raises
        ------
        DataError
            If the run diverges; the message says what to change.
        """
        if state is not None:
            self._restore(state)
        devices = [self.job.device] if self.job.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            try:
                while self._at.epoch < self.job.options.epochs and not self._is_stale():
                    self._epoch()
            except KeyboardInterrupt:
                if not self._at.history:
                    raise
        share = self.job.options.start_share
        load_state(self.job.module, mix_states(self._at.best, self._start, share))
        return self._at

    # -- one epoch -------------------------------------------------------------------

    def _batches(self, epoch: int) -> list[np.ndarray]:
        """Return the rows of each batch: another order in every epoch, equal sizes."""
        rows, size = self.job.rows.train, self.job.options.batch_size
        order = np.random.default_rng((self.job.options.seed, epoch)).permutation(rows)
        # Every process needs an image, and statistics need two.
        least = self.job.world.size * (2 if self.job.trained.updates_statistics else 1)
        n_batches = min(math.ceil(len(rows) / size), max(1, len(rows) // least))
        return np.array_split(order, n_batches)

    def _epoch(self) -> None:
        job, at = self.job, self._at
        started = time.monotonic()
        batches = self._batches(at.epoch)
        n_before = sum(len(batch) for batch in batches[: at.step])
        left = batches[at.step :]
        mine = [job.world.share(batch) for batch in left]
        job.trained.set_training(True)
        total = torch.zeros((), device=job.device, dtype=torch.float64)
        inputs = job.source.training(at.epoch, mine)
        for batch, rows, images in zip(left, mine, inputs, strict=True):
            total += self._train_on(images, rows, len(batch), len(batches))
            at.step += 1
            if at.step % _STEPS_BETWEEN_CHECKS == 0 or at.step == len(batches):
                self._check_finite(float(total))
            self._tell(sum(len(done) for done in batches[: at.step]))
            if self._is_time(at.step < len(batches)):
                at.loss_sum += float(total)
                total.zero_()
                self._checkpoint()
        n_images = sum(map(len, batches))
        loss = at.loss_sum + float(total)
        loss = job.world.sum([loss], job.device)[0] / n_images
        seconds = time.monotonic() - started
        self._end_epoch(loss, seconds, (n_images - n_before) / max(seconds, 1e-9))

    def _train_on(
        self, images: torch.Tensor, rows: np.ndarray, n_batch: int, n_batches: int
    ) -> torch.Tensor:
        """Take one step and return the summed loss of this process's images."""
        job, at = self.job, self._at
        step = at.epoch * n_batches + at.step
        # Dropout draws from torch's own generator: seeded by the step, so that a
        # resumed run draws what an uninterrupted one would.
        seed = np.random.SeedSequence((job.options.seed, step, job.world.rank))
        torch.manual_seed(int(seed.generate_state(1)[0]))
        self._schedule.apply(self._optimizer, step)
        labels = torch.from_numpy(job.y[rows]).to(job.device)
        with autocast(job.device, job.options.precision):
            loss = F.cross_entropy(
                self._model(images),
                labels,
                reduction="sum",
                label_smoothing=job.options.label_smoothing,
            )
        # Processes' gradients are averaged, and their parts may differ by one image.
        self._scaler.scale(loss * (job.world.size / n_batch)).backward()
        if job.options.clip_norm is not None:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(
                list(job.trained.parameters.values()), job.options.clip_norm
            )
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        return loss.detach().double()

    def _end_epoch(self, loss: float, seconds: float, rate: float) -> None:
        job, at = self.job, self._at
        job.trained.set_training(False)
        self._check_finite(loss)
        valid = self._validate()
        record = EpochRecord(
            epoch=at.epoch + 1,
            loss=loss,
            validation_loss=valid[0] if valid else None,
            validation_accuracy=valid[1] if valid else None,
            lr=self._optimizer.param_groups[0]["lr"],
            seconds=round(seconds, 3),
            images_per_second=round(rate, 2),
        )
        if self._is_best(record):
            at.best_epoch = record.epoch
            at.best = take_state(job.module, job.trained.names)
        at.history.append(record)
        at.epoch, at.step, at.loss_sum = at.epoch + 1, 0, 0.0
        self._schedule.after_epoch(
            at.epoch * len(self._batches(0)), record.validation_accuracy
        )
        self._checkpoint()
        if job.on_epoch and job.world.is_first:
            job.on_epoch(record)
        self._check_learning(record)

    def _validate(self) -> tuple[float, float] | None:
        """Return mean loss and accuracy on the validation rows, if there are any."""
        job = self.job
        rows = job.world.share(job.rows.validation)
        if not len(job.rows.validation):
            return None
        loss, n_correct = 0.0, 0.0
        for part, scores in predict(job, rows):
            labels = torch.from_numpy(job.y[part])
            loss += float(F.cross_entropy(scores, labels, reduction="sum"))
            n_correct += float((scores.argmax(dim=1) == labels).sum())
        n = len(job.rows.validation)
        loss, n_correct = job.world.sum([loss, n_correct], job.device)
        return loss / n, n_correct / n

    def _is_best(self, record: EpochRecord) -> bool:
        if record.validation_accuracy is None or not self._at.best_epoch:
            return True
        best = self._at.history[self._at.best_epoch - 1]
        return _quality(record) > _quality(best)

    def _is_stale(self) -> bool:
        """Return whether the run has gone on too long without a better epoch."""
        patience = self.job.options.patience
        return bool(
            patience
            and self.job.options.validation
            and self._at.epoch - self._at.best_epoch >= patience
        )

    # -- divergence ------------------------------------------------------------------

    def _check_finite(self, loss: float) -> None:
        if not math.isfinite(loss):
            lr = self.job.options.learning_rate
            raise DataError(
                f"the run diverges: the loss is not finite in epoch "
                f"{self._at.epoch + 1} with --lr {lr:g}; try --lr {lr / 10:g}, "
                "--clip-norm 1 or a longer --warmup-epochs"
            )

    def _check_learning(self, record: EpochRecord) -> None:
        """Stop a run that is at chance, on the training rows too, after the warm-up."""
        options, k = self.job.options, self.job.n_classes
        late = record.epoch >= options.warmup_epochs + _EPOCHS_AT_CHANCE
        if record.validation_accuracy is None or not late:
            return
        best = max(r.validation_accuracy or 0.0 for r in self._at.history)
        n = len(self.job.rows.validation)
        bound = 1 / k + math.sqrt((1 / k) * (1 - 1 / k) / n)
        losses = (record.loss, record.validation_loss or math.inf)
        falls = record.loss < _FLAT * self._at.history[0].loss
        if best <= bound and min(losses) >= _FLAT * math.log(k) and not falls:
            lr = options.learning_rate
            raise DataError(
                f"the run does not learn: after {record.epoch} epochs validation "
                f"accuracy is {100 * best:.1f} % (chance: {100 / k:.1f} %) with --lr "
                f"{lr:g}; try --lr {lr / 10:g} or {lr * 10:g}, or train more layers"
            )

    # -- checkpoints -----------------------------------------------------------------

    def _is_time(self, inside_epoch: bool) -> bool:
        # Several processes would have to agree on the time: each epoch is enough.
        minutes = (time.monotonic() - self._saved_at) / 60
        due = minutes >= self.job.options.checkpoint_minutes
        return inside_epoch and due and self.job.world.size == 1

    def _checkpoint(self) -> None:
        self._saved_at = time.monotonic()
        if self.job.world.is_first:
            self.job.save(self._state())

    def _state(self) -> dict[str, Any]:
        at = self._at
        return {
            "weights": take_state(self.job.module, self.job.trained.names),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "scaler": self._scaler.state_dict(),
            "epoch": at.epoch,
            "step": at.step,
            "loss_sum": at.loss_sum,
            "history": [record.to_dict() for record in at.history],
            "best_epoch": at.best_epoch,
            "best": at.best,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        load_state(self.job.module, state["weights"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._scaler.load_state_dict(state["scaler"])
        self._at = Progressed(
            epoch=state["epoch"],
            step=state["step"],
            loss_sum=state["loss_sum"],
            history=[EpochRecord(**record) for record in state["history"]],
            best_epoch=state["best_epoch"],
            best=state["best"],
        )

    def _tell(self, n_in_epoch: int) -> None:
        job = self.job
        if job.progress and job.world.is_first:
            n = len(job.rows.train)
            n_failed = len(job.rows.failures)
            done = self._at.epoch * n + n_in_epoch
            job.progress(done, job.options.epochs * n, n_failed)


def predict(job: Job, rows: np.ndarray) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    """Yield parts of the rows and their class scores (m, n_classes), on the CPU."""
    n_parts = math.ceil(len(rows) / job.options.batch_size)
    parts = np.array_split(rows, n_parts) if n_parts else []
    with torch.no_grad(), autocast(job.device, job.options.precision):
        for part, inputs in zip(parts, job.source.evaluation(parts), strict=True):
            yield part, job.model(inputs).float().cpu()


def take_state(module: nn.Module, names: tuple[str, ...]) -> State:
    """Return copies of some entries of the state dict, on the CPU."""
    state = module.state_dict()
    return {name: state[name].detach().cpu().clone() for name in names}


def load_state(module: nn.Module, state: State) -> None:
    """Put entries back into the network."""
    module.load_state_dict(state, strict=False)


def mix_states(state: State, other: State, share: float) -> State:
    """Return the average of two states, `share` of it the other; counts stay."""
    return {
        name: torch.lerp(tensor, other[name], share)
        if share and tensor.is_floating_point()
        else tensor
        for name, tensor in state.items()
    }


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context of the forward pass at a precision."""
    dtype = _DTYPES[precision]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def _quality(record: EpochRecord) -> tuple[float, float]:
    return record.validation_accuracy or 0.0, -(record.validation_loss or 0.0)
