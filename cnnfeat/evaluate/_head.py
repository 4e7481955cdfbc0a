"""A head scored on a feature file, on rows that it was not trained on.

Joins `store`, `heads`, `metrics` and, for the confusion matrix, `report`.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cnnfeat import heads, networks, report, suffixes
from cnnfeat.errors import CnnfeatWarning, DataError
from cnnfeat.image_table import ImageTable
from cnnfeat.metrics import Scores, evaluate_scores, wilson_interval
from cnnfeat.outputs import check_suffix, claimed_outputs, write_output
from cnnfeat.shown import csv_text
from cnnfeat.splits import count_left_out, left_out_in_words
from cnnfeat.store import (
    FeatureFile,
    check_same_provenance,
    is_trained_from,
    load_head,
    open_features,
)

# Rows scored at a time; bounds the memory, not the result.
_ROWS_PER_BLOCK = 2048
_NAMED = 5  # classes that an error lists


@dataclass(frozen=True)
class EvaluationReport:
    """How good a head is on some rows; accuracies are fractions.

    `n_classes` counts the classes of the images scored, `n_known_classes` those that
    the head knows. `accuracy_interval` is Wilson's 95 % interval of `accuracy`.
    `left_out` says why `n_left_out` images are not scored; `rows` which ones are:
    "heldout", those not trained on, or "all" that can be. A fine-tuned network has no
    `layer`, "", and no `C`, None.
    """

    n_images: int
    n_classes: int
    n_known_classes: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    top_5_accuracy: float
    mean_per_class_accuracy: float
    n_left_out: int
    left_out: dict[str, int]
    rows: str
    kind: str
    layer: str
    C: float | None
    per_class_accuracy: dict[str, float]
    per_class_images: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return asdict(self)

    def classes_csv(self) -> str:
        """Return class, images scored and accuracy as CSV, in the head's order."""
        rows = [
            {"class": name, "n_images": self.per_class_images[name], "accuracy": value}
            for name, value in self.per_class_accuracy.items()
        ]
        return report.Table(rows).to_csv()


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
        usable rows. On another file all of them are scored, classes matched by name; a
        file of other images with the same names is another one.
    confusion_path : str, optional
        Where to draw the confusion matrix: `.png`, `.svg` or `.pdf`.
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
        If an output exists already, is an input, is being written by another process,
        or both are one file.
    OptionError
        If an output ends in a suffix that it is not written as.
    """
    if confusion_path:
        check_suffix(confusion_path, suffixes.PICTURES)
    if predictions_path:
        check_suffix(predictions_path, suffixes.TABLES)
    outputs = filter(None, (confusion_path, predictions_path))
    inputs = (head_path, features_path)
    with claimed_outputs(outputs, inputs, overwrite=overwrite):
        return _evaluate(
            head_path, features_path, rows, confusion_path, predictions_path
        )


def _evaluate(
    head_path: str,
    features_path: str,
    rows: str,
    confusion_path: str | None,
    predictions_path: str | None,
) -> EvaluationReport:
    head = load_head(head_path)
    with open_features(features_path) as features:
        layers = check_same_provenance(head, features)
        chosen = _rows_to_score(head, features, rows)
        y = _labels_by_name(head, features)[chosen.rows]
        if not len(y):
            raise DataError(_why_nothing(head_path, head, features, chosen))
        _warn_of_images_seen(head, features, chosen.rows)
        scores = score_rows(head, features, layers, chosen.rows)
        paths = [features.paths[row] for row in chosen.rows]
    result = evaluate_scores(scores, y, len(head.class_names))
    if predictions_path:
        write_predictions(predictions_path, head.class_names, paths, y, scores)
    if confusion_path:
        draw_confusion(confusion_path, head.class_names, result)
    C = head.hyperparameters.get("C")
    what = Scored(head.kind, head.layer, C, head.class_names)
    return make_report(what, result, chosen)


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


@dataclass(frozen=True, eq=False)
class Chosen:
    """Rows to score (int64, ascending), which ones they are, and why no others."""

    rows: np.ndarray
    which: str
    left_out: dict[str, int]


def _rows_to_score(head: heads.Head, features: FeatureFile, rows: str) -> Chosen:
    """Return the rows of images that can and may be scored."""
    known = _labels_by_name(head, features) >= 0
    usable, reasons, which = features.ok & known, {"of_unknown_class": ~known}, "all"
    if rows == "heldout" and is_trained_from(head, features):
        which = "heldout"
        usable &= np.isin(features.paths, head.heldout_paths)
        reasons["trained_on"] = np.isin(features.paths, head.training_paths)
    taken = np.flatnonzero(usable)
    return Chosen(taken, which, count_left_out(features.table, taken, reasons))


def _warn_of_images_seen(
    head: heads.Head, features: FeatureFile, rows: np.ndarray
) -> None:
    """Say so when the head or its network was trained on images that are scored."""
    tuned_on = networks.rows_tuned_on(features.table, features.provenance, rows)
    for seen, what in (
        (head.seen.among(features.table, rows), "are training images of the head"),
        (tuned_on, "are among those that the network was fine-tuned on"),
    ):
        if len(seen):
            warnings.warn(
                f"{len(seen)} of the scored images {what}: this is not a test accuracy",
                CnnfeatWarning,
                stacklevel=3,
            )


def _labels_by_name(head: heads.Head, features: FeatureFile) -> np.ndarray:
    """Return each row's class as an index into the head's; -1 where it knows none."""
    return class_indices(head.class_names, features.table)


def class_indices(class_names: tuple[str, ...], table: ImageTable) -> np.ndarray:
    """Return each row's class as an index into `class_names`; -1 where it is none."""
    index = {name: k for k, name in enumerate(class_names)}
    # The last entry serves label -1, which indexes from the end.
    lookup = np.array([index.get(name, -1) for name in table.class_names] + [-1])
    return lookup[table.labels]


