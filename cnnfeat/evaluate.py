"""The verb that scores a head on a feature file, on rows it was not trained on.

Joins `store`, `heads`, `metrics` and, for the confusion matrix, `report`.
"""

import csv
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnfeat.errors import CnnfeatWarning, DataError

if TYPE_CHECKING:
    from cnnfeat.metrics import Scores
    from cnnfeat.store import FeatureFile, Head

# Rows scored at a time; bounds the memory, not the result.
_ROWS_PER_BLOCK = 2048


@dataclass(frozen=True)
class EvaluationReport:
    """How good a head is on some rows; accuracies are fractions.

    `accuracy_interval` is Wilson's 95 % interval of `accuracy`.
    """

    n_images: int
    n_classes: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    top_5_accuracy: float
    mean_per_class_accuracy: float
    n_left_out: int
    rows: str
    kind: str
    layer: str
    C: float
    per_class_accuracy: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return asdict(self)
