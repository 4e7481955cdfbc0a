"""The training loop: steps, epochs, validation, the best epoch, where to go on from."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from cnnfeat.interrupts import Interrupted, StopOnSignal
from cnnfeat.training._checkpoint import Checkpoint
from cnnfeat.training._divergence import check_finite, check_learning
from cnnfeat.training._schedule import Schedule, build_optimizer, load_optimizer
from cnnfeat.training._settings import TrainingSettings
from cnnfeat.training._state import EpochRecord, TrainingState, interpolate
from cnnfeat.training._surgery import Trained
from cnnfeat.training._world import World, wrap

_STEPS_BETWEEN_CHECKS = 16
_DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Inputs(Protocol):
    """Gives what a model reads, on its device, for batches of rows."""

    def training(
        self, epoch: int, batches: Sequence[np.ndarray]
    ) -> Iterator[torch.Tensor]:
        """Yield inputs (m, ...) to train on in one epoch."""
        ...

    def evaluation(self, batches: Sequence[np.ndarray]) -> Iterator[torch.Tensor]:
        """Yield inputs (m, ...), the same in every epoch."""
        ...


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """What is trained, on what, and how.

    Attributes
    ----------
    model : torch.nn.Module
        Maps inputs to class scores (m, n_classes): the network or its tail.
    trained : Trained
        What of it changes.
    inputs : Inputs
        What the model reads.
    train, validation : ndarray of shape (n,), dtype=int64
        Rows to train on, and to choose the epoch on (there may be none).
    y : ndarray of shape (n_rows,), dtype=int64
        Class of each row that `inputs` knows.
    n_classes : int
    input_scale : float
        See `build_optimizer`.
    settings : TrainingSettings
    world : World
    device : torch.device
    """

    model: nn.Module
    trained: Trained
    inputs: Inputs
    train: np.ndarray
    validation: np.ndarray
    y: np.ndarray
    n_classes: int
    input_scale: float
    settings: TrainingSettings
    world: World
    device: torch.device

    def scores(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Yield parts of the rows and their class scores (m, n_classes), on the CPU."""
        n_parts = math.ceil(len(rows) / self.settings.batch_size)
        parts = np.array_split(rows, n_parts) if n_parts else []
        with torch.no_grad(), autocast(self.device, self.settings.precision):
            for part, batch in zip(parts, self.inputs.evaluation(parts), strict=True):
                yield part, self.model(batch).float().cpu()


