"""The verb that scores a head on a feature file, on rows it was not trained on.

Joins `store`, `heads`, `metrics` and, for the confusion matrix, `report`.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cnnfeat import heads, networks, report
from cnnfeat.errors import CnnfeatWarning, DataError
from cnnfeat.metrics import Scores, evaluate_scores, wilson_interval
from cnnfeat.outputs import check_outputs, write_output
from cnnfeat.seen import SeenImages
from cnnfeat.shown import csv_text
from cnnfeat.store import (
    FeatureFile,
    check_same_provenance,
    is_trained_from,
    load_head,
    open_features,
)

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
    C: float | None
    per_class_accuracy: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return asdict(self)


def evaluate_head(
    head_path: str,
    features_path: str,
    *,
    rows: str = "heldout",
    confusion_path: str | None = None,
    predictions_path: str | None = None,
    overwrite: bool = False,
) -> EvaluationReport:
    """Score the head at `head_path` on the feature file at `features_path`.

    Parameters
    ----------
    head_path : str
        A head file.
    features_path : str
        A feature file.
    rows : {"heldout", "all"}
        On the file that the head was trained from: the rows drawn for the test, or all
        usable rows. On another file all of them are scored, classes matched by name.
    confusion_path : str, optional
        Where to draw the confusion matrix, as PNG.
    predictions_path : str, optional
        Where to list the predictions, as CSV.
    overwrite : bool
        Replace those two where they exist.

    Returns
    -------
    EvaluationReport

    Raises
    ------
    StoreError
        If a file is damaged or not one of ours.
    ProvenanceError
        If the features were not extracted as those that the head was trained on.
    DataError
        If there is no row to score.
    OutputError
        If an output exists already, is an input, or both are one file.
    """
    check_outputs(
        filter(None, (confusion_path, predictions_path)),
        (head_path, features_path),
        overwrite=overwrite,
    )
    head = load_head(head_path)
    with open_features(features_path) as features:
        layers = check_same_provenance(head, features)
        chosen = _rows_to_score(head, features, rows)
        y = _labels_by_name(head, features)[chosen]
        if not len(chosen):
            raise DataError(_why_nothing(head_path, features_path, rows))
        _warn_of_images_seen(head, features, chosen)
        scores = score_rows(head, features, layers, chosen)
        paths = [features.paths[row] for row in chosen]
        n_left_out = features.n_images - len(chosen)
    result = evaluate_scores(scores, y, len(head.class_names))
    if predictions_path:
        _write_predictions(predictions_path, head.class_names, paths, y, scores)
    if confusion_path:
        _draw_confusion(confusion_path, head.class_names, result)
    return _report(head, result, rows, n_left_out)


def score_rows(
    head: heads.Head, features: FeatureFile, layers: tuple[str, ...], rows: np.ndarray
) -> np.ndarray:
    """Return the head's scores of some rows, read block by block.

    Returns
    -------
    ndarray of shape (n_rows, n_classes), dtype=float64
        `scale(X) @ W.T + b`.
    """
    scores = np.empty((len(rows), len(head.class_names)))
    for block, X in features.blocks(layers, rows, _ROWS_PER_BLOCK):
        features.refuse_non_finite(X, rows[block])
        scores[block] = head.scores(X)
    return scores


def _rows_to_score(head: heads.Head, features: FeatureFile, rows: str) -> np.ndarray:
    """Return the rows (int64, ascending) of images that can and may be scored."""
    usable = features.ok & (_labels_by_name(head, features) >= 0)
    if rows == "heldout" and is_trained_from(head, features):
        usable &= np.isin(features.paths, head.heldout_paths)
    return np.flatnonzero(usable)


def _warn_of_images_seen(
    head: heads.Head, features: FeatureFile, rows: np.ndarray
) -> None:
    """Say so when the head or its network was trained on images that are scored."""
    for seen, what in (
        (
            SeenImages(head.root, head.training_paths),
            "are training images of the head",
        ),
        (
            networks.read_seen_images(features.provenance),
            "are among those that the network was fine-tuned on",
        ),
    ):
        n_seen = len(seen.among(features.table, rows))
        if n_seen:
            warnings.warn(
                f"{n_seen} of the scored images {what}: this is not a test accuracy",
                CnnfeatWarning,
                stacklevel=3,
            )


def _labels_by_name(head: heads.Head, features: FeatureFile) -> np.ndarray:
    """Return each row's class as an index into the head's; -1 where it knows none."""
    index = {name: k for k, name in enumerate(head.class_names)}
    # The last entry serves label -1, which indexes from the end.
    lookup = np.array([index.get(name, -1) for name in features.class_names] + [-1])
    return lookup[features.labels]


def _why_nothing(head_path: str, features_path: str, rows: str) -> str:
    if rows == "heldout":
        return (
            f"{head_path} was trained on every labelled image of {features_path}: "
            "train with --train-per-class to hold some out, or give --rows all"
        )
    return f"{features_path} has no image of a class that {head_path} knows"


def _report(
    head: heads.Head, result: Scores, rows: str, n_left_out: int
) -> EvaluationReport:
    n_correct = int(np.trace(result.confusion))
    names = head.class_names
    per_class = zip(names, result.per_class_accuracy.tolist(), strict=True)
    return EvaluationReport(
        n_images=result.n_images,
        n_classes=len(names),
        accuracy=result.accuracy,
        accuracy_interval=wilson_interval(n_correct, result.n_images),
        top_5_accuracy=result.top_5_accuracy,
        mean_per_class_accuracy=result.mean_per_class_accuracy,
        n_left_out=n_left_out,
        rows=rows,
        kind=head.kind,
        layer=head.layer,
        C=head.hyperparameters.get("C"),
        per_class_accuracy={name: value for name, value in per_class if value == value},
    )


def _write_predictions(
    path: str,
    class_names: tuple[str, ...],
    paths: list[str],
    y: np.ndarray,
    scores: np.ndarray,
) -> None:
    """Write path, true class, predicted class, its score and the margin as CSV."""
    predicted = scores.argmax(axis=1)
    lines = [("path", "label", "predicted", "score")]
    lines += [
        (paths[row], class_names[y[row]], class_names[k], f"{scores[row, k]:.6g}")
        for row, k in enumerate(predicted)
    ]
    write_output(path, csv_text(lines).encode("utf-8"), overwrite=True)


def _draw_confusion(path: str, class_names: tuple[str, ...], result: Scores) -> None:
    report.save_figure(
        report.plot_confusion_matrix(result.confusion, class_names), path
    )
