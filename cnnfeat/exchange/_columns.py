"""What stands beside the features of each row, in every format alike."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnfeat.layer_spec import LayerSpec
from cnnfeat.shown import csv_text
from cnnfeat.splits import Split
from cnnfeat.store import FeatureFile

ORIGIN = "cnnfeat"  # what `origin` is called in a file
_BLOCK_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, eq=False)
class RowColumns:
    """A feature file as columns: first what is known of each image, then its layers.

    Parameters
    ----------
    features : FeatureFile
    layers : sequence of str
        Datasets of the file.
    split : Split, optional
        Adds the column `split`: train, test or nothing.
    """

    features: FeatureFile
    layers: Sequence[str]
    split: Split | None = None

    @property
    def specs(self) -> list[LayerSpec]:
        """The layers."""
        return [self.features.layers[name] for name in self.layers]

    def told(self) -> dict[str, np.ndarray]:
        """Return path, label, class, ok, error, maybe split, and the user's columns.

        Returns
        -------
        dict of str to ndarray of shape (n_images,)
            `label` int32, `ok` bool, the user's own as they are; else str as objects.
        """
        features = self.features
        names = np.array([*features.class_names, ""], dtype=object)  # -1: the last
        told = {
            "path": np.array(features.paths, dtype=object),
            "label": features.labels,
            "class": names[features.labels],
            "ok": features.ok,
            "error": np.array(features.errors, dtype=object),
        }
        if self.split is not None:
            told["split"] = np.full(features.n_images, "", dtype=object)
            told["split"][self.split.train] = "train"
            told["split"][self.split.test] = "test"
        for name, values in features.table.own_columns.items():
            told[_free(name, told)] = values
        return told

    def layer_names(self) -> dict[str, str]:
        """Return the column of each layer: its name, unless another column has it."""
        taken = dict.fromkeys(self.told())
        names: dict[str, str] = {}
        for layer in self.layers:
            names[layer] = _free(layer, {**taken, **dict.fromkeys(names.values())})
        return names

    def origin(self) -> dict[str, Any]:
        """Return where the rows come from, as JSON can hold it."""
        features = self.features
        return {
            "created_by": features.created_by,
            "command": features.command,
            "root": features.table.root,
            "classes": list(features.class_names),
            "layers": [
                {**spec.to_dict(), "column": column}
                for spec, column in zip(
                    self.specs, self.layer_names().values(), strict=True
                )
            ],
            "provenance": features.provenance,
        }

    def blocks(self, layers: Sequence[str]) -> Iterator[tuple[slice, list[np.ndarray]]]:
        """Yield rows in order with each layer's block (m, n_features), as stored."""
        specs = [self.features.layers[name] for name in layers]
        n_rows = max(1, _BLOCK_BYTES // sum(4 * spec.n_features for spec in specs))
        for start in range(0, self.features.n_images, n_rows):
            rows = np.arange(start, min(start + n_rows, self.features.n_images))
            yield (
                slice(start, start + len(rows)),
                [
                    self.features.read(spec.name, rows).astype(spec.dtype, copy=False)
                    for spec in specs
                ],
            )

    def to_csv(self) -> str:
        """Return what is known of each image as CSV, a line each."""
        told = self.told()
        rows = zip(*(values.tolist() for values in told.values()), strict=True)
        return csv_text([list(told), *rows])

    def to_json(self) -> str:
        """Return `origin` as text."""
        return json.dumps(self.origin(), ensure_ascii=False)


def _free(name: str, taken: dict[str, Any]) -> str:
    """Return a name that no column has yet."""
    while name in taken:
        name += "_"
    return name