class Trainer:
    """Trains a `TrainingRun`.

    Parameters
    ----------
    run : TrainingRun
    checkpoint : Checkpoint
        Written after each epoch, inside long ones, and when the run is stopped.
    stop : StopOnSignal
        Looked at after each step.
    on_step : callable (n_done, n_all, loss)
        Told the training images seen, of all epochs, and the mean loss of the epoch so
        far; None where a GPU would have to be waited for.
    on_epoch : callable (EpochRecord)
        Told of each epoch.
    """

    def __init__(
        self,
        run: TrainingRun,
        checkpoint: Checkpoint,
        stop: StopOnSignal,
        on_step: Callable[[int, int, float | None], None],
        on_epoch: Callable[[EpochRecord], None],
    ) -> None:
        self._run, self._settings, self._world = run, run.settings, run.world
        self._checkpoint, self._stop = checkpoint, stop
        self._on_step, self._on_epoch = on_step, on_epoch
        self._model = wrap(run.model, run.world, run.device)
        self._optimizer = build_optimizer(run.trained, run.settings, run.input_scale)
        self._n_batches = len(self._batches(0))
        self._schedule = Schedule(
            run.settings.schedule,
            n_steps=run.settings.epochs * self._n_batches,
            n_warmup=round(run.settings.warmup_epochs * self._n_batches),
            patience=run.settings.plateau_epochs,
        )
        needs_scaling = run.settings.precision == "fp16" and run.device.type == "cuda"
        self._scaler = torch.amp.GradScaler(run.device.type, enabled=needs_scaling)
        self._at = TrainingState()
        self._loss = torch.zeros((), device=run.device, dtype=torch.float64)
        self._class_weights = self._weights_of_classes()
        self._saved_at = time.monotonic()

    @property
    def history(self) -> list[EpochRecord]:
        """The epochs so far, those before a resumed run among them."""
        return self._at.history

    def _weights_of_classes(self) -> torch.Tensor | None:
        """Return weights (k,) whose mean over the training images is 1; None: equal."""
        if self._settings.class_weights == "none":
            return None
        run = self._run
        counts = np.bincount(run.y[run.train], minlength=run.n_classes)
        weights = len(run.train) / (run.n_classes * np.maximum(counts, 1))
        return torch.tensor(weights, dtype=torch.float32, device=run.device)

    def train(self, resume: bool = False) -> TrainingState:
        """Train to the end and load the best weights; return where that was.

        Parameters
        ----------
        resume : bool, default=False
            Go on from the checkpoint, if there is one.

        Raises
        ------
        Interrupted
            On a signal to any process; the checkpoint holds all steps so far.
        DataError
            If the run diverges; the message says what to change.
        StoreError, ProvenanceError
            If the checkpoint is damaged, or of another run.
        """
        settings, start = self._settings, self._run.trained.state()
        patience = settings.patience if len(self._run.validation) else 0
        if resume:
            self._restore()
        devices = [self._run.device] if self._run.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            while self._at.epoch < settings.epochs:
                n_worse = self._at.epoch - self._at.best_epoch
                if patience and n_worse >= patience:
                    break
                self._epoch()
                self._obey()
        mixed = interpolate(self._at.best, start, settings.interpolate)
        self._run.trained.load(mixed)
        return self._at

    def _batches(self, epoch: int) -> list[np.ndarray]:
        """Return the rows of each batch: another order in every epoch, equal sizes."""
        rows, size = self._run.train, self._settings.batch_size
        order = np.random.default_rng((self._settings.seed, epoch)).permutation(rows)
        # Every process needs an image, and statistics need two.
        least = self._world.size * (2 if self._run.trained.updates_statistics else 1)
        n_batches = min(math.ceil(len(rows) / size), max(1, len(rows) // least))
        return np.array_split(order, n_batches)

    def _epoch(self) -> None:
        run, at = self._run, self._at
        started = time.monotonic()
        batches = self._batches(at.epoch)
        n_before = sum(map(len, batches[: at.step]))
        left = batches[at.step :]
        mine = [self._world.share(batch) for batch in left]
        run.trained.set_training(True)
        inputs = run.inputs.training(at.epoch, mine)
        for batch, rows, images in zip(left, mine, inputs, strict=True):
            self._loss += self._step(images, rows, len(batch))
            at.step += 1
            n_seen = sum(map(len, batches[: at.step]))
            self._tell_step(n_seen)
            if at.step < self._n_batches and self._is_time():
                self._save()
            self._obey()
        run.trained.set_training(False)
        seconds = time.monotonic() - started
        self._end_epoch(seconds, (len(run.train) - n_before) / max(seconds, 1e-9))

    def _tell_step(self, n_seen: int) -> None:
        """Tell how far the run is; look at the loss where that costs nothing much.

        Parameters
        ----------
        n_seen : int
            Training images of this epoch, over all processes.
        """
        run, at, loss = self._run, self._at, None
        is_due = at.step % _STEPS_BETWEEN_CHECKS == 0 or at.step == self._n_batches
        if is_due or run.device.type == "cpu":
            total = at.loss_sum + float(self._loss)
            check_finite(total, at.epoch + 1, self._settings)
            loss = total * self._world.size / max(n_seen, 1)
        n_done = at.epoch * len(run.train) + n_seen
        self._on_step(n_done, self._settings.epochs * len(run.train), loss)

    def _step(
        self, images: torch.Tensor, rows: np.ndarray, n_batch: int
    ) -> torch.Tensor:
        """Take one step and return the summed loss of this process's images."""
        run, settings = self._run, self._settings
        step = self._at.epoch * self._n_batches + self._at.step
        # Dropout draws from torch's own generator: seeded by the step, so that a
        # resumed run draws what an uninterrupted one would.
        seed = np.random.SeedSequence((settings.seed, step, self._world.rank))
        torch.manual_seed(int(seed.generate_state(1)[0]))
        self._schedule.apply(self._optimizer, step)
        labels = torch.from_numpy(run.y[rows]).to(run.device)
        with autocast(run.device, settings.precision):
            loss = F.cross_entropy(
                self._model(images),
                labels,
                weight=self._class_weights,
                reduction="sum",
                label_smoothing=settings.label_smoothing,
            )
        # Processes' gradients are averaged, and their parts may differ by one image.
        self._scaler.scale(loss * (self._world.size / n_batch)).backward()
        if settings.clip_norm is not None:
            self._scaler.unscale_(self._optimizer)
            parameters = list(run.trained.parameters.values())
            nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        return loss.detach().double()

    def _end_epoch(self, seconds: float, rate: float) -> None:
        run, at = self._run, self._at
        (loss,) = self._world.sum(at.loss_sum + float(self._loss))
        self._loss.zero_()
        check_finite(loss, at.epoch + 1, self._settings)
        valid = self._validate()
        record = EpochRecord(
            epoch=at.epoch + 1,
            loss=loss / len(run.train),
            validation_loss=valid[0] if valid else None,
            validation_accuracy=valid[1] if valid else None,
            lr=self._optimizer.param_groups[0]["lr"],
            seconds=round(seconds, 3),
            images_per_second=round(rate, 2),
        )
        if at.add(record):
            at.best = run.trained.state()
        self._schedule.after_epoch(
            at.epoch * self._n_batches, record.validation_accuracy
        )
        self._save()
        if self._world.is_first:
            self._on_epoch(record)
        check_learning(at.history, len(run.validation), run.n_classes, self._settings)

    def _validate(self) -> tuple[float, float] | None:
        """Return mean loss and accuracy on the validation rows, if there are any."""
        run, n = self._run, len(self._run.validation)
        if not n:
            return None
        loss, n_correct = 0.0, 0.0
        for part, scores in run.scores(self._world.share(run.validation)):
            labels = torch.from_numpy(run.y[part])
            loss += float(F.cross_entropy(scores, labels, reduction="sum"))
            n_correct += float((scores.argmax(dim=1) == labels).sum())
        loss, n_correct = self._world.sum(loss, n_correct)
        return loss / n, n_correct / n

    def _is_time(self) -> bool:
        # Several processes would have to agree on the time: each epoch is enough.
        minutes = (time.monotonic() - self._saved_at) / 60
        return self._world.size == 1 and minutes >= self._settings.checkpoint_minutes

    def _obey(self) -> None:
        """Keep what is done and end, where a signal has asked a process for it."""
        at, wish = self._at, self._stop.signum if self._stop.is_set() else 0
        # All processes must leave together: one that goes on would wait for the others.
        signum = self._world.max(wish)
        if signum:
            self._save()
            inside = f" and {at.step} of {self._n_batches} batches" if at.step else ""
            raise Interrupted(
                f"interrupted: {at.epoch} of {self._settings.epochs} epochs{inside} "
                "are kept; the same command with `resume` goes on from there",
                int(signum),
            )

    def _save(self) -> None:
        """Write a checkpoint; every process takes part, the first one writes."""
        self._saved_at = time.monotonic()
        self._at.loss_sum += float(self._loss)
        self._loss.zero_()
        (loss_sum,) = self._world.sum(self._at.loss_sum)
        if self._world.is_first:
            self._checkpoint.save(
                {
                    "weights": self._run.trained.state(),
                    "optimizer": self._optimizer.state_dict(),
                    "schedule": self._schedule.state_dict(),
                    "scaler": self._scaler.state_dict(),
                    "at": {**self._at.to_dict(), "loss_sum": loss_sum},
                }
            )

    def _restore(self) -> None:
        """Go back to where the checkpoint was written, if there is one."""
        state: dict[str, Any] | None = self._checkpoint.load()
        if state is None:
            return
        trained = self._run.trained
        with self._checkpoint.reading():
            self._at = TrainingState.from_dict(state["at"])
            if self._at.best_epoch:
                trained.check("at/best", self._at.best)
            trained.load(trained.check("weights", state["weights"]))
            load_optimizer(self._optimizer, state["optimizer"])
            self._schedule.load_state_dict(state["schedule"])
            self._scaler.load_state_dict(state["scaler"])
        if not self._world.is_first:
            self._at.loss_sum = 0.0  # the file has the sum over all processes


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context of the forward pass at a precision."""
    dtype = _DTYPES[precision]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)
