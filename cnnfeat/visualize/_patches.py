"""Patches that made units respond, and beside each what the unit is made of in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnfeat import extraction, layers, networks, report
from cnnfeat.image_table import ImageTable
from cnnfeat.images import cut_patch, read_original
from cnnfeat.layer_spec import LayerSpec
from cnnfeat.visualize._pixels import normalized

SIDE = 64  # pixels of a patch on a sheet
_AT_ONCE = 16  # images in one pass up and back


@dataclass(frozen=True)
class Patch:
    """Where one unit responded in one image.

    Attributes
    ----------
    unit, row : int
    activation : float
    position : tuple of int
        Row and column in the map.
    region : tuple of int
        What it sees in pixels of the crop: left, upper, right, lower.
    """

    unit: int
    row: int
    activation: float
    position: tuple[int, int]
    region: tuple[int, int, int, int]


def cut_originals(
    network: networks.Network, table: ImageTable, patches: Sequence[Patch]
) -> tuple[list[np.ndarray], list[tuple[float, ...]]]:
    """Return the patches out of the original images, and their boxes there.

    Each image is decoded once.

    Returns
    -------
    tiles : list of ndarray of shape (SIDE, SIDE, 3), dtype=uint8
    boxes : list of (left, upper, right, lower)
    """
    preprocessing = network.weights.preprocessing
    tiles: dict[int, np.ndarray] = {}
    boxes: dict[int, tuple[float, ...]] = {}
    row = -1
    original: np.ndarray
    for k in sorted(range(len(patches)), key=lambda k: patches[k].row):
        if patches[k].row != row:
            row = patches[k].row
            original = read_original(table, row)
        height, width = original.shape[:2]
        box = preprocessing.source_box((width, height), patches[k].region)
        tiles[k], boxes[k] = cut_patch(original, box, SIDE), box
    order = range(len(patches))
    return [tiles[k] for k in order], [boxes[k] for k in order]


def project_patches(
    network: networks.Network,
    tap: layers.Tap,
    table: ImageTable,
    patches: Sequence[Patch],
    method: str,
) -> list[np.ndarray]:
    """Return what each activation is made of, within what its position sees.

    Returns
    -------
    list of ndarray of shape (SIDE, SIDE, 3), dtype=uint8
    """
    shown = table.take(np.array([patch.row for patch in patches], dtype=int))
    projector = _Projector(network, tap, patches, method)
    source = extraction.ImageSource(shown, network.weights.preprocessing)
    sink = extraction.ArraySink(len(patches), projector.specs)
    extraction.run(source, projector, sink)
    return list(sink.features[tap.name].astype(np.uint8))


class _Projector:
    """An extractor whose features are tiles: projections, one for each image."""

    batch_size: int | None = _AT_ONCE
    depth = 1

    def __init__(
        self,
        network: networks.Network,
        tap: layers.Tap,
        patches: Sequence[Patch],
        method: str,
    ) -> None:
        self._network, self._tap, self._method = network, tap, method
        self._patches = list(patches)
        self._n_done = 0
        self.specs = (LayerSpec(tap.name, tap.address, (SIDE, SIDE, 3)),)

    def provenance(self) -> dict[str, str]:
        """Return nothing: no file is written."""
        return {}

    def start(self, images_nhwc: np.ndarray) -> Any:
        """Project a batch (m, 1, h, w, 3); its images are the next m patches."""
        patches = self._patches[self._n_done : self._n_done + len(images_nhwc)]
        self._n_done += len(images_nhwc)
        images = normalized(self._network, images_nhwc[:, 0])
        aim = layers.Aim(
            [patch.unit for patch in patches], [patch.position for patch in patches]
        )
        back = layers.project(self._network, self._tap, images, aim, self._method)
        return [
            _tile(np.moveaxis(signal, 0, -1), patch.region)
            for signal, patch in zip(back.signal, patches, strict=True)
        ]

    def finish(self, ticket: Any) -> dict[str, np.ndarray]:
        """Return the tiles of the batch."""
        return {self._tap.name: np.stack(ticket).astype(np.float32)}


def _tile(signal: np.ndarray, region: tuple[int, int, int, int]) -> np.ndarray:
    return cut_patch(report.signed_image(signal), region, SIDE)
