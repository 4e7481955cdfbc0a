"""Rows of features as arrays in memory."""

from collections.abc import Mapping, Sequence

import numpy as np

from cnnfeat.layer_spec import LayerSpec, mark_non_finite


class ArraySink:
    """A Sink that keeps every row.

    Attributes
    ----------
    features : dict of str to ndarray of shape (n_images, ...), dtype=float32
        Zeros where not ok.
    ok : ndarray of shape (n_images,), dtype=bool
    errors : list of n_images str
        Why a row is not ok; empty where it is.
    digests : list of n_images str
        Of the images' bytes; empty where not known.
    rows_done : int
    """

    def __init__(self, n_images: int, specs: Sequence[LayerSpec]) -> None:
        self.features = {
            spec.name: np.zeros((n_images, *spec.shape), np.float32) for spec in specs
        }
        self.ok = np.zeros(n_images, dtype=bool)
        self.errors = [""] * n_images
        self.digests = [""] * n_images
        self.rows_done = 0

    def write(
        self,
        start: int,
        features: Mapping[str, np.ndarray],
        ok: np.ndarray,
        errors: Sequence[str],
        digests: Sequence[str] = (),
    ) -> None:
        """Keep rows [start, start + m)."""
        rows, ok, errors = slice(start, start + len(ok)), np.array(ok), list(errors)
        for name, array in features.items():
            mark_non_finite(name, array, ok, errors)
        for name, array in features.items():
            self.features[name][rows][ok] = array[ok]
        self.ok[rows], self.errors[rows] = ok, errors
        if digests:
            self.digests[rows] = digests
        self.rows_done = rows.stop

    def commit(self) -> None:
        """Do nothing: memory is as safe as it gets."""
