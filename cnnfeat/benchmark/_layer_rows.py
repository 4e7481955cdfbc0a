"""Rows of one layer, in memory or, where they are more than the budget, in the file."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cnnfeat.errors import DataError
from cnnfeat.store import FeatureFile

_BLOCK_BYTES = 64 << 20
_N_COPIES = 2  # the features, and the features transformed


class LayerRows:
    """Rows of a layer that stay in the file: a `cnnfeat.heads.RowSource`.

    Indexing with positions gives a `LayerRows` of those; nothing is read by that.
    """

    dtype = np.dtype(np.float32)

    def __init__(
        self, features: FeatureFile, layers: tuple[str, ...], rows: np.ndarray
    ) -> None:
        self._features, self._layers, self._rows = features, layers, rows
        self.shape = (len(rows), features.n_features(layers))

    def blocks(self, n_rows: int) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield the rows in order."""
        yield from self._features.blocks(self._layers, self._rows, n_rows)

    def __getitem__(self, positions: np.ndarray) -> LayerRows:
        return LayerRows(self._features, self._layers, self._rows[positions])


def open_rows(
    features: FeatureFile,
    layers: tuple[str, ...],
    rows: np.ndarray,
    budget: int | None,
) -> np.ndarray | LayerRows:
    """Return rows of a layer: in memory where they fit `budget` bytes twice over.

    Raises
    ------
    DataError
        If features are not finite; the image is named.
    """
    n_bytes = _N_COPIES * 4 * len(rows) * features.n_features(layers)
    if budget is None or n_bytes <= budget:
        X = features.read(layers, rows)
        features.refuse_non_finite(X, rows)
        return X
    source = LayerRows(features, layers, rows)
    for where, block in row_blocks(source):
        features.refuse_non_finite(block, rows[where])
    return source


def refuse_streamed(
    features: FeatureFile, layers: tuple[str, ...], rows: int, flag: str
) -> None:
    """Raise DataError: `flag` needs the features of a layer in memory."""
    n_bytes = _N_COPIES * 4 * rows * features.n_features(layers)
    raise DataError(
        f"{flag} needs the {rows:,} x {features.n_features(layers):,} features of "
        f"{'+'.join(layers)} in memory, {-(-n_bytes // 2**20):,} MiB: raise "
        "`memory_mib`, or extract with `pool`"
    )


def row_blocks(X: np.ndarray | LayerRows) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield rows in blocks of some 64 MiB; an array that is in memory at once."""
    if isinstance(X, LayerRows):
        yield from X.blocks(max(1, _BLOCK_BYTES // (4 * X.shape[1])))
    else:
        yield slice(0, len(X)), X
