"""The classes of images, computed as their features are extracted."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from cnnfeat import extraction
from cnnfeat.errors import CnnfeatWarning, DataError, SplitError
from cnnfeat.image_table import ImageTable
from cnnfeat.images import (
    Batch,
    Sources,
    image_files,
    list_images,
    printable,
    refuse_too_many_failed,
    settle_range,
    sources_of,
    take_pages,
)
from cnnfeat.outputs import (
    check_suffix,
    claimed_outputs,
    refuse_inputs,
    write_output,
)
from cnnfeat.predict._classifier import Classifier, read_classifier
from cnnfeat.predict._report import Prediction, PredictOptions, PredictReport
from cnnfeat.splits import read_split
from cnnfeat.suffixes import IMAGES, TABLES, suffix_of

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
        self.rows_done = 0
        self.n_failed = 0
        self.digests: list[str] = []
        self._classifier = classifier
        self._paths = paths
        self._keep = keep

    def write(
        self,
        start: int,
        features: Mapping[str, np.ndarray],
        ok: np.ndarray,
        errors: Sequence[str],
        digests: Sequence[str],
    ) -> None:
        """Score rows [start, start + m)."""
        m = len(ok)
        X = np.concatenate(
            [features[layer].reshape(m, -1) for layer in self._classifier.layers],
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
        self.rows_done = start + m
        self.n_failed += int(m - np.count_nonzero(ok))
        self.digests += digests

    def commit(self) -> None:
        """Do nothing: what comes of the scores is written when all are there."""


def score_images(
    classifier: Classifier,
    image_list: ImageTable,
    options: PredictOptions,
    progress: Progress | None = None,
) -> tuple[np.ndarray, ImageTable]:
    """Return the class scores of images, computed as `predict_images` does.

    Parameters
    ----------
    classifier : Classifier
        From `read_classifier`, its extractor open.
    image_list : ImageTable
    options : PredictOptions
    progress : callable (n_done, n_images, n_failed), optional

    Returns
    -------
    scores : ndarray of shape (n_images, n_classes), dtype=float64
        Probabilities, or decision values of an SVM; zeros where an image failed.
    image_list : ImageTable
        With the digests of the images, and not `ok` where one failed.
    """
    scores = np.zeros((len(image_list), len(classifier.class_names)))
    ok = np.zeros(len(image_list), dtype=bool)

    def keep(start: int, found: np.ndarray, errors: Sequence[str]) -> None:
        rows = slice(start, start + len(found))
        scores[rows], ok[rows] = found, [not error for error in errors]

    sink = _ScoreSink(classifier, image_list.paths, keep)
    _run(classifier, image_list, options, sink, progress)
    return scores, replace(image_list.with_digests(sink.digests), ok=ok)


def predict_images(
    model_path: str,
    images: Sources,
    options: PredictOptions | None = None,
    *,
    output_path: str | None = None,
    stdin: Iterable[str] | None = None,
    progress: Callable[[int, int, int], None] | None = None,
) -> PredictReport:
    """Return the classes of `images` by the head or weights file at `model_path`.

    Parameters
    ----------
    model_path : str
        A head file, or a weights file of `cnnfeat finetune` (or any with class names
        known, with `options.model`).
    images : str, or a sequence of them
        As for `extract_features`.
    output_path : str, optional
        Where to write the predictions as CSV.

    Returns
    -------
    PredictReport
        One prediction an image, in the order of the images; those that cannot be read
        have no class and a reason.

    Raises
    ------
    StoreError, WeightsError
        If the file is damaged, or neither a head nor weights.
    ProvenanceError
        If the weights that a head was trained on are not those found.
    InputError, DeviceError, OutputError, SplitError
        As their names say; an InputError too if no image can be read.
    OptionError
        If `output_path` does not end in `.csv`.
    """
    options = options or PredictOptions()
    outputs = [output_path] if output_path else []
    for path in outputs:
        check_suffix(path, TABLES)
    read = [model_path, *sources_of(images), options.splits_file or model_path]
    with claimed_outputs(outputs, read, overwrite=options.overwrite):
        report = _predict(model_path, images, options, outputs, stdin, progress)
        if output_path:
            data = report.to_csv().encode()
            write_output(output_path, data, overwrite=options.overwrite)
    return report


def _predict(
    model_path: str,
    images: Sources,
    options: PredictOptions,
    outputs: Sequence[str],
    stdin: Iterable[str] | None,
    progress: Progress | None,
) -> PredictReport:
    listed = list_images(images, stdin=stdin, options=options)
    image_list = _images_to_classify(take_pages(listed, options.pages), options)
    refuse_inputs(outputs, image_files(image_list))
    classifier = read_classifier(model_path, options)
    with classifier.extractor:
        refuse_inputs(outputs, [classifier.extractor.network.weights.source])
        paths = _as_named(images, image_list)
        predictions: list[Prediction] = []

        def keep(start: int, scores: np.ndarray, errors: Sequence[str]) -> None:
            for path, row, error in zip(paths[start:], scores, errors, strict=False):
                predictions.append(_best(classifier, path, row, error, options.top))

        sink = _ScoreSink(classifier, paths, keep)
        _run(classifier, image_list, options, sink, progress)
    failures = {k: one.error for k, one in enumerate(predictions) if one.error}
    refuse_too_many_failed(image_list, failures, len(image_list))
    # Only now: who has seen an image is known by its content.
    digested = image_list.with_digests(sink.digests)
    _warn_of_images_seen(model_path, classifier, digested)
    return PredictReport(
        model=str(model_path),
        kind=classifier.kind,
        score=classifier.score,
        engine=classifier.extractor.engine,
        n_images=len(image_list),
        n_failed=sink.n_failed,
        predictions=predictions,
    )


def _best(
    classifier: Classifier, path: str, scores: np.ndarray, error: str, top: int
) -> Prediction:
    """Return the classes with the highest scores, or why there are none."""
    if error:
        return Prediction(path, (), (), error)
    best = np.argsort(-scores, kind="stable")[:top]
    names = classifier.class_names
    return Prediction(
        path=path,
        labels=tuple(names[k] for k in best),
        scores=tuple(float(scores[k]) for k in best),
    )


def _as_named(images: Sources, image_list: ImageTable) -> tuple[str, ...]:
    """Return the paths to tell: bare file names with the folder that the user named.

    Several folders may hold the same name, so that alone it would not say which. Those
    of several sources are told from the current folder.
    """
    named = sources_of(images)
    if len(named) > 1:
        rows = range(len(image_list))
        return tuple(os.path.relpath(image_list.absolute_path(row)) for row in rows)
    is_image = suffix_of(named[0]) in IMAGES
    if not (is_image or os.path.isdir(named[0])):
        return image_list.paths
    if any("/" in path for path in image_list.paths):
        return image_list.paths
    folder = os.path.dirname(named[0]) if is_image else named[0]
    return tuple(os.path.join(printable(folder), path) for path in image_list.paths)


def _images_to_classify(image_list: ImageTable, options: PredictOptions) -> ImageTable:
    """Return all images, or the test images of the file of splits."""
    if options.splits_file is None:
        return image_list
    split = read_split(options.splits_file, image_list.paths, options.split_index)
    if not len(split.test):
        raise SplitError(
            f"{options.splits_file}, split {options.split_index}: there are no test "
            "images to classify"
        )
    return image_list.take(split.test)


def _run(
    classifier: Classifier,
    image_list: ImageTable,
    options: PredictOptions,
    sink: _ScoreSink,
    progress: Progress | None,
) -> None:
    """Take all images through the classifier's network and into the sink."""
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

    def done(batch: Batch) -> None:
        if progress:
            progress(batch.stop, len(image_list), sink.n_failed)

    extraction.run(source, extractor, sink, done=done)


def _warn_of_images_seen(
    model_path: str, classifier: Classifier, image_list: ImageTable
) -> None:
    n_seen = len(classifier.seen.among(image_list))
    if n_seen:
        warnings.warn(
            f"{n_seen} of {len(image_list)} images are among those that {model_path} "
            "was trained on: how well it does on them is not a test",
            CnnfeatWarning,
            stacklevel=3,
        )
