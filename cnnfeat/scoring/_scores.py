"""The class scores of images, computed as their features are extracted."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from cnnfeat import extraction
from cnnfeat.errors import CnnfeatWarning, DataError
from cnnfeat.image_table import ImageTable
from cnnfeat.images import Batch, settle_range
from cnnfeat.scoring._classifier import Classifier
from cnnfeat.scoring._options import ScoringOptions

Progress = Callable[[int, int, int], None]
# Takes the first row of a batch, its scores (m, k), and why rows failed; the scores of
# those mean nothing.
Keep = Callable[[int, np.ndarray, Sequence[str]], None]


class _ScoreSink:
    """A Sink that hands on the class scores of each batch, and keeps no features.

    Parameters
    ----------
    classifier : Classifier
    paths : sequence of str
        Of all images.
    keep : callable
        What becomes of the scores.
    """

    def __init__(
        self, classifier: Classifier, paths: Sequence[str], keep: Keep
    ) -> None:
        self.ok: list[bool] = []
        self.n_failed = 0
        self.digests: list[str] = []
        self._classifier = classifier
        self._paths = paths
        self._keep = keep

    @property
    def rows_done(self) -> int:
        """Images scored so far."""
        return len(self.ok)

    def write(
        self,
        start: int,
        features: Mapping[str, np.ndarray],
        ok: np.ndarray,
        errors: Sequence[str],
        digests: Sequence[str],
    ) -> None:
        """Score rows [start, start + m)."""
        X = np.concatenate(
            [features[layer].reshape(len(ok), -1) for layer in self._classifier.layers],
            axis=1,
        )
        scores = self._classifier.scores(X)
        bad = np.flatnonzero(ok & ~np.isfinite(scores).all(axis=1))
        if len(bad):
            raise DataError(
                f"{self._paths[start + int(bad[0])]}: its scores are not finite; the "
                "weights are damaged"
            )
        self._keep(start, scores, errors)
        self.ok += ok.tolist()
        self.n_failed += int(len(ok) - np.count_nonzero(ok))
        self.digests += digests

    def commit(self) -> None:
        """Do nothing: what comes of the scores is written when all are there."""


def hand_on_scores(
    classifier: Classifier,
    image_list: ImageTable,
    options: ScoringOptions,
    keep: Keep,
    progress: Progress | None = None,
) -> ImageTable:
    """Score images batch by batch.

    Parameters
    ----------
    classifier : Classifier
        From `read_classifier`, its extractor open.
    image_list : ImageTable
    options : ScoringOptions
    keep : callable (start, scores, errors)
        Takes the first row of a batch, its scores (m, n_classes), and why rows failed,
        "" for those that did not. Scores are probabilities, or decision values of an
        SVM; those of failed rows mean nothing.
    progress : callable (n_done, n_images, n_failed), optional

    Returns
    -------
    ImageTable
        With the digests of the images, and not `ok` where one failed.

    Raises
    ------
    DataError
        If the scores of an image that could be read are not finite.

    Warns
    -----
    CnnfeatWarning
        Where the engine is not the one that a head's features were computed by.
    """
    extractor = classifier.extractor
    source = extractor.source(
        settle_range(image_list, classifier.value_range),
        workers=options.workers,
        decoder=classifier.decoder,
    )
    extractor.plan(source)
    if classifier.trained_engine not in ("", extractor.engine):
        warnings.warn(
            f"features are computed by the engine {extractor.engine}, and the head was "
            f"trained on those of {classifier.trained_engine}: scores may differ by "
            "rounding",
            CnnfeatWarning,
            stacklevel=3,
        )
    sink = _ScoreSink(classifier, image_list.paths, keep)

    def done(batch: Batch) -> None:
        if progress:
            progress(batch.stop, len(image_list), sink.n_failed)

    extraction.run(source, extractor, sink, done=done)
    return replace(image_list.with_digests(sink.digests), ok=np.array(sink.ok))


def score_images(
    classifier: Classifier,
    image_list: ImageTable,
    options: ScoringOptions,
    progress: Progress | None = None,
) -> tuple[np.ndarray, ImageTable]:
    """Return the class scores of images, and what `hand_on_scores` returns.

    Parameters
    ----------
    classifier, image_list, options, progress
        As for `hand_on_scores`.

    Returns
    -------
    scores : ndarray of shape (n_images, n_classes), dtype=float64
        Probabilities, or decision values of an SVM; zeros where an image failed.
    image_list : ImageTable
    """
    scores = np.zeros((len(image_list), len(classifier.class_names)))

    def keep(start: int, found: np.ndarray, errors: Sequence[str]) -> None:
        scores[start : start + len(found)] = found

    image_list = hand_on_scores(classifier, image_list, options, keep, progress)
    scores[~image_list.ok] = 0
    return scores, image_list
