"""How a network is trained, whatever it is trained on."""

from dataclasses import dataclass

MOMENTUM = 0.9  # Krizhevsky et al. 2012, section 5
WEIGHT_DECAY = 5e-4  # Krizhevsky et al. 2012, section 5
# Statistics of fewer images than this are too noisy to train on (Wu & He 2018, fig. 1:
# the error of batch norm grows below 16 to 32 images).
SMALLEST_BATCH_FOR_STATISTICS = 32
_DEFAULT_LR = {"sgd": 0.01, "adamw": 1e-3}


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained; the defaults are those of `cnnfeat finetune`.

    Attributes
    ----------
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
    interpolate : float
        Share of the weights the run started from in those it returns, the rest being
        the trained ones: 0 to below 1 (WiSE-FT: Wortsman et al. 2022, "Robust
        fine-tuning of zero-shot models", section 3).
    class_weights : str
        `none`, or `balanced`: in the loss an image of a class of n_c counts
        n / (k n_c), n images and k classes in all.
    patience : int
        Epochs without a better validation accuracy before the run stops; 0: never.
    checkpoint_minutes : float
        Longest time between checkpoints inside an epoch; each epoch ends with one.
    """

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
    class_weights: str = "none"
    clip_norm: float | None = None
    batch_norm: str = "auto"
    precision: str = "fp32"
    interpolate: float = 0.0
    patience: int = 10
    seed: int = 0
    checkpoint_minutes: float = 10.0

    @property
    def learning_rate(self) -> float:
        """The classifier's rate after the warm-up."""
        return _DEFAULT_LR[self.optimizer] if self.lr is None else self.lr
