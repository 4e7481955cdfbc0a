"""A head scored on a feature file, on rows that it was not trained on."""

from __future__ import annotations

import warnings

import numpy as np

from cnnfeat import heads, networks
from cnnfeat.errors import CnnfeatWarning, DataError
from cnnfeat.evaluate._outcome import (
    Chosen,
    Evaluated,
    EvaluationOutputs,
    EvaluationReport,
    Scored,
    class_indices,
)
from cnnfeat.images import LabelOptions, relabel
from cnnfeat.outputs import claimed_outputs
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


def evaluate_head(
    head_path: str,
    features_path: str,
    *,
    rows: str = "heldout",
    outputs: EvaluationOutputs | None = None,
    labels: LabelOptions | None = None,
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
    outputs : EvaluationOutputs, optional
        What to write beside.
    labels : LabelOptions, optional
        Where labels come from that the feature file does not have.
    overwrite : bool
        Replace outputs where they exist.

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
        or two are one file.
    OptionError
        If an output ends in a suffix that it is not written as.
    """
    outputs, labels = outputs or EvaluationOutputs(), labels or LabelOptions()
    outputs.check_suffixes()
    inputs = [path for path in (head_path, features_path, labels.labels_file) if path]
    with claimed_outputs(outputs.paths, inputs, overwrite=overwrite):
        found = _evaluate(head_path, features_path, rows, labels)
        outputs.write(found)
    return found.told


def _evaluate(
    head_path: str, features_path: str, rows: str, labels: LabelOptions
) -> Evaluated:
    head = load_head(head_path)
    with open_features(features_path) as features:
        features.table = relabel(features.table, labels)
        layers = check_same_provenance(head, features)
        chosen = _rows_to_score(head, features, rows)
        y = _labels_by_name(head, features)[chosen.rows]
        if not len(y):
            raise DataError(_why_nothing(head_path, head, features, chosen))
        _warn_of_images_seen(head, features, chosen.rows)
        scores = score_rows(head, features, layers, chosen.rows)
        what = Scored.by_head(head)
        return what.evaluate(scores, y, chosen, features.table)


def score_heldout(
    head: heads.Head, features: FeatureFile
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what `evaluate_head` scores: rows (m,), classes (m,), answers (m, k).

    Raises
    ------
    ProvenanceError, DataError
        As `evaluate_head`.
    """
    layers = check_same_provenance(head, features)
    chosen = _rows_to_score(head, features, "heldout")
    y = _labels_by_name(head, features)[chosen.rows]
    return chosen.rows, y, score_rows(head, features, layers, chosen.rows)


def score_rows(
    head: heads.Head, features: FeatureFile, layers: tuple[str, ...], rows: np.ndarray
) -> np.ndarray:
    """Return the head's answers of some rows, read block by block.

    Returns
    -------
    ndarray of shape (n_rows, n_classes), dtype=float64
        Probabilities where its kind gives them, else scores.
    """
    scores = np.empty((len(rows), len(head.class_names)))
    for block, X in features.blocks(layers, rows, _ROWS_PER_BLOCK):
        features.refuse_non_finite(X, rows[block])
        scores[block] = head.answers(X)
    return scores


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
