"""A head or a fine-tuned network scored on images that it was not trained on.

`scoring` computes the scores; what becomes of them is what becomes of a head's.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace

import numpy as np

from cnnfeat import scoring, suffixes
from cnnfeat.errors import CnnfeatWarning, DataError
from cnnfeat.evaluate._head import evaluate_head
from cnnfeat.evaluate._outcome import (
    Chosen,
    Evaluated,
    EvaluationOutputs,
    EvaluationReport,
    Scored,
    class_indices,
)
from cnnfeat.image_table import ImageTable
from cnnfeat.images import (
    LabelOptions,
    image_files,
    list_images,
    relabel,
    take_pages,
)
from cnnfeat.outputs import claimed_outputs, refuse_inputs
from cnnfeat.scoring import ScoringOptions
from cnnfeat.splits import count_left_out, left_out_in_words
from cnnfeat.store import is_features_path


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
    if not is_features_path(scored):
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
        outputs=options,
        labels=options.labels,
        overwrite=options.overwrite,
    )


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(EvaluationOutputs, ScoringOptions):
    """How a head or a network is scored, and what is written of it.

    Attributes
    ----------
    rows : {"heldout", "all"}
        The images that it was not trained on, or all.
    labels_file : str, optional
        As for `LabelOptions`, of which the others are fields as well.
    """

    rows: str = "heldout"
    labels_file: str | None = None
    overwrite: bool = False

    @property
    def labels(self) -> LabelOptions:
        """Where the labels come from."""
        names = [field.name for field in fields(LabelOptions)]
        return LabelOptions(**{name: getattr(self, name) for name in names})


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
        As `cnnfeat.predict_images`.
    DataError
        If there is no image to score.
    OutputError
        If an output exists already, is an input, or both are one file.
    """
    options = options or EvaluateOptions()
    options.check_suffixes()
    inputs = [path for path in (model_path, images, options.labels_file) if path]
    with claimed_outputs(options.paths, inputs, overwrite=options.overwrite):
        # A table of labels is no table of the images: its columns are not theirs.
        own = None if options.labels_file else options
        listed = list_images(images, stdin=stdin, options=own)
        table = relabel(take_pages(listed, options.pages), options.labels)
        refuse_inputs(options.paths, image_files(table))
        found = _evaluate(model_path, images, table, options, progress)
        options.write(found)
    return found.told


def _evaluate(
    model_path: str,
    images: str,
    table: ImageTable,
    options: EvaluateOptions,
    progress: Callable[[int, int, int], None] | None,
) -> Evaluated:
    classifier = scoring.read_classifier(model_path, options)
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
        scores, part = scoring.score_images(classifier, part, options, progress)
    chosen = _choose(classifier, table, part, known, options.rows)
    if not len(chosen.rows):
        raise DataError(_why_nothing(model_path, images, classifier, chosen))
    _warn_of_images_seen(model_path, classifier, part, chosen)
    y, scores = y[chosen.rows], scores[np.isin(known, chosen.rows)]
    head = classifier.head
    what = Scored.by_head(head) if head else Scored(classifier.kind, "", None, names)
    return what.evaluate(scores, y, chosen, table)


def _choose(
    classifier: scoring.Classifier,
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
    model_path: str, images: str, classifier: scoring.Classifier, chosen: Chosen
) -> str:
    cure = f"known are {', '.join(classifier.class_names[:5])}"
    if "trained_on" in chosen.left_out:
        cure = "give other images, or `rows=all`"
    return (
        f"{images} has no image that {model_path} can be scored on: "
        f"{left_out_in_words(chosen.left_out)}; {cure}"
    )


def _warn_of_images_seen(
    model_path: str, classifier: scoring.Classifier, part: ImageTable, chosen: Chosen
) -> None:
    n_seen = len(classifier.seen.among(part))
    if n_seen and chosen.which == "all":
        warnings.warn(
            f"{n_seen} of the scored images are among those that {model_path} was "
            "trained on: this is not a test accuracy",
            CnnfeatWarning,
            stacklevel=3,
        )
