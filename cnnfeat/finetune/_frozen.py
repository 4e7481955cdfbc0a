"""What the untouched network is worth: linear heads on its features, same rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cnnfeat.finetune._split import FinetuneSplit
from cnnfeat.metrics import Scores, evaluate_scores

# Features are scaled to length 1, for which these span too weak to too strong.
_C_GRID = (0.1, 1.0, 10.0, 100.0, 1000.0)


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
    training rows. Where a class has too few rows for that C is 1.

    Parameters
    ----------
    features : mapping of row to tensor of any one shape, float32
    rows : FinetuneSplit
    y : ndarray of shape (n_images,), dtype=int64
        Class of each row of the image list.
    n_classes : int
    """
    from cnnfeat.heads import LinearSVM, Softmax

    return [
        _score("frozen SVM", LinearSVM, features, rows, y, n_classes),
        _score("frozen softmax", Softmax, features, rows, y, n_classes),
    ]


def _score(
    name: str,
    kind: Any,
    features: Mapping[int, torch.Tensor],
    rows: FinetuneSplit,
    y: np.ndarray,
    n_classes: int,
) -> FrozenScore:
    C = 1.0
    train, validation = _rows_to_choose_on(rows, y)
    if len(validation):
        accuracies = {
            C: _fit_and_score(
                kind(C=C), features, train, validation, y, n_classes
            ).mean_per_class_accuracy
            for C in _C_GRID
        }
        C = max(accuracies, key=lambda C: (accuracies[C], -C))
    scores = _fit_and_score(kind(C=C), features, rows.training, rows.test, y, n_classes)
    return compare(name, scores, C)


def _rows_to_choose_on(
    rows: FinetuneSplit, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows to train on and to choose on, all out of the training rows."""
    from cnnfeat.heads import draw_inner

    fewest = np.unique(y[rows.train], return_counts=True)[1].min()
    if len(rows.validation) or fewest < 2:
        return rows.train, rows.validation
    train, validation = draw_inner(y[rows.train])
    return rows.train[train], rows.train[validation]


def _fit_and_score(
    head: Any,
    features: Mapping[int, torch.Tensor],
    train: np.ndarray,
    test: np.ndarray,
    y: np.ndarray,
    n_classes: int,
) -> Scores:
    from sklearn.preprocessing import normalize

    X, X_test = (_matrix(features, part) for part in (train, test))
    head.fit(normalize(X), y[train])
    scores = np.asarray(head.decision_function(normalize(X_test)))
    if scores.ndim == 1:  # two classes: scikit-learn gives the second one's score
        scores = np.stack([-scores, scores], axis=1)
    return evaluate_scores(scores, y[test], n_classes)


def _matrix(features: Mapping[int, torch.Tensor], rows: np.ndarray) -> np.ndarray:
    """Return features (n, d); spatial ones (c, h, w) are averaged over the image."""
    vectors = [features[row] for row in rows.tolist()]
    if vectors[0].ndim == 3:
        vectors = [vector.mean(dim=(1, 2)) for vector in vectors]
    return torch.stack([vector.flatten() for vector in vectors]).numpy()
