"""What the untouched network is worth: linear heads on its features, same rows."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from cnnfeat.finetune._split import FinetuneSplit
from cnnfeat.heads import HeadSettings, TrainingRows, fit_splits
from cnnfeat.image_table import ImageTable
from cnnfeat.metrics import Scores, evaluate_scores
from cnnfeat.splits import inner_positions


@dataclass(frozen=True)
class FrozenScore:
    """One row of the closing table; accuracies are fractions."""

    model: str
    accuracy: float
    mean_per_class_accuracy: float
    n_images: int
    C: float | None = None


def compare(name: str, scores: Scores, C: float | None = None) -> FrozenScore:
    """Return the row of the table for some scores."""
    return FrozenScore(
        model=name,
        accuracy=scores.accuracy,
        mean_per_class_accuracy=scores.mean_per_class_accuracy,
        n_images=scores.n_images,
        C=C,
    )


def score_frozen_heads(
    features: Mapping[int, torch.Tensor],
    rows: FinetuneSplit,
    y: np.ndarray,
    n_classes: int,
) -> list[FrozenScore]:
    """Train an SVM and a softmax on frozen features and score them on the test rows.

    C is chosen on the validation rows, as the fine-tuned network's epoch is, or where
    there are none on a sixth of the training rows; then the head is trained on all
    training rows. Where no class has two of them C is 1.

    Parameters
    ----------
    features : mapping of row to tensor of any one shape, float32
    rows : FinetuneSplit
        Training rows of every class.
    y : ndarray of shape (n_images,), dtype=int64
        Class of each row of the image list.
    n_classes : int
    """
    training = rows.training
    X, X_test = (_matrix(features, part) for part in (training, rows.test))
    inner = _positions_to_choose_on(rows, y)
    compared = []
    for kind, name in (("svm", "frozen SVM"), ("softmax", "frozen softmax")):
        settings = HeadSettings(kind, device="cpu", C=None if inner else (1.0,))
        split = TrainingRows(np.arange(len(training)), inner)
        (fit,) = fit_splits(X, y[training], [split], settings)
        head = fit.to_head([str(label) for label in fit.linear.classes])
        scores = evaluate_scores(head.scores(X_test), y[rows.test], n_classes)
        compared.append(compare(name, scores, fit.linear.C))
    return compared


def _positions_to_choose_on(
    rows: FinetuneSplit, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return positions in `rows.training` to fit on and to choose C on, if any."""
    training = rows.training
    if len(rows.validation):
        return (
            np.searchsorted(training, rows.train),
            np.searchsorted(training, rows.validation),
        )
    if np.unique(y[training], return_counts=True)[1].max() < 2:
        return None
    return inner_positions(ImageTable.from_labels(y), training)


def _matrix(features: Mapping[int, torch.Tensor], rows: np.ndarray) -> np.ndarray:
    """Return features (n, d); spatial ones (c, h, w) are averaged over the image."""
    vectors = [features[row] for row in rows.tolist()]
    if vectors[0].ndim == 3:
        vectors = [vector.mean(dim=(1, 2)) for vector in vectors]
    return torch.stack([vector.flatten() for vector in vectors]).numpy()
