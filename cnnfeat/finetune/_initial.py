"""Start the classifier from a trained head file."""

import warnings
from typing import Any

import numpy as np
import torch
from torch import nn

from cnnfeat.errors import CnnfeatWarning, DataError, ProvenanceError
from cnnfeat.finetune._split import FinetuneSplit
from cnnfeat.heads import MEAN_NORM, FeatureTransform, Head
from cnnfeat.image_table import ImageTable
from cnnfeat.layers import Classifier, default_layer
from cnnfeat.networks import Network
from cnnfeat.seen import SeenImages
from cnnfeat.store import load_head

# A dense transform is probed with the identity matrix; beyond this it would not fit.
_MAX_DENSE = 8192
_TOLERANCE = 1e-3


def init_from_head(
    network: Network, classifier: Classifier, head_path: str, class_names: list[str]
) -> Head:
    """Give the classifier the weights of a head, its scaler folded in.

    A head on rows of unit length makes a classifier that scales what it reads to the
    length 20, R-CNN's mean norm, so that the usual rates suit it.

    Parameters
    ----------
    network : Network
    classifier : Classifier
        Its new one, of `len(class_names)` outputs.
    head_path : str
    class_names : list of str
        In the order of the classifier's outputs.

    Returns
    -------
    Head
        As it was read.

    Raises
    ------
    ProvenanceError
        If the head is of another network, other weights, another layer or other
        classes.
    DataError
        If its scaler is neither affine nor the length of the row alone, or its rows
        are neighbours.
    """
    head = load_head(head_path)
    if head.neighbours is not None:
        raise DataError(
            f"`init={head_path}`: a classifier has one row of weights for each class, "
            f"and a head of kind {head.kind!r} has none: train one of another kind"
        )
    _check_head(network, classifier, head, head_path)
    _check_classes(head, head_path, class_names)
    put_head(classifier, head, class_names, head_path)
    return head


def put_head(
    classifier: Classifier, head: Head, class_names: list[str], path: str
) -> None:
    """Give the classifier a head's weights; `path` stands in what is refused."""
    layer = classifier.module
    if is_of_unit_rows(head):
        layer.input_norm = MEAN_NORM  # type: ignore[assignment]
        weight, bias = head.coef / MEAN_NORM, head.intercept
    else:
        weight, bias = fold_scaler(head, path)
    order = [head.class_names.index(name) for name in class_names]
    with torch.no_grad():
        values = torch.from_numpy(weight[order]).float()
        layer.weight.copy_(values.view_as(layer.weight))  # type: ignore[operator, arg-type]
        layer.bias.copy_(torch.from_numpy(bias[order]).float())  # type: ignore[operator]


def warn_of_images_seen(
    seen: SeenImages, told: str, images: ImageTable, split: FinetuneSplit
) -> None:
    """Say so where the start was trained on images that are to judge the network.

    Parameters
    ----------
    seen : SeenImages
    told : str
        Who has seen them.
    images : ImageTable
        That the split is of.
    split : FinetuneSplit
    """
    for part, what, cure in (
        (
            split.test,
            "test",
            "train it with the `seed` and `train_per_class` given here",
        ),
        (split.validation, "validation", "give `validation=0`, which chooses nothing"),
    ):
        n_seen = len(seen.among(images, part))
        if n_seen:
            warnings.warn(
                f"{told} on {n_seen} of the {len(part)} {what} images, so that "
                f"accuracy on them is too good: {cure}",
                CnnfeatWarning,
                stacklevel=3,
            )


def _check_head(
    network: Network, classifier: Classifier, head: Head, path: str
) -> None:
    """Refuse a head of another network, other weights or another layer."""
    for field, expected in (
        ("model", network.name),
        ("weights_sha256", network.weights.sha256),
    ):
        value = head.provenance.get(field, "not recorded")
        if value != expected:
            raise ProvenanceError(
                f"`init={path}`: its {field} is {value!r} and the network's is "
                f"{expected!r}; train a head on features of this network"
            )
    inputs = {default_layer(network), classifier.input_layer}
    found = [spec.layer for spec in head.layer_specs]
    n_inputs = classifier.n_inputs
    if len(found) != 1 or found[0] not in inputs or head.n_features != n_inputs:
        pool = " with `pool=avg`" if isinstance(classifier.module, nn.Conv2d) else ""
        raise ProvenanceError(
            f"`init={path}`: the head reads {head.n_features} features of "
            f"{'+'.join(found)}, the classifier {n_inputs} of {min(inputs, key=len)}; "
            f"extract that layer{pool} and train a head on it"
        )


def _check_classes(head: Head, path: str, class_names: list[str]) -> None:
    strange = sorted(set(head.class_names) ^ set(class_names))
    if strange:
        raise ProvenanceError(
            f"`init={path}`: the head knows other classes ({len(head.class_names)}, "
            f"the images have {len(class_names)}); not in both: "
            f"{', '.join(strange[:5])}"
        )


def is_of_unit_rows(head: Head) -> bool:
    """Return whether the head's scaler divides each row by its length, and no more."""
    transform = FeatureTransform.from_arrays(head.scaler)
    d = head.n_features
    probes = np.abs(np.random.default_rng(0).normal(size=(4, d)))
    expected = probes / np.linalg.norm(probes, axis=1, keepdims=True)
    found = _apply(transform, probes)
    return found.shape == expected.shape and _agree(found, expected)


def fold_scaler(head: Head, path: str) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (k, d) and biases (k,) that act on features as stored.

    The scaler is T(x) = A x + t wherever that is so: W T(x) + b = (W A) x + (W t + b).
    A is found by asking T, first as a diagonal, then as a matrix, and checked on
    random features.

    Raises
    ------
    DataError
        If T is not affine (signed square root; row normalisation and then --pca).
    """
    transform = FeatureTransform.from_arrays(head.scaler)
    d = head.n_features
    offset = _apply(transform, np.zeros((1, d)))[0]
    probes = np.abs(np.random.default_rng(0).normal(size=(4, d)))
    expected = _apply(transform, probes)
    if len(offset) == d:
        diagonal = _apply(transform, np.ones((1, d)))[0] - offset
        if _agree(probes * diagonal + offset, expected):
            return head.coef * diagonal, head.intercept + head.coef @ offset
    if d <= _MAX_DENSE:
        matrix = _apply(transform, np.eye(d)) - offset  # (d, d_out), A transposed
        if _agree(probes @ matrix + offset, expected):
            return head.coef @ matrix.T, head.intercept + head.coef @ offset
    raise DataError(
        f"`init={path}`: the head takes roots of the features or the like, which the "
        "classifier cannot do; train it without `signed_sqrt`, without `n_components`, "
        "or as another kind"
    )


def _apply(transform: Any, X: np.ndarray) -> np.ndarray:
    return np.asarray(transform.transform(X.astype(np.float32)), dtype=np.float64)


def _agree(found: np.ndarray, expected: np.ndarray) -> bool:
    scale = float(np.abs(expected).max()) or 1.0
    return bool(np.abs(found - expected).max() <= _TOLERANCE * scale)
