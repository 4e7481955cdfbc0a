"""The verb that turns a feature file into a head file.

Joins `store` (features in, head out), `splits` (which rows) and `heads` (transform,
choice of C, fit). Nothing here looks at a row that is not a training row.
"""

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from cnnfeat.heads import FeatureTransform
    from cnnfeat.splits import Split
    from cnnfeat.store import FeatureFile, Head


@dataclass(frozen=True)
class TrainOptions:
    """How a head is trained; the defaults are those of `cnnfeat train-svm`.

    `C=None` tries a grid that suits the scaling; `train_per_class=None` trains on every
    usable row and leaves none out.
    """

    kind: str = "svm"
    layer: str | None = None
    C: tuple[float, ...] | None = None
    train_per_class: int | None = None
    test_per_class: int | None = None
    exclude_classes: tuple[str, ...] = ()
    seed: int = 0
    scale: str = "l2"
    signed_sqrt: bool = False
    n_components: int | None = None
    dropout: float = 0.0
    device: str = "auto"
    overwrite: bool = False
    verbose: bool = False


@dataclass(frozen=True)
class TrainReport:
    """What a training did; `validation_accuracy` is per C, inside the training rows."""

    output: str
    kind: str
    layer: str
    n_train: int
    n_heldout: int
    n_left_out: int
    n_classes: int
    n_features: int
    C: float
    validation_accuracy: dict[str, float]
    solver: str
    n_iter: int
    converged: bool
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return asdict(self)
