"""What the untouched network is worth: linear heads on its features, same rows."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from cnnfeat.errors import SplitError
from cnnfeat.finetune._split import FinetuneSplit
from cnnfeat.heads import Head, HeadFit, HeadSettings, TrainingRows, fit_splits
from cnnfeat.image_table import ImageTable
from cnnfeat.metrics import Scores, evaluate_scores
from cnnfeat.splits import Split, inner_positions, positions_in


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
    split: FinetuneSplit,
    image_list: ImageTable,
    seed: int,
) -> list[FrozenScore]:
    """Train an SVM and a softmax on frozen features and score them on the test rows.

    C is chosen on the validation rows, as the fine-tuned network's epoch is, or where
    there are none on the rows that `cnnfeat train-svm` would choose it on; then the
    head is trained on all training rows. Where no class has two of them C is 1.

    Parameters
    ----------
    features : mapping of row to tensor of any one shape, float32
    split : FinetuneSplit
    image_list : ImageTable
        That the split is of.
    seed : int
        Draws the rows to choose C on.
    """
    X_test, y_test = _matrix(features, split.test), split.y[split.test]
    compared = []
    for kind, name in (("svm", "frozen SVM"), ("softmax", "frozen softmax")):
        fit = _fit(kind, features, split, image_list, seed)
        head = fit.to_head(split.class_names)
        scores = evaluate_scores(head.scores(X_test), y_test, len(split.class_names))
        compared.append(compare(name, scores, fit.linear.C))
    return compared


def fit_start(
    features: Mapping[int, torch.Tensor],
    split: FinetuneSplit,
    image_list: ImageTable,
    seed: int,
) -> Head:
    """Return a softmax on the frozen features of the rows that are trained on.

    It sees no validation row, so that they can judge what becomes of it.

    Parameters
    ----------
    features, split, image_list, seed
        As for `score_frozen_heads`.
    """
    seen = replace(split, validation=split.validation[:0])
    fit = _fit("softmax", features, seen, image_list, seed)
    return fit.to_head(split.class_names)


def _fit(
    kind: str,
    features: Mapping[int, torch.Tensor],
    split: FinetuneSplit,
    image_list: ImageTable,
    seed: int,
) -> HeadFit:
    """Choose C and fit a head on all training rows of a split."""
    training = split.training
    folds = _folds_to_choose_on(split, image_list, seed)
    rows = TrainingRows(np.arange(len(training)), folds)
    settings = HeadSettings(kind, device="cpu", C=None if folds else (1.0,))
    X = _matrix(features, training)
    return fit_splits(X, split.y[training], [rows], settings)[0]


def _folds_to_choose_on(
    split: FinetuneSplit, image_list: ImageTable, seed: int
) -> tuple[Split, ...]:
    """Return folds of positions in `split.training` to choose C on, if any."""
    training = split.training
    if len(split.validation):
        return positions_in(training, (Split(split.train, split.validation),))
    try:
        return inner_positions(image_list, training, seed=seed)
    except SplitError:  # one row, or one group, of each class
        return ()


def _matrix(features: Mapping[int, torch.Tensor], rows: np.ndarray) -> np.ndarray:
    """Return features (n, d); spatial ones (c, h, w) are averaged over the image."""
    vectors = [features[row] for row in rows.tolist()]
    if vectors[0].ndim == 3:
        vectors = [vector.mean(dim=(1, 2)) for vector in vectors]
    return torch.stack([vector.flatten() for vector in vectors]).numpy()
