"""The verb that names the classes of new images, with a head or a fine-tuned network.

Joins `images`, `networks` and, for heads, `store` and `heads`. A head file says itself
which network, weights, layer and preprocessing it belongs to.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnfeat import suffixes
from cnnfeat.errors import DataError, ProvenanceError, StoreError, WeightsError

if TYPE_CHECKING:
    import torch

    from cnnfeat.images import Preprocessing
    from cnnfeat.networks import Network
    from cnnfeat.store import Head

# Nothing here halves a batch that is too large for a GPU: it gets no more than this.
_MOST_CROPS_AT_ONCE = 32

# Normalised images in (m * n_crops, 3, h, w); class scores out (m * n_crops, k).
Forward = Callable[["torch.Tensor"], "torch.Tensor"]


@dataclass(frozen=True)
class PredictOptions:
    """How images are classified; `model=None` takes the name in the file."""

    model: str | None = None
    device: str = "auto"
    batch_size: int | None = None
    workers: int | None = None
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
    """A network with what turns its images into scores."""

    network: "Network"
    class_names: tuple[str, ...]
    forward: Forward
    finish: Callable[[np.ndarray], np.ndarray]  # scores after the crops' average
    kind: str
    score: str
    crops: str = "center"
    decoder: str = "pil"

    @property
    def preprocessing(self) -> "Preprocessing":
        return self.network.weights.preprocessing


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
    from cnnfeat.images import list_images
    from cnnfeat.outputs import check_output, write_output

    options = options or PredictOptions()
    if output_path:
        check_output(output_path, overwrite=options.overwrite)
    image_list = list_images(images, stdin=stdin)
    load = _load_weights if _is_weights(model_path) else _load_head
    classifier = load(model_path, options)
    predictions: list[Prediction] = []
    n_failed = 0
    for paths, scores, errors in _score_batches(classifier, image_list, options):
        predictions += [
            _prediction(path, row, error, classifier.class_names, options.top)
            for path, row, error in zip(paths, scores, errors, strict=True)
        ]
        n_failed += sum(map(bool, errors))
        if progress:
            progress(len(predictions), len(image_list), n_failed)
    report = PredictReport(
        model=str(model_path),
        kind=classifier.kind,
        score=classifier.score,
        n_images=len(image_list),
        n_failed=n_failed,
        predictions=predictions,
    )
    if output_path:
        write_output(output_path, report.to_csv().encode(), overwrite=options.overwrite)
    return report


def _is_weights(path: str) -> bool:
    return suffixes.suffix_of(path) in suffixes.WEIGHTS


# -- the two kinds of model ------------------------------------------------------------


def _load_weights(path: str, options: PredictOptions) -> _Classifier:
    from cnnfeat.networks import load_network, read_weights_metadata

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
        network=network,
        class_names=names,
        forward=network.module,
        finish=_softmax,
        kind="weights",
        score="probability",
    )


def _load_head(path: str, options: PredictOptions) -> _Classifier:
    from cnnfeat.heads import FeatureTransform
    from cnnfeat.store import load_head

    head = load_head(path)
    network = _network_of(head, path, options)
    transform = FeatureTransform.from_arrays(head.scaler)

    def finish(features: np.ndarray) -> np.ndarray:
        scores = transform.transform(features) @ head.coef.T + head.intercept
        return _softmax(scores) if head.kind == "softmax" else scores

    return _Classifier(
        network=network,
        class_names=head.class_names,
        forward=_feature_reader(network, head),
        finish=finish,
        kind=head.kind,
        score="probability" if head.kind == "softmax" else "score",
        crops=head.provenance.get("crops", "center"),
        decoder=head.provenance.get("decoder", "pil"),
    )


def _network_of(head: "Head", path: str, options: PredictOptions) -> "Network":
    """Load the network that the head's features came from, and check that it is."""
    from cnnfeat.networks import load_network

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


def _feature_reader(network: "Network", head: "Head") -> Forward:
    """Return the function from images to the head's features, flattened and joined."""
    import torch

    from cnnfeat.layers import Tapper, pool_activation, resolve_layers

    taps = [resolve_layers(network, [spec.layer])[0] for spec in head.layer_specs]
    pools = [spec.pool for spec in head.layer_specs]
    unique = {tap.name: tap for tap in taps}

    def read(images: torch.Tensor) -> torch.Tensor:
        with Tapper(network, list(unique.values())) as tapper:
            activations = tapper(images)
        parts = [
            pool_activation(
                activations[tap.name], pool, channels_last=tap.channels_last
            ).flatten(1)
            for tap, pool in zip(taps, pools, strict=True)
        ]
        return torch.cat(parts, dim=1)

    return read


# -- images in, scores out -------------------------------------------------------------


def _score_batches(
    classifier: _Classifier, image_list: Any, options: PredictOptions
) -> Iterator[tuple[list[str], np.ndarray, tuple[str, ...]]]:
    from cnnfeat.extraction import CROPS_AT_ONCE, N_CROPS
    from cnnfeat.images import default_workers, load_batches

    workers = default_workers() if options.workers is None else options.workers
    at_once = min(_MOST_CROPS_AT_ONCE, CROPS_AT_ONCE[classifier.network.device.type])
    usual = max(1, at_once // N_CROPS[classifier.crops])
    for batch in load_batches(
        image_list,
        classifier.preprocessing,
        batch_size=options.batch_size or usual,
        crops=classifier.crops,
        workers=workers,
        decoder=classifier.decoder,
        device=classifier.network.device,
    ):
        scores = classifier.finish(_forward(classifier, batch.images))
        stop = batch.start + len(batch.ok)
        yield list(image_list.paths[batch.start : stop]), scores, batch.errors


def _forward(classifier: _Classifier, images: np.ndarray) -> np.ndarray:
    """Return the network's output (m, d) for uint8 images (m, n_crops, 3, h, w).

    As extraction does it: float32, the mean over an image's crops.
    """
    import torch

    m, n_crops = images.shape[:2]
    pixels = torch.from_numpy(images).flatten(0, 1).to(classifier.network.device)
    batch = classifier.preprocessing.normalize(pixels)
    batch = batch.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        output = classifier.forward(batch).float()
    return output.unflatten(0, (m, n_crops)).mean(dim=1).cpu().numpy()


def _softmax(scores: np.ndarray) -> np.ndarray:
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def _prediction(
    path: str, scores: np.ndarray, error: str, class_names: tuple[str, ...], top: int
) -> Prediction:
    if error:
        return Prediction(path, (), (), error)
    if not np.isfinite(scores).all():
        raise DataError(f"{path}: its scores are not finite; the weights are damaged")
    best = np.argsort(-scores, kind="stable")[:top]
    return Prediction(
        path=path,
        labels=tuple(class_names[k] for k in best),
        scores=tuple(float(scores[k]) for k in best),
    )