def _why_nothing(
    head_path: str, head: heads.Head, features: FeatureFile, chosen: Chosen
) -> str:
    cure = f"the head knows {', '.join(head.class_names[:_NAMED])}"
    if len(head.class_names) > _NAMED:
        cure += ", …"
    if "trained_on" in chosen.left_out:
        cure = "train with `train_per_class` to hold some out, or give `rows=all`"
    return (
        f"{features.path}: none of its {features.n_images} images can be scored by "
        f"{head_path}: {left_out_in_words(chosen.left_out)}; {cure}"
    )


@dataclass(frozen=True)
class Scored:
    """What is scored, as the report calls it."""

    kind: str
    layer: str
    C: float | None
    class_names: tuple[str, ...]


def make_report(what: Scored, result: Scores, chosen: Chosen) -> EvaluationReport:
    """Return the report of what was scored on which images."""
    n_correct = int(np.trace(result.confusion))
    names = what.class_names
    per_class = {
        name: value
        for name, value in zip(names, result.per_class_accuracy.tolist(), strict=True)
        if value == value  # no image of the others is scored
    }
    return EvaluationReport(
        n_images=result.n_images,
        n_classes=len(per_class),
        n_known_classes=len(names),
        accuracy=result.accuracy,
        accuracy_interval=wilson_interval(n_correct, result.n_images),
        top_5_accuracy=result.top_5_accuracy,
        mean_per_class_accuracy=result.mean_per_class_accuracy,
        n_left_out=sum(chosen.left_out.values()),
        left_out=chosen.left_out,
        rows=chosen.which,
        kind=what.kind,
        layer=what.layer,
        C=what.C,
        per_class_accuracy=per_class,
        per_class_images={
            name: int(count)
            for name, count in zip(names, result.confusion.sum(axis=1), strict=True)
            if name in per_class
        },
    )


def write_predictions(
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


def draw_confusion(path: str, class_names: tuple[str, ...], result: Scores) -> None:
    report.save_figure(
        report.plot_confusion_matrix(result.confusion, class_names), path
    )
