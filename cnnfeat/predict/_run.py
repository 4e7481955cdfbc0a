"""The classes of images, best first."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from cnnfeat.errors import CnnfeatWarning, SplitError
from cnnfeat.image_table import ImageTable
from cnnfeat.images import (
    Sources,
    image_files,
    list_images,
    names_to_tell,
    refuse_too_many_failed,
    sources_of,
    take_pages,
)
from cnnfeat.outputs import (
    check_suffix,
    claimed_outputs,
    refuse_inputs,
    write_output,
)
from cnnfeat.predict._report import Prediction, PredictOptions, PredictReport
from cnnfeat.scoring import Classifier, hand_on_scores, read_classifier
from cnnfeat.splits import read_split
from cnnfeat.suffixes import TABLES

Progress = Callable[[int, int, int], None]


def predict_images(
    model_path: str,
    images: Sources,
    options: PredictOptions | None = None,
    *,
    output_path: str | None = None,
    stdin: Iterable[str] | None = None,
    progress: Progress | None = None,
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
    StoreError, WeightsError, ProvenanceError
        As `cnnfeat.scoring.read_classifier`.
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
        paths = names_to_tell(images, image_list)
        predictions: list[Prediction] = []

        def keep(start: int, scores: np.ndarray, errors: Sequence[str]) -> None:
            for path, row, error in zip(paths[start:], scores, errors, strict=False):
                predictions.append(_best(classifier, path, row, error, options.top))

        # Digests come with the scores: who has seen an image is known by its content.
        scored = hand_on_scores(classifier, image_list, options, keep, progress)
    failures = {k: one.error for k, one in enumerate(predictions) if one.error}
    refuse_too_many_failed(image_list, failures, len(image_list))
    _warn_of_images_seen(model_path, classifier, scored)
    return PredictReport(
        model=str(model_path),
        kind=classifier.kind,
        score=classifier.score,
        engine=classifier.extractor.engine,
        n_images=len(image_list),
        n_failed=len(failures),
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
