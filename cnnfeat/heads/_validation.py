"""What may go into a head: features, labels, weights and C, checked once.

Every message says what was expected, what was found and how to mend it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d
from torch import Tensor

from cnnfeat import machine
from cnnfeat.errors import DataError, ShapeError
from cnnfeat.heads._rows import RowSource

_ROWS_AT_ONCE = 1024


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
    """Return the grid sorted, without repeats; a grid of one is allowed.

    Raises
    ------
    DataError
        If it is empty, or holds what is not a finite number above 0.
    """
    values = sorted({check_C(C) for C in grid})
    if not values:
        raise DataError("the grid of C is empty; give at least one value")
    return tuple(values)


def working_dtype(X: Any) -> torch.dtype:
    """Return float32 for half and single precision features, else float64."""
    single = str(X.dtype).endswith(("float16", "float32"))
    return torch.float32 if single else torch.float64


def device_of(device: str, X: Any) -> torch.device:
    """Return the device named; "auto" is the tensor's own, the CPU for arrays.

    A head goes to its features, unlike a network: moving them may cost more than the
    fit. Other names are as `cnnfeat.machine.resolve_device` takes them.
    """
    if device != "auto":
        return machine.resolve_device(device)
    return X.device if isinstance(X, Tensor) else torch.device("cpu")


def as_features(X: Any, device: torch.device | None = None) -> Tensor | RowSource:
    """Return features (n, d) as a tensor on the device; a source as it is.

    Parameters
    ----------
    X : ndarray, Tensor or RowSource of shape (n, d)
        float16 becomes float32; what is neither that, float32 nor float64 the latter.
    device : torch.device, optional
        Where it is already, by default.

    Raises
    ------
    ShapeError
        If X is not 2-D.
    """
    if isinstance(X, RowSource):
        return X
    if X.ndim != 2:
        raise ShapeError(f"features must be 2-D (n, d), found {X.ndim}-D")
    if not isinstance(X, Tensor):
        X = np.ascontiguousarray(X, str(working_dtype(X)).removeprefix("torch."))
        with warnings.catch_warnings():  # read-only arrays are only read here
            warnings.filterwarnings("ignore", message="The given NumPy array is not w")
            X = torch.from_numpy(X)
    return X.detach().to(device or X.device, working_dtype(X))


def check_finite(X: Tensor | RowSource) -> None:
    """Raise DataError naming the first row of X (n, d) that holds NaN or infinity."""
    if isinstance(X, RowSource):
        blocks = ((r.start, torch.as_tensor(b)) for r, b in X.blocks(_ROWS_AT_ONCE))
    else:
        starts = range(0, len(X), _ROWS_AT_ONCE)
        blocks = ((start, X[start : start + _ROWS_AT_ONCE]) for start in starts)
    for start, block in blocks:
        if bool(block.sum().isfinite()):  # no copy; a sum may overflow: then look
            continue
        good = block.isfinite().all(1)
        if not bool(good.all()):
            row = start + int((~good).nonzero()[0, 0])
            raise DataError(
                f"features contain NaN or inf: row {row} is the first; leave such rows "
                "out or extract them again"
            )


def check_labels(y: ArrayLike | Tensor | None, n: int, name: str) -> NDArray[Any]:
    """Return labels (n,) as an array.

    Parameters
    ----------
    y : array or Tensor of shape (n,) or (n, 1)
    n : int
        Rows of the features.
    name : str
        Of the estimator, for the message.

    Raises
    ------
    DataError
        If there are none.
    ShapeError
        If there is not one a row.
    ValueError
        If they are continuous: scikit-learn's error.
    """
    if y is None:
        raise DataError(f"{name} requires y to be passed, but the target y is None")
    labels = column_or_1d(y.cpu().numpy() if isinstance(y, Tensor) else y, warn=True)
    check_classification_targets(labels)
    if len(labels) != n:
        raise ShapeError(
            f"X has {n} rows but y has {len(labels)}; they are inconsistent: one label "
            "a row is needed"
        )
    return np.asarray(labels)


def refuse_one_class(classes: NDArray[Any]) -> None:
    """Raise DataError unless rows with weight are of two classes or more."""
    if len(classes) < 2:
        raise DataError(
            "a head needs rows of at least two classes; found one class or none "
            f"with weight above 0: {classes.tolist()}"
        )


def check_weights(weights: ArrayLike | Tensor | None, n: int) -> NDArray[np.float64]:
    """Return sample weights (n,) in float64; None is ones, a number so many of it.

    Raises
    ------
    ShapeError
        If there is not one a row.
    DataError
        If one is negative, infinite or NaN.
    """
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
