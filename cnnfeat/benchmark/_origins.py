"""Where features come from: the feature files of a benchmark, row beside row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnnfeat.errors import LayerError, ProvenanceError
from cnnfeat.image_table import ImageTable, are_others
from cnnfeat.store import FeatureFile


@dataclass(frozen=True, eq=False)
class Origin:
    """An open feature file, what the table calls it, and the layers to measure.

    Parameters
    ----------
    name : str
    features : FeatureFile
    layers : tuple of tuple of str
        Each names one dataset, or several that are joined.
    row_of : ndarray of shape (n_images,), dtype=int64
        The file's row for each row of the benchmark's first file; -1 for none.
    """

    name: str
    features: FeatureFile
    layers: tuple[tuple[str, ...], ...]
    row_of: np.ndarray

    @property
    def ok(self) -> np.ndarray:
        """Which rows of the first file have features here, bool (n_images,)."""
        ok: np.ndarray = (self.row_of >= 0) & self.features.ok[self.row_of]
        return ok


def align(table: ImageTable, features: FeatureFile) -> np.ndarray:
    """Return the row of a feature file for each image of a table, -1 for none.

    Images are told by their paths, below whatever root.

    Raises
    ------
    ProvenanceError
        If the two have no image in common.
    """
    row_of = {path: row for row, path in enumerate(features.paths)}
    found = np.array([row_of.get(path, -1) for path in table.paths], dtype=np.int64)
    if (found < 0).all():
        raise ProvenanceError(
            f"{features.path} has no image of the first feature file: its paths are "
            f"such as {features.paths[0]}, expected such as {table.paths[0]}; extract "
            "both from the same images"
        )
    return found


def refuse_other_images(first: FeatureFile, origin: Origin) -> None:
    """Raise ProvenanceError if an image is of another class or content in another file.

    Labels are those of the files, whatever else the benchmark calls them; contents are
    compared where both files have digests.
    """
    other = origin.features
    rows = np.flatnonzero(origin.row_of >= 0)
    own = origin.row_of[rows]
    classes = _classes(first.stored_table, rows), _classes(other.stored_table, own)
    digests = first.stored_table.digests(rows), other.stored_table.digests(own)
    for row, ours, theirs in zip(own.tolist(), *classes, strict=True):
        if ours != theirs:
            raise ProvenanceError(
                f"{other.path}: the class of {other.paths[row]} is {theirs}, and "
                f"{ours} in {first.path}; extract both from the same images"
            )
    for row, one, another in zip(own.tolist(), *digests, strict=True):
        if are_others(one, another):
            raise ProvenanceError(
                f"{other.path}: {other.paths[row]} is another image than in "
                f"{first.path}; extract both from the same images"
            )


def _classes(table: ImageTable, rows: np.ndarray) -> list[str]:
    names = [*table.class_names, "none"]  # the last entry serves label -1
    return [names[label] for label in table.labels[rows].tolist()]


def names_of(files: Sequence[FeatureFile]) -> list[str]:
    """Return what the table calls each file: its network, or where two have one, it.

    Two files of one network are told apart by their names, those of one name by their
    whole paths.
    """
    models = [one.told("model") for one in files]
    stems = [Path(one.path).stem for one in files]
    names = []
    for model, stem, one in zip(models, stems, files, strict=True):
        label = f"{model} ({stem})" if models.count(model) > 1 else model
        twice = stems.count(stem) > 1 and models.count(model) > 1
        names.append(f"{model} ({one.path})" if twice else label)
    return names


def layers_of(
    files: Sequence[FeatureFile], asked: Sequence[str]
) -> list[tuple[tuple[str, ...], ...]]:
    """Return the layers to measure of each file: those asked for that it has, or all.

    Raises
    ------
    LayerError
        If a layer is in none of the files; with a single file, as its `resolve`.
    """
    if not asked:
        return [tuple((name,) for name in one.layers) for one in files]
    found: list[list[tuple[str, ...]]] = [[] for _ in files]
    for layer in asked:
        errors = []
        for one, own in zip(files, found, strict=True):
            try:
                own.append(one.resolve(layer))
            except LayerError as error:
                errors.append(error)
        if len(errors) == len(files):
            raise errors[0]
    return [tuple(dict.fromkeys(own)) for own in found]
