"""The two things that images are classified with: a head file, a fine-tuned network.

A head file says itself which network, weights, layer and preprocessing it belongs to.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cnnfeat import extraction, heads, layers, networks, suffixes
from cnnfeat.errors import ProvenanceError, StoreError, WeightsError
from cnnfeat.layer_spec import LayerSpec
from cnnfeat.scoring._options import ScoringOptions
from cnnfeat.seen import SeenImages
from cnnfeat.store import load_head
from cnnfeat.value_range import AUTO, FULL


@dataclass(frozen=True)
class Classifier:
    """What turns images into class scores: an extractor, and what follows it.

    `layers` are the extractor's, in the order of the columns of (m, d) features, which
    `scores` turns into (m, k); `seen` are the images it was trained on. `head` is the
    head, where it is one.
    """

    extractor: extraction.Extractor
    layers: tuple[str, ...]
    class_names: tuple[str, ...]
    scores: Callable[[np.ndarray], np.ndarray]
    kind: str
    score: str
    seen: SeenImages
    decoder: str = "pil"
    value_range: str = AUTO
    head: heads.Head | None = None
    trained_engine: str = ""


def read_classifier(path: str, options: ScoringOptions) -> Classifier:
    """Return what is in a head file or a weights file, its network loaded.

    Raises
    ------
    StoreError, WeightsError
        If the file is damaged, or neither a head nor weights.
    ProvenanceError
        If the weights that a head was trained on are not those found.
    """
    is_weights = suffixes.suffix_of(path) in suffixes.WEIGHTS
    return _read_weights(path, options) if is_weights else _read_head(path, options)


def _read_weights(path: str, options: ScoringOptions) -> Classifier:
    """Return the fine-tuned network: its class scores are the features."""
    name = options.model or networks.read_weights_metadata(path).get("model")
    if not name:
        raise WeightsError(
            f"{path}: cnnfeat did not write it, so it does not say of which network it "
            "is; give `model=NAME`"
        )
    if networks.is_import_path(name) and not options.model:
        raise WeightsError(
            f"{path} is of {name!r}, code of somebody's own, which is not run because "
            f"a file names it; give `model={name}` where you trust it"
        )
    network = networks.load_network(name, weights=path, device=options.device)
    names = network.weights.class_names
    if not names:
        raise WeightsError(f"{path} does not name its {network.n_classes} classes")
    return Classifier(
        extractor=extraction.Extractor(
            network, [layers.ROOT], engine=options.engine, batch_size=options.batch_size
        ),
        layers=(layers.ROOT,),
        class_names=names,
        scores=heads.to_probabilities,
        kind="weights",
        score="probability",
        seen=SeenImages.of_weights(network.weights.metadata),
        value_range=str(network.weights.metadata.get("range", AUTO)),
    )


def _read_head(path: str, options: ScoringOptions) -> Classifier:
    head = load_head(path)
    told = head.provenance
    if options.model not in (None, told.get("model", options.model)):
        raise ProvenanceError(
            f"{path} was trained on features of {told['model']!r}, not "
            f"{options.model!r}; leave `model` out"
        )
    extractor = extractor_of(path, told, head.layer_specs, options)
    return Classifier(
        extractor=extractor,
        layers=extractor.layers,
        class_names=head.class_names,
        scores=head.answers,
        kind=head.kind,
        score=head.score,
        seen=head.seen | SeenImages.of_weights(extractor.network.weights.metadata),
        decoder=told.get("decoder", "pil"),
        value_range=told.get("range", FULL),
        head=head,
        trained_engine=told.get("engine", ""),
    )


def extractor_of(
    path: str,
    told: Mapping[str, str],
    layer_specs: Sequence[LayerSpec],
    options: ScoringOptions,
) -> extraction.Extractor:
    """Return what computes the features that a head or feature file is of.

    Parameters
    ----------
    path : str
        The file, for errors.
    told : mapping of str to str
        Its provenance.
    layer_specs : sequence of LayerSpec
    options : ScoringOptions

    Returns
    -------
    Extractor
        Its `layers` in the order of `layer_specs`.

    Raises
    ------
    StoreError
        If the file does not name its network, or pools its layers in several ways.
    ProvenanceError
        If the weights found are not those that the file names.
    WeightsError, NetworkError
        As for `NetworkRequest.of_provenance`.
    """
    pools = {spec.pool for spec in layer_specs}
    if len(pools) != 1:
        raise StoreError(
            f"{path}: its layers are pooled in {len(pools)} ways ({', '.join(pools)}), "
            "which one extraction does not give; use `cnnfeat evaluate`"
        )
    network = _network_of(told, path, options.device)
    extractor = extraction.Extractor(
        network,
        tuple(spec.layer for spec in layer_specs),
        pool=pools.pop(),
        crops=told.get("crops", "center"),
        precision=told.get("precision", "fp32"),
        engine=options.engine,
        batch_size=options.batch_size,
    )
    _check_averages(extractor, layer_specs, path)
    return extractor


def _check_averages(
    extractor: extraction.Extractor, layer_specs: Sequence[LayerSpec], path: str
) -> None:
    """Refuse averages over all tokens, which earlier versions made."""
    for spec, told in zip(extractor.specs, layer_specs, strict=True):
        if spec.pool in ("avg", "max") and spec.n_prefix_tokens not in (
            None,
            told.n_prefix_tokens,
        ):
            raise ProvenanceError(
                f"{path}: it is of {spec.name} pooled over all tokens, the "
                f"{spec.n_prefix_tokens} before the patches among them; this version "
                "pools the patches: extract and train again"
            )


def _network_of(told: Mapping[str, str], path: str, device: str) -> networks.Network:
    """Load the network that a file's features came from, and check that it is."""
    if "model" not in told or "weights_sha256" not in told:
        raise StoreError(f"{path} does not record which network its features are of")
    network = networks.NetworkRequest.of_provenance(told, device).load()
    record = network.weights
    for field, found, wanted in (
        ("weights_sha256", record.sha256, told["weights_sha256"]),
        (
            "preprocessing",
            record.preprocessing.to_dict(),
            json.loads(told.get("preprocessing", "{}")),
        ),
    ):
        if found != wanted:
            raise ProvenanceError(
                f"{path}: {field} of the weights that it is of "
                f"({told.get('weights')}) is {wanted!r}, and {found!r} was found; put "
                "those weights back"
            )
    return network
