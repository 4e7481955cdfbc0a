"""A head or a fine-tuned network scored on images that it was not trained on.

`predict` computes the scores; what becomes of them is what becomes of a head's.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from cnnfeat import predict, suffixes
from cnnfeat.errors import CnnfeatWarning, DataError
from cnnfeat.evaluate._head import (
    Chosen,
    EvaluationReport,
    Scored,
    class_indices,
    draw_confusion,
    evaluate_head,
    make_report,
    write_predictions,
)
from cnnfeat.image_table import ImageTable
from cnnfeat.images import image_files, list_images, take_pages
from cnnfeat.metrics import evaluate_scores
from cnnfeat.outputs import check_suffix, claimed_outputs, refuse_inputs
from cnnfeat.predict import PredictOptions
from cnnfeat.splits import count_left_out, left_out_in_words


def evaluate_model(
    model_path: str,
    scored: str,
    options: EvaluateOptions | None = None,
    *,
    stdin: Iterable[str] | None = None,
    progress: Callable[[int, int, int], None] | None = None,
) -> EvaluationReport:
    """Score a head or a fine-tuned network on a feature file or on images.

    Parameters
    ----------
    model_path, options, stdin, progress
        As for `evaluate_images`.
    scored : str
        A feature file, by its suffix, as for `evaluate_head`; else images.

    Raises
    ------
    CnnfeatError
        As the two, and if a network is to be scored on features.
    """
    options = options or EvaluateOptions()
    if suffixes.suffix_of(scored) not in suffixes.FEATURES:
        return evaluate_images(
            model_path, scored, options, stdin=stdin, progress=progress
        )
    if suffixes.suffix_of(model_path) in suffixes.WEIGHTS:
        raise DataError(
            f"{scored} is a feature file, and {model_path} is a network, which is "
            "scored on images: give their folder"
        )
    return evaluate_head(
        model_path,
        scored,
        rows=options.rows,
        confusion_path=options.confusion_path,
        predictions_path=options.predictions_path,
        overwrite=options.overwrite,
    )


@dataclass(frozen=True)
class EvaluateOptions(PredictOptions):
    """How a head or a network is scored on images.

    Attributes
    ----------
    rows : {"heldout", "all"}
        The images that it was not trained on, or all.
    confusion_path, predictions_path : str, optional
        As for `evaluate_head`.
    """

    rows: str = "heldout"
    confusion_path: str | None = None
    predictions_path: str | None = None


def evaluate_images(
    model_path: str,
    images: str,
    options: EvaluateOptions | None = None,
    *,
    stdin: Iterable[str] | None = None,
    progress: Callable[[int, int, int], None] | None = None,
) -> EvaluationReport:
    """Score a head or a fine-tuned network on labelled images.

    Parameters
    ----------
    model_path : str
        As for `predict_images`.
    images : str
        As for `extract_features`. Images of classes that the model does not know, or
        without one, are left out, and so are those that cannot be read.
    options : EvaluateOptions
    stdin : iterable of str, optional
        Lines of paths for `images="-"`.
    progress : callable (n_done, n_images, n_failed), optional
        Called after each batch.

    Raises
    ------
    StoreError, WeightsError, ProvenanceError, InputError, DeviceError
        As `predict_images`.
    DataError
        If there is no image to score.
    OutputError
        If an output exists already, is an input, or both are one file.
    """
    options = options or EvaluateOptions()
    if options.confusion_path:
        check_suffix(options.confusion_path, suffixes.PICTURES)
    if options.predictions_path:
        check_suffix(options.predictions_path, suffixes.TABLES)
    outputs = [p for p in (options.confusion_path, options.predictions_path) if p]
    with claimed_outputs(outputs, [model_path, images], overwrite=options.overwrite):
        table = take_pages(list_images(images, stdin=stdin), options.pages)
        refuse_inputs(outputs, image_files(table))
        return _evaluate(model_path, images, table, options, progress)


def _evaluate(
    model_path: str,
    images: str,
    table: ImageTable,
    options: EvaluateOptions,
    progress: Callable[[int, int, int], None] | None,
) -> EvaluationReport:
    classifier = predict.read_classifier(model_path, options)
    names = classifier.class_names
    y = class_indices(names, table)
    known = np.flatnonzero(y >= 0)
    if not len(known):
        nothing = count_left_out(table, known, {"of_unknown_class": y < 0})
        chosen = Chosen(known, "all", nothing)
        raise DataError(_why_nothing(model_path, images, classifier, chosen))
    with classifier.extractor:
        part = table.take(known)
        # All of them: who has seen an image is known by its content.
        scores, part = predict.score_images(classifier, part, options, progress)
    chosen = _choose(classifier, table, part, known, options.rows)
    if not len(chosen.rows):
        raise DataError(_why_nothing(model_path, images, classifier, chosen))
    _warn_of_images_seen(model_path, classifier, part, chosen)
    y, scores = y[chosen.rows], scores[np.isin(known, chosen.rows)]
    result = evaluate_scores(scores, y, len(names))
    if options.predictions_path:
        paths = list(table.take(chosen.rows).paths)
        write_predictions(options.predictions_path, names, paths, y, scores)
    if options.confusion_path:
        draw_confusion(options.confusion_path, names, result)
    what = Scored(classifier.kind, classifier.layer, classifier.C, names)
    return make_report(what, result, chosen)


def _choose(
    classifier: predict.Classifier,
    table: ImageTable,
    part: ImageTable,
    known: np.ndarray,
    rows: str,
) -> Chosen:
    """Return which images count, and why others do not.

    Parameters
    ----------
    table, part : ImageTable
        All images; those of known classes, once they have been read.
    known : ndarray of shape (len(part),), dtype=int64
        Where these are in the table.
    """
    ok, seen = np.ones(len(table), dtype=bool), np.zeros(len(table), dtype=bool)
    ok[known] = part.ok
    seen[known[classifier.seen.among(part)]] = rows == "heldout"
    unknown = np.ones(len(table), dtype=bool)
    unknown[known] = False
    taken = np.flatnonzero(ok & ~seen & ~unknown)
    reasons = {"of_unknown_class": unknown, "trained_on": seen}
    left_out = count_left_out(replace(table, ok=ok), taken, reasons)
    return Chosen(taken, "heldout" if seen.any() else "all", left_out)


def _why_nothing(
    model_path: str, images: str, classifier: predict.Classifier, chosen: Chosen
) -> str:
    cure = f"known are {', '.join(classifier.class_names[:5])}"
    if "trained_on" in chosen.left_out:
        cure = "give other images, or `rows=all`"
    return (
        f"{images} has no image that {model_path} can be scored on: "
        f"{left_out_in_words(chosen.left_out)}; {cure}"
    )


def _warn_of_images_seen(
    model_path: str, classifier: predict.Classifier, part: ImageTable, chosen: Chosen
) -> None:
    n_seen = len(classifier.seen.among(part))
    if n_seen and chosen.which == "all":
        warnings.warn(
            f"{n_seen} of the scored images are among those that {model_path} was "
            "trained on: this is not a test accuracy",
            CnnfeatWarning,
            stacklevel=3,
        )
