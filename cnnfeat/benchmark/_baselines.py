"""The two comparisons that every table should have: raw pixels and random weights.

Their features are files beside the feature file, extracted from the same images once
and used again while those images are the same. Random weights are drawn several times:
one draw says little of the next.
"""

from __future__ import annotations

import os

import numpy as np

from cnnfeat import extract
from cnnfeat.errors import InputError, ProvenanceError
from cnnfeat.image_table import ImageTable, are_others
from cnnfeat.images import fingerprint_images, relist_images
from cnnfeat.store import FeatureFile, open_features

N_INITIALISATIONS = 3  # of random weights


def initialisations(baseline: str) -> range:
    """Return the seeds that a baseline's weights are drawn with; pixels have one."""
    return range(N_INITIALISATIONS if baseline == "random" else 1)


def baseline_features(
    features: FeatureFile,
    baseline: str,
    progress: extract.Progress | None = None,
    *,
    seed: int = 0,
) -> FeatureFile:
    """Open the baseline's feature file, after extracting it where it is missing.

    Parameters
    ----------
    features : FeatureFile
        The file to compare with; its images must be where it says.
    baseline : {"pixels", "random"}
    progress : callable, optional
        As for `extract_features`.
    seed : int, default=0
        Draws random weights; one of `initialisations`.

    Raises
    ------
    InputError
        If the images are gone.
    ProvenanceError
        If they are not those of the feature file any more.
    """
    number = f"-{seed}" if seed else ""
    path = features.path.with_suffix(f".baseline-{baseline}{number}.h5")
    if not os.path.exists(path):
        extract.extract_features(
            _images_of(features),
            str(path),
            _options(features, baseline, seed),
            progress=progress,
            command=f"baseline {baseline} of {features.path.name}",
        )
    opened = open_features(path)
    for field, wanted in _wanted(features, baseline, seed).items():
        found = _fields(opened)[field]
        if found != wanted:
            opened.close()
            raise ProvenanceError(
                f"{path} does not go with {features.path}: {field} is {found!r}, "
                f"expected {wanted!r}; remove it, and it will be made anew"
            )
    _refuse_other_contents(features, opened)
    return opened


def _refuse_other_contents(features: FeatureFile, opened: FeatureFile) -> None:
    """Refuse a baseline of an image that was another one then, of equal size."""
    rows = np.arange(features.n_images)
    ours, theirs = features.table.digests(rows), opened.table.digests(rows)
    for path, one, other in zip(features.paths, ours, theirs, strict=True):
        if are_others(one, other):
            opened.close()
            raise ProvenanceError(
                f"{opened.path} does not go with {features.path}: {path} was changed "
                "in between; extract both anew"
            )


def _fields(features: FeatureFile) -> dict[str, str]:
    """Return what decides the features of a baseline, and the seed of its weights."""
    fields = ("images_sha256", "model", "preprocessing", "crops")
    layers = [f"{spec.name} ({spec.pool})" for spec in features.layers.values()]
    return {
        **{field: features.told(field) for field in fields},
        "layers": ", ".join(layers),
        "weights_seed": features.provenance.get("weights_seed") or "0",
    }


def _wanted(features: FeatureFile, baseline: str, seed: int) -> dict[str, str]:
    """Return what the baseline's file must say."""
    fields = _fields(features) | {"weights_seed": str(seed)}
    if baseline == "pixels":
        (layers,) = baseline_layers(baseline, ())
        return {
            "images_sha256": fields["images_sha256"],
            "model": "pixels",
            "layers": ", ".join(f"{name} (none)" for name in layers),
        }
    return fields


def _images_of(features: FeatureFile) -> ImageTable:
    """Return the images that the file was made from, checked."""
    table = features.stored_table
    if not os.path.exists(table.root):
        raise InputError(
            f"`baselines` extracts from the images of {features.path}, and "
            f"{table.root} is not there"
        )
    images = relist_images(table)
    if fingerprint_images(images) != features.told("images_sha256"):
        raise ProvenanceError(
            f"`baselines` extracts from the images of {features.path}, and those in "
            f"{table.root} are not the same: images_sha256 differs; extract "
            "again"
        )
    return images


def _options(features: FeatureFile, baseline: str, seed: int) -> extract.ExtractOptions:
    """Return the options that give the baseline, all else as in the file."""
    if baseline == "pixels":
        return extract.ExtractOptions(
            model="pixels", value_range=features.table.value_range, resume=True
        )
    specs = features.layers.values()
    return extract.ExtractOptions(
        model=features.told("model"),
        weights="random",
        weights_seed=seed,
        layers=tuple(spec.name for spec in specs),
        pool=next(iter(specs)).pool,
        crops=features.told("crops"),
        precision=features.told("precision"),
        value_range=features.table.value_range,
        resume=True,
    )


def baseline_name(baseline: str) -> str:
    """Return what the baseline's features are called in tables."""
    return {"pixels": "raw pixels", "random": "random weights"}[baseline]


def baseline_layers(
    baseline: str, layers: tuple[tuple[str, ...], ...]
) -> tuple[tuple[str, ...], ...]:
    """Return the layers to measure: the same, or the only one there is."""
    return (("pixels",),) if baseline == "pixels" else layers
