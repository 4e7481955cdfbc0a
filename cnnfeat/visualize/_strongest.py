"""A Sink that keeps the strongest activations of each unit, and where they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cnnfeat.layer_spec import LayerSpec


class StrongestSink:
    """Keeps the strongest images of each unit; its memory is of units, not of images.

    It takes the features of `pool="peaks"`: the maximum of each row of a map, then of
    each column. The largest value stands where both are largest.

    Parameters
    ----------
    specs : sequence of LayerSpec
        Of shape (c, h + w).
    heights : mapping of str to int
        h, by layer.
    n_kept : int
        Images of each unit, at most.

    Attributes
    ----------
    values : dict of str to ndarray of shape (c, n_kept), dtype=float32
        By layer, largest first; minus infinity where there is none. Of equal values
        the one comes first that `shuffled` puts first: where a ReLU6 is at its limit in
        many images, those of the first class are no better than the others.
    rows : dict of str to ndarray of shape (c, n_kept), dtype=int64
    places : dict of str to ndarray of shape (c, n_kept, 2), dtype=int64
        Row and column in the map.
    n_failed : int
    failures : dict of int to str
        Why a row failed.
    """

    def __init__(
        self, specs: Sequence[LayerSpec], heights: Mapping[str, int], n_kept: int
    ) -> None:
        self.rows_done = 0
        self.failures: dict[int, str] = {}
        self._heights, self._n_kept = dict(heights), n_kept
        self.values, self.rows, self.places = {}, {}, {}
        for spec in specs:
            shape = (spec.shape[0], n_kept)
            self.values[spec.name] = np.full(shape, -np.inf, np.float32)
            self.rows[spec.name] = np.full(shape, -1, np.int64)
            self.places[spec.name] = np.zeros((*shape, 2), np.int64)

    def write(
        self,
        start: int,
        features: Mapping[str, np.ndarray],
        ok: np.ndarray,
        errors: Sequence[str],
        digests: Sequence[str] = (),
    ) -> None:
        """Take rows [start, start + m) of peaks (m, c, h + w)."""
        rows = start + np.flatnonzero(ok)
        for name, peaks in features.items():
            if len(rows):
                self._merge(name, rows, peaks[ok])
        failed = np.flatnonzero(~ok).tolist()
        self.failures |= {start + k: errors[k] for k in failed}
        self.rows_done = start + len(ok)

    def _merge(self, name: str, rows: np.ndarray, peaks: np.ndarray) -> None:
        height = self._heights[name]
        over_rows = peaks[:, :, :height]
        found = over_rows.max(2).T  # (c, m)
        # Most batches change few units: the others are left alone.
        units = np.flatnonzero((found >= self.values[name][:, -1:]).any(1))
        if not len(units):
            return
        i = over_rows[:, units].argmax(2).T
        j = peaks[:, units, height:].argmax(2).T
        kept = self.values[name][units], self.rows[name][units]
        values = np.concatenate([kept[0], found[units]], 1)
        all_rows = np.concatenate(
            [kept[1], np.broadcast_to(rows, (len(units), len(rows)))], 1
        )
        order = np.lexsort((shuffled(all_rows), -values))[:, : self._n_kept]
        places = np.concatenate([self.places[name][units], np.stack([i, j], 2)], 1)
        self.values[name][units] = np.take_along_axis(values, order, 1)
        self.rows[name][units] = np.take_along_axis(all_rows, order, 1)
        self.places[name][units] = np.take_along_axis(places, order[..., None], 1)

    def commit(self) -> None:
        """Do nothing: what is kept is small, and made again."""


def shuffled(rows: np.ndarray) -> np.ndarray:
    """Return a number for each row that has nothing to do with its place.

    Fibonacci hashing (Knuth, The Art of Computer Programming, volume 3, section 6.4).
    """
    return (rows * 2654435769) % 2**32
