"""The two comparisons that every table should have: raw pixels and random weights.

Their features are files beside the feature file, extracted from the same images once
and used again while those images are the same.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from cnnfeat.errors import InputError, ProvenanceError
from cnnfeat.extract import (
    ExtractOptions,
    extract_features,
)
from cnnfeat.image_table import ImageTable
from cnnfeat.images import fingerprint_images, relist_images
from cnnfeat.store import open_features

if TYPE_CHECKING:
    from cnnfeat.store import FeatureFile

Progress = Callable[[int, int, int], None]


def control_features(
    features: "FeatureFile", control: str, progress: Progress | None = None
) -> "FeatureFile":
    """Open the control's feature file, after extracting it where it is missing.

    Parameters
    ----------
    features : FeatureFile
        The file to compare with; its images must be where it says.
    control : {"pixels", "random"}
    progress : callable, optional
        As for `extract_features`.

    Raises
    ------
    InputError
        If the images are gone.
    ProvenanceError
        If they are not those of the feature file any more.
    """
    path = features.path.with_suffix(f".control-{control}.h5")
    if not path.exists():
        extract_features(
            _images_of(features),
            str(path),
            _options(features, control),
            progress=progress,
            command=f"control {control} of {features.path.name}",
        )
    opened = open_features(path)
    for field, wanted in _wanted(features, control).items():
        found = _fields(opened)[field]
        if found != wanted:
            opened.close()
            raise ProvenanceError(
                f"{path} does not go with {features.path}: {field} is {found!r}, "
                f"expected {wanted!r}; remove it, and it will be made anew"
            )
    return opened


def _fields(features: "FeatureFile") -> dict[str, str]:
    """Return what decides the features of a control, beside its random weights."""
    fields = ("images_sha256", "model", "preprocessing", "crops")
    layers = [f"{spec.name} ({spec.pool})" for spec in features.layers.values()]
    return {
        **{field: features.provenance[field] for field in fields},
        "layers": ", ".join(layers),
    }


def _wanted(features: "FeatureFile", control: str) -> dict[str, str]:
    """Return what the control's file must say."""
    fields = _fields(features)
    if control == "pixels":
        return {"images_sha256": fields["images_sha256"], "model": "pixels"}
    return fields


def _images_of(features: "FeatureFile") -> "ImageTable":
    """Return the images that the file was made from, checked."""
    if not os.path.exists(features.table.root):
        raise InputError(
            f"--control extracts from the images of {features.path}, and "
            f"{features.table.root} is not there"
        )
    images = relist_images(features.table)
    if fingerprint_images(images) != features.provenance["images_sha256"]:
        raise ProvenanceError(
            f"--control extracts from the images of {features.path}, and those in "
            f"{features.table.root} are not the same: images_sha256 differs; extract "
            "again"
        )
    return images


def _options(features: "FeatureFile", control: str) -> ExtractOptions:
    """Return the options that give the control, all else as in the file."""
    if control == "pixels":
        return ExtractOptions(model="pixels", resume=True)
    specs = features.layers.values()
    return ExtractOptions(
        model=features.provenance["model"],
        weights="random",
        layers=tuple(spec.name for spec in specs),
        pool=next(iter(specs)).pool,
        crops=features.provenance["crops"],
        precision=features.provenance["precision"],
        resume=True,
    )


def control_name(control: str) -> str:
    """Return what the control's features are called in tables."""
    return {"pixels": "raw pixels", "random": "random weights"}[control]


def control_layers(
    features: "FeatureFile", control: str, layers: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the layers to measure: the same, or the only one there is."""
    return tuple(features.layers) if control == "pixels" else layers
