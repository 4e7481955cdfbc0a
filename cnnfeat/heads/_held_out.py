"""Fits to folds, and which held-out rows they are right on for certain.

Where all weights are penalised, a head's objective is 1-strongly convex, and weights w
with gradient g are at most ‖g‖ from those of the minimum (Boyd and Vandenberghe,
*Convex optimization*, 2004, section 9.1.2). A score of a row x is then at most ‖g‖ ‖x‖
from the one at the minimum. If the true class leads by more than two such errors, or
another leads it by more, then going on with the fit changes nothing for that row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cnnfeat.splits import Split


@dataclass(frozen=True, eq=False)
class Marks:
    """How held-out rows (m,) fare.

    Attributes
    ----------
    right : ndarray of shape (m,), dtype=bool
        The true class has the highest score of the fit as it is.
    known : ndarray of shape (m,), dtype=bool
        So it has, or has not, at the minimum.
    """

    right: NDArray[np.bool_]
    known: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        scores: NDArray[np.floating],
        index: NDArray[np.int64],
        errors: NDArray[np.float64] | None,
        norms: NDArray[np.float64],
    ) -> Marks:
        """Return them for scores (m, k), or (m, 1) with two classes.

        Parameters
        ----------
        scores : ndarray of shape (m, k) or (m, 1)
            One column is the second class's score against the first.
        index : ndarray of shape (m,)
            The true class's column.
        errors : ndarray of shape (k,) or (1,), optional
            How far the weights of each column are from its minimum, at most. None where
            nobody knows: then rows are taken as they are scored.
        norms : ndarray of shape (m,)
            ‖x‖ of each row, its constant included.
        """
        # float64: near the end of a fit the errors are below float32's rounding.
        F = scores.astype(np.float64)
        if F.shape[1] == 1:
            F = np.concatenate([np.zeros_like(F), F], 1)
            errors = None if errors is None else np.array([0.0, errors[0]])
        right = F.argmax(1) == index
        if errors is None:
            return cls(right, np.ones_like(right))
        E = norms[:, None] * errors
        at = np.arange(len(F)), index
        lowest, highest = (F - E)[at], (F + E)[at]
        above, below = F + E, F - E
        above[at] = below[at] = -np.inf
        known = (lowest > above.max(1)) | (below.max(1) > highest)
        return cls(right, known)

    @classmethod
    def joined(cls, parts: list[Marks]) -> Marks:
        """Return those of several folds, one after another."""
        return cls(
            np.concatenate([part.right for part in parts]),
            np.concatenate([part.known for part in parts]),
        )


@dataclass(frozen=True, eq=False)
class FoldFits:
    """Fits to the training rows of several folds, at one C.

    Attributes
    ----------
    weights : Tensor of shape (p, n_folds * k)
        In the basis that the problem is solved in, fold after fold.
    scores : ndarray of shape (n, n_folds, k) or (n, n_folds, 1)
        Of all rows of the problem; with two classes one column.
    errors : ndarray of shape (n_folds, k) or (n_folds, 1), optional
        How far each column's weights are from those of its minimum, at most. None for
        the softmax, whose free intercept allows no such bound.
    """

    weights: Tensor
    scores: NDArray[np.floating]
    errors: NDArray[np.float64] | None = None

    @property
    def start(self) -> Tensor:
        """The mean of the folds' weights, (p, k), where a fit to all rows may start."""
        return self.weights.reshape(len(self.weights), *self.scores.shape[1:]).mean(1)

    def marks(
        self,
        folds: Sequence[Split],
        index: NDArray[np.int64],
        norms: NDArray[np.float64],
    ) -> list[Marks]:
        """Return of each fold how its held-out rows fare.

        Parameters
        ----------
        folds : sequence of Split
            Those that were fitted to.
        index : ndarray of shape (n,)
            The true class's column of every row.
        norms : ndarray of shape (n,)
            Of every row, its constant included.
        """
        marks = []
        for number, fold in enumerate(folds):
            scores = self.scores[fold.test, number]
            errors = None if self.errors is None else self.errors[number]
            marks.append(Marks.of(scores, index[fold.test], errors, norms[fold.test]))
        return marks
