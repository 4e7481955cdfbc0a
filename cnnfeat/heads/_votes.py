"""How training rows that are kept vote for classes: no torch, as for heads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnnfeat.errors import DataError


@dataclass(frozen=True, eq=False)
class Neighbours:
    """How the training rows of a `knn` head vote.

    Parameters
    ----------
    labels : ndarray of shape (n,), dtype=int64
        Each row's class.
    n_classes : int
    k : int
        How many of the nearest vote.
    temperature : float
        Above 0; the lower, the more the very nearest count.

    Raises
    ------
    DataError
        If k is not 1 to n, or the temperature not a number above 0.
    """

    labels: NDArray[np.int64]
    n_classes: int
    k: int
    temperature: float

    def __post_init__(self) -> None:
        if not 1 <= self.k <= len(self.labels):
            raise DataError(f"k is {self.k}, expected 1 to {len(self.labels)} rows")
        if not 0 < self.temperature < np.inf:
            raise DataError(f"temperature is {self.temperature}, expected above 0")
