"""Rows on their way into a feature file: held against the layers, and converted."""

from collections.abc import Mapping, Sequence

import numpy as np

from cnnfeat.errors import DataError, ShapeError
from cnnfeat.layer_spec import LayerSpec
from cnnfeat.store._skeleton import ERROR_BYTES

_FLOAT16_MAX = float(np.finfo(np.float16).max)


def check_layers(
    specs: Mapping[str, LayerSpec], features: Mapping[str, np.ndarray], m: int
) -> None:
    """Raise ShapeError unless there are `m` rows of each layer and of no other."""
    if set(features) != set(specs):
        raise ShapeError(
            f"layers {', '.join(sorted(features))} given, "
            f"{', '.join(sorted(specs))} expected"
        )
    for name, spec in specs.items():
        array = features[name]
        if array.shape != (m, *spec.shape) or array.dtype.kind != "f":
            raise ShapeError(
                f"layer {name!r}: expected floating {(m, *spec.shape)}, "
                f"found {array.dtype} {array.shape}"
            )


def as_stored(
    spec: LayerSpec, array: np.ndarray, ok: np.ndarray, paths: Sequence[str]
) -> np.ndarray:
    """Return rows as they are stored: zeros where not ok, in the layer's dtype.

    Raises
    ------
    DataError
        If a value is too large for float16; names the layer and, of `paths`, the image.
    """
    if not ok.all():
        array = array.copy()
        array[~ok] = 0
    if spec.dtype == "float16" and array.dtype != np.float16:
        _refuse_overflow(spec.name, array, paths)
    return np.ascontiguousarray(array, dtype=spec.dtype)


def _refuse_overflow(name: str, array: np.ndarray, paths: Sequence[str]) -> None:
    largest = np.abs(array).reshape(len(array), -1).max(axis=1, initial=0)
    # Rounding to nearest turns what is at most half a step above into the maximum.
    too_large = np.flatnonzero(largest >= _FLOAT16_MAX + 16)
    if len(too_large):
        row = int(too_large[0])
        raise DataError(
            f"layer {name!r}, image {paths[row]}: "
            f"{largest[row]:.6g} does not fit in float16 (at most "
            f"{_FLOAT16_MAX:.0f}); give `dtype=float32`"
        )


def underflow_share(array: np.ndarray, stored: np.ndarray, ok: np.ndarray) -> float:
    """Return the share of an array's non-zero values that are stored as zero.

    Parameters
    ----------
    array, stored : ndarray of shape (m, ...), floating
        Rows before and after `as_stored`.
    ok : ndarray of shape (m,), dtype=bool
        Rows that count.
    """
    before = np.count_nonzero(array if ok.all() else array[ok])
    return 1 - np.count_nonzero(stored) / before if before else 0.0


def cut_reason(text: str) -> bytes:
    """Return `text` in UTF-8, cut at a character to the length that is stored."""
    data = " ".join(text.split()).encode("utf-8", "replace")
    if len(data) <= ERROR_BYTES:
        return data
    return data[: ERROR_BYTES - 3].decode("utf-8", "ignore").encode() + "…".encode()
