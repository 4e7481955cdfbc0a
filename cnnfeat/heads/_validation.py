"""What may go into a head: features, labels, weights and C, checked once.

Every message says what was expected, what was found and how to mend it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnfeat.errors import DataError, DeviceError, ShapeError
from cnnfeat.heads._rows import RowSource


def check_C(C: Any) -> float:
    """Return C as a float; DataError unless it is a finite number above 0."""
    try:
        value = float(C)
    except (TypeError, ValueError):
        value = math.nan
    if not (value > 0 and math.isfinite(value)):
        raise DataError(f"C must be a finite number above 0, found {C!r}")
    return value


def check_grid(grid: Sequence[float]) -> tuple[float, ...]:
    """Return the grid sorted, without repeats; a grid of one is allowed."""
    values = sorted({check_C(C) for C in grid})
    if not values:
        raise DataError("the grid of C is empty; give at least one value")
    return tuple(values)


def working_dtype(X: Any) -> torch.dtype:
    """Return float32 for half and single precision features, else float64."""
    single = str(X.dtype).endswith(("float16", "float32"))
    return torch.float32 if single else torch.float64


def resolve_device(device: str, X: Any) -> torch.device:
    """Return the device named; "auto" is the tensor's own, the CPU for arrays."""
    if device != "auto":
        try:
            chosen = torch.device(device)
        except RuntimeError as error:
            raise DeviceError(
                f"no device is called {device!r}; use 'auto', 'cpu' or 'cuda'"
            ) from error
        if chosen.type == "cuda" and not torch.cuda.is_available():
            raise DeviceError(f"device {device!r} is not there; use 'auto' or 'cpu'")
        return chosen
    return X.device if isinstance(X, Tensor) else torch.device("cpu")


def check_finite(X: Tensor) -> None:
    """Raise DataError naming the first row that holds NaN or infinity."""
    for start in range(0, len(X), 1024):
        block = X[start : start + 1024]
        if bool(block.sum().isfinite()):  # no copy; a sum may overflow: then look
            continue
        good = block.isfinite().all(1)
        if not bool(good.all()):
            row = start + int((~good).nonzero()[0, 0])
            raise DataError(
                f"features contain NaN or inf: row {row} is the first; leave such rows "
                "out or extract them again"
            )


def check_source(X: RowSource) -> None:
    """Raise DataError for NaN or infinity in a streamed matrix, row named."""
    for rows, block in X.blocks(1024):
        tensor = torch.as_tensor(block)
        good = tensor.isfinite().all(1)
        if not bool(good.all()):
            row = rows.start + int((~good).nonzero()[0, 0])
            raise DataError(f"features contain NaN or inf: row {row} is the first")


def check_weights(weights: Any, n: int) -> NDArray[np.float64]:
    """Return sample weights (n,) in float64; None is ones."""
    if weights is None:
        return np.ones(n)
    values = weights.cpu().numpy() if isinstance(weights, Tensor) else weights
    values = np.asarray(values, dtype=np.float64)
    if values.ndim == 0:
        values = np.full(n, float(values))
    if values.shape != (n,):
        raise ShapeError(
            f"sample_weight must have shape ({n},), one a row; found {values.shape}"
        )
    if not np.isfinite(values).all() or (values < 0).any():
        raise DataError("sample_weight must be finite and not negative")
    return values
