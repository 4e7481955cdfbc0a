"""The verb that names the classes of new images, with a head or a fine-tuned network.

Joins `images`, `networks` and, for heads, `store` and `heads`. A head file says itself
which network, weights, layer and preprocessing it belongs to.
"""

import csv
import io
import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnfeat import suffixes
from cnnfeat.errors import (
    CnnfeatWarning,
    DataError,
    ProvenanceError,
    StoreError,
    WeightsError,
)
from cnnfeat.extraction import Extractor, ImageSource, run
from cnnfeat.heads import Head, to_probabilities
from cnnfeat.image_table import ImageTable
from cnnfeat.images import Batch, check_decoder, list_images
from cnnfeat.layers import ROOT
from cnnfeat.networks import Network, load_network, read_weights_metadata
from cnnfeat.outputs import check_output, write_output
from cnnfeat.store import load_head

Progress = Callable[[int, int, int], None]


@dataclass(frozen=True)
class PredictOptions:
    """How images are classified; `model=None` takes the name in the file."""

    model: str | None = None
    device: str = "auto"
    batch_size: int | None = None
    workers: int | None = None
    engine: str = "auto"
    top: int = 1
    overwrite: bool = False


@dataclass(frozen=True)
class Prediction:
    """The classes of one image, best first; `error` says why there are none.

    `scores` are probabilities, or decision values of an SVM.
    """

    path: str
    labels: tuple[str, ...]
    scores: tuple[float, ...]
    error: str = ""


@dataclass(frozen=True)
class PredictReport:
    """What was predicted, `score` being "probability" or "score"."""

    model: str
    kind: str
    score: str
    engine: str
    n_images: int
    n_failed: int
    predictions: list[Prediction]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return asdict(self)

    def to_csv(self) -> str:
        """Return path, rank (where several are asked for), label, score and error."""
        several = any(len(one.labels) > 1 for one in self.predictions)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        rank = ["rank"] if several else []
        writer.writerow(["path", *rank, "label", self.score, "error"])
        for one in self.predictions:
            pairs = zip(one.labels, one.scores, strict=True)
            for k, (label, score) in enumerate(pairs, start=1):
                writer.writerow(
                    [one.path, *([k] if several else []), label, f"{score:.6g}", ""]
                )
            if one.error:
                writer.writerow(
                    [one.path, *([""] if several else []), "", "", one.error]
                )
        return text.getvalue()


@dataclass(frozen=True)
class _Classifier:
    """What turns images into class scores: an extractor, and what follows it.

    `layers` are the extractor's, in the order of the columns of (m, d) features, which
    `scores` turns into (m, k).
    """

    extractor: Extractor
    layers: tuple[str, ...]
    class_names: tuple[str, ...]
    scores: Callable[[np.ndarray], np.ndarray]
    kind: str
    score: str
    decoder: str = "pil"
    trained_engine: str = ""


class _PredictionSink:
    """A Sink that keeps the best classes of each image, and nothing of its features."""

    def __init__(self, classifier: _Classifier, paths: Sequence[str], top: int) -> None:
        self.predictions: list[Prediction] = []
        self.n_failed = 0
        self._classifier = classifier
        self._paths = paths
        self._top = top

    @property
    def rows_done(self) -> int:
        """Images predicted so far."""
        return len(self.predictions)

    def write(
        self,
        start: int,
        features: Mapping[str, np.ndarray],
        ok: np.ndarray,
        errors: Sequence[str],
    ) -> None:
        """Score rows [start, start + m)."""
        m = len(ok)
        X = np.concatenate(
            [features[layer].reshape(m, -1) for layer in self._classifier.layers],
            axis=1,
        )
        scores = self._classifier.scores(X)
        paths = self._paths[start : start + m]
        for path, row, error in zip(paths, scores, errors, strict=True):
            self.predictions.append(self._predict(path, row, error))
        self.n_failed += sum(map(bool, errors))

    def commit(self) -> None:
        """Do nothing: the predictions are written when all are there."""

    def _predict(self, path: str, scores: np.ndarray, error: str) -> Prediction:
        if error:
            return Prediction(path, (), (), error)
        if not np.isfinite(scores).all():
            raise DataError(
                f"{path}: its scores are not finite; the weights are damaged"
            )
        best = np.argsort(-scores, kind="stable")[: self._top]
        names = self._classifier.class_names
        return Prediction(
            path=path,
            labels=tuple(names[k] for k in best),
            scores=tuple(float(scores[k]) for k in best),
        )


