"""What a fine-tuning run is asked to do, and what it may not ask."""

import re
from dataclasses import asdict, dataclass
from typing import Any

from cnnfeat.errors import DataError, OutputError
from cnnfeat.suffixes import SAVED_WEIGHTS, suffix_of

MOMENTUM = 0.9  # Krizhevsky et al. 2012, section 5
WEIGHT_DECAY = 5e-4  # Krizhevsky et al. 2012, section 5
# Statistics of fewer images than this are too noisy to train on (Wu & He 2018, fig. 1:
# the error of batch norm grows below 16 to 32 images).
SMALLEST_BATCH_FOR_STATISTICS = 32
_DEFAULT_LR = {"sgd": 0.01, "adamw": 1e-3}

# Options that say where things go or how fast, and change no weight: a run may be
# resumed with other values of them.
_NO_EFFECT = (
    *("resume", "overwrite", "workers", "cache_mib", "checkpoint_minutes"),
    *("log_path", "curves_path", "tensorboard_dir", "frozen"),
)


@dataclass(frozen=True)
class FinetuneOptions:
    """How a network is fine-tuned; the defaults are those of `cnnfeat finetune`.

    Attributes
    ----------
    train : str
        `head` (the classifier alone), `last:N` (the last N stages, see
        `network_stages`) or `all`.
    init : str or None
        A head file to start the classifier from; None: Gaussian, standard deviation
        0.01 (Girshick et al. 2013, section 2.3).
    lr : float or None
        Rate of the classifier; None: 0.01 for SGD, 0.001 for AdamW. Lowered where the
        features it reads are longer than 20 on average: see `build_optimizer`.
    backbone_lr_scale : float
        Rate of the pretrained layers, as a share of `lr`.
    schedule : str
        `cosine` or `plateau` (a tenth when validation has not improved for
        `plateau_epochs`), both after a linear warm-up of `warmup_epochs`.
    batch_norm : str
        `frozen`, `train`, or `auto`: frozen when a batch holds fewer than
        `SMALLEST_BATCH_FOR_STATISTICS` images.
    augment : str or None
        `none`, `light`, `classic` or a file of ranges; None: `none` with
        `train="head"`, so that the frozen part runs once, else `light`.
    start_share : float
        Share of the weights the run started from in those it returns, the rest being
        the trained ones: 0 to below 1 (Wortsman et al. 2022, "Robust fine-tuning of
        zero-shot models", section 3). Needs a classifier to start from: `init`.
    validation : float
        Share of the training rows that chooses the epoch; 0: none, the last is kept.
    patience : int
        Epochs without a better validation accuracy before the run stops; 0: never.
    cache_mib : int
        Memory for decoded images, or for features with `train="head"`.
    """

    model: str = "efficientnet_lite0"
    weights: str = "default"
    weights_seed: int = 0
    train: str = "all"
    init: str | None = None
    epochs: int = 20
    batch_size: int = 32
    lr: float | None = None
    backbone_lr_scale: float = 0.1
    optimizer: str = "sgd"
    weight_decay: float = WEIGHT_DECAY
    schedule: str = "cosine"
    warmup_epochs: float = 1.0
    plateau_epochs: int = 3
    dropout: float = 0.0
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    batch_norm: str = "auto"
    precision: str = "fp32"
    augment: str | None = None
    start_share: float = 0.0
    validation: float = 1 / 6
    patience: int = 10
    train_per_class: int | None = None
    test_per_class: int | None = None
    splits_file: str | None = None
    split_index: int = 0
    exclude_classes: tuple[str, ...] = ()
    seed: int = 0
    device: str = "auto"
    workers: int | None = None
    cache_mib: int = 2048
    checkpoint_minutes: float = 10.0
    resume: bool = False
    overwrite: bool = False
    log_path: str | None = None
    curves_path: str | None = None
    tensorboard_dir: str | None = None
    frozen: bool = True

    @property
    def learning_rate(self) -> float:
        """The classifier's rate after the warm-up."""
        return _DEFAULT_LR[self.optimizer] if self.lr is None else self.lr

    @property
    def augmentation(self) -> str:
        """What `augment` stands for."""
        return self.augment or ("none" if self.train == "head" else "light")

    @property
    def n_stages(self) -> int | None:
        """N of `last:N`; None for `head` and `all`."""
        match = re.fullmatch(r"last:(\d+)", self.train)
        return int(match[1]) if match else None

    def identity(self) -> dict[str, Any]:
        """Return the options that decide the weights, as JSON types."""
        chosen = {k: v for k, v in asdict(self).items() if k not in _NO_EFFECT}
        return {**chosen, "exclude_classes": list(self.exclude_classes)}


def check_options(options: FinetuneOptions, output_path: str) -> None:
    """Refuse what cannot work, before anything is read.

    Raises
    ------
    OutputError
        If `output_path` ends neither in `.safetensors` nor in `.pth`.
    DataError
        If options are out of range or contradict each other.
    """
    if suffix_of(output_path) not in SAVED_WEIGHTS:
        raise OutputError(
            f"{output_path}: weights files end in {' or '.join(SAVED_WEIGHTS)}"
        )
    if options.train not in ("head", "all") and not options.n_stages:
        raise DataError(
            f"--train {options.train}: expected head, last:N with N from 1, or all"
        )
    if not 0 <= options.validation < 1:
        raise DataError(f"--validation {options.validation:g}: expected 0 to below 1")
    if options.schedule == "plateau" and not options.validation:
        raise DataError("--schedule plateau needs a validation part: --validation > 0")
    if options.batch_norm == "train" and options.batch_size < 2:
        raise DataError(
            "--batch-norm train with --batch-size 1: the statistics of one image are "
            "its own; use a larger batch or --batch-norm frozen"
        )
    if options.start_share and not options.init:
        raise DataError(
            f"--start-share {options.start_share:g} needs --init: averaging with a "
            "random classifier would undo the training"
        )
    if options.splits_file and (options.train_per_class or options.test_per_class):
        raise DataError("--splits-file names the rows: leave --train-per-class out")