def predict_images(
    model_path: str,
    images: str,
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
    images : str
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
    InputError, DeviceError, OutputError
        As their names say.
    """
    options = options or PredictOptions()
    if output_path:
        check_output(output_path, overwrite=options.overwrite)
    image_list = list_images(images, stdin=stdin)
    is_weights = suffixes.suffix_of(model_path) in suffixes.WEIGHTS
    read = _read_weights if is_weights else _read_head
    classifier = read(model_path, options)
    with classifier.extractor:
        sink = _predict_all(classifier, image_list, options, progress)
    report = PredictReport(
        model=str(model_path),
        kind=classifier.kind,
        score=classifier.score,
        engine=classifier.extractor.engine,
        n_images=len(image_list),
        n_failed=sink.n_failed,
        predictions=sink.predictions,
    )
    if output_path:
        write_output(output_path, report.to_csv().encode(), overwrite=options.overwrite)
    return report


def _predict_all(
    classifier: _Classifier,
    image_list: ImageTable,
    options: PredictOptions,
    progress: Progress | None,
) -> _PredictionSink:
    extractor = classifier.extractor
    device = extractor.network.device
    check_decoder(classifier.decoder, device)
    source = ImageSource(
        image_list,
        extractor.preprocessing,
        crops=extractor.crops,
        workers=options.workers,
        decoder=classifier.decoder,
        device=device,
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
    sink = _PredictionSink(classifier, image_list.paths, options.top)

    def done(batch: Batch) -> None:
        if progress:
            progress(batch.stop, len(image_list), sink.n_failed)

    run(source, extractor, sink, done=done)
    return sink


def _read_weights(path: str, options: PredictOptions) -> _Classifier:
    """Return the fine-tuned network: its class scores are the features."""
    name = options.model or read_weights_metadata(path).get("model")
    if not name:
        raise WeightsError(
            f"{path}: cnnfeat did not write it, so it does not say of which network it "
            "is; give --model NAME"
        )
    network = load_network(name, weights=path, device=options.device)
    names = network.weights.class_names
    if not names:
        raise WeightsError(f"{path} does not name its {network.n_classes} classes")
    return _Classifier(
        extractor=Extractor(
            network, [ROOT], engine=options.engine, batch_size=options.batch_size
        ),
        layers=(ROOT,),
        class_names=names,
        scores=to_probabilities,
        kind="weights",
        score="probability",
    )


def _read_head(path: str, options: PredictOptions) -> _Classifier:
    head = load_head(path)
    pools = {spec.pool for spec in head.layer_specs}
    if len(pools) != 1:
        raise StoreError(
            f"{path}: its layers are pooled in {len(pools)} ways ({', '.join(pools)}), "
            "which one extraction does not give; use `cnnfeat evaluate`"
        )
    layers = tuple(spec.layer for spec in head.layer_specs)
    told = head.provenance
    extractor = Extractor(
        _network_of(head, path, options),
        layers,
        pool=pools.pop(),
        crops=told.get("crops", "center"),
        precision=told.get("precision", "fp32"),
        engine=options.engine,
        batch_size=options.batch_size,
    )
    return _Classifier(
        extractor=extractor,
        layers=layers,
        class_names=head.class_names,
        scores=head.probabilities if head.kind == "softmax" else head.scores,
        kind=head.kind,
        score="probability" if head.kind == "softmax" else "score",
        decoder=told.get("decoder", "pil"),
        trained_engine=told.get("engine", ""),
    )


def _network_of(head: Head, path: str, options: PredictOptions) -> Network:
    """Load the network that the head's features came from, and check that it is."""
    told = head.provenance
    if "model" not in told or "weights_sha256" not in told:
        raise StoreError(f"{path} does not record which network its features are of")
    if options.model not in (None, told["model"]):
        raise ProvenanceError(
            f"{path} was trained on features of {told['model']!r}, not "
            f"{options.model!r}; leave --model out"
        )
    source = told.get("weights", "default")
    weights = source if Path(source).is_file() or source == "random" else "default"
    network = load_network(
        told["model"],
        weights=weights,
        seed=int(told.get("weights_seed") or 0),
        device=options.device,
    )
    found = {
        "weights_sha256": network.weights.sha256,
        "preprocessing": network.weights.preprocessing.to_dict(),
    }
    expected = {
        "weights_sha256": told["weights_sha256"],
        "preprocessing": json.loads(told.get("preprocessing", "{}")),
    }
    for field, value in expected.items():
        if found[field] != value:
            raise ProvenanceError(
                f"{path}: {field} of the weights it was trained with ({source}) is "
                f"{value!r}, and {found[field]!r} was found; put those weights back"
            )
    return network
