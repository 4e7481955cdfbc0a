"""A fitted linear function of features: its weights, scores and classes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnfeat.heads._rows import RowSource
from cnnfeat.heads._validation import as_features, check_finite
from cnnfeat.heads._votes import Neighbours

_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class LinearFit:
    """What a fit gave; with two classes one row of weights, as in scikit-learn.

    Attributes
    ----------
    kind : str
        One of `HEAD_KINDS`.
    C : float or None
        None where a kind has none.
    classes : ndarray of shape (k,)
    coef : ndarray of shape (k, d), or (1, d) with two classes, float32 or float64
        In the dtype that was solved in. Of nearest neighbours the rows (n, d).
    intercept : ndarray of shape (k,) or (1,), floating
    n_iter : int
        Newton steps; 0 where nothing is solved.
    side : {"primal", "gram", ""}
        The side it was solved on.
    objective : float
        Sum of the objectives over the classes.
    start : Tensor of shape (p, k) or (p, 1), optional
        Where a fit to the same rows at another C may start.
    neighbours : Neighbours, optional
        What the rows of nearest neighbours vote for.
    """

    kind: str
    C: float | None
    classes: NDArray[Any]
    coef: NDArray[Any]
    intercept: NDArray[Any]
    n_iter: int
    side: str
    objective: float
    start: Tensor | None = field(default=None, repr=False)
    neighbours: Neighbours | None = None

    @classmethod
    def of_rows(
        cls,
        kind: str,
        classes: NDArray[Any],
        rows: NDArray[np.float32],
        offset: NDArray[np.float32],
        neighbours: Neighbours | None = None,
    ) -> LinearFit:
        """Return what scores by nearness to some rows (n, d); nothing is solved."""
        return cls(kind, None, classes, rows, offset, 0, "", 0.0, None, neighbours)

    @property
    def is_finite(self) -> bool:
        """Whether the objective and all weights are numbers, and float32 holds these.

        Heads keep float32.
        """
        largest = np.finfo(np.float32).max
        parts = (self.coef, self.intercept)
        # NaN is not at most anything.
        fits = all(bool((np.abs(part) <= largest).all()) for part in parts)
        return fits and math.isfinite(self.objective)

    def predict(self, X: Tensor | RowSource) -> NDArray[Any]:
        """Return the classes (n,) of features X (n, d), as they are in `classes`."""
        # The one that was solved on.
        device = torch.device("cpu") if self.start is None else self.start.device
        scores = linear_scores(X, self.coef, self.intercept, device)
        return best_classes(scores, self.classes)

    def per_class(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return `coef` (k, d) and `intercept` (k,), float32, a row for each class.

        Of nearest neighbours a row for each of them. Two classes have one row w. A
        softmax becomes (−w/2, w/2), whose probabilities are the same; an SVM (−w, w),
        whose scores are the two one-vs-rest decisions.
        """
        coef, intercept = self.coef, self.intercept
        if len(self.classes) == 2 and len(coef) == 1:
            half = 0.5 if self.kind == "softmax" else 1.0
            coef = np.concatenate([-half * coef, half * coef])
            intercept = np.concatenate([-half * intercept, half * intercept])
        return coef.astype(np.float32), intercept.astype(np.float32)


def linear_scores(
    X: Any, coef: NDArray[Any], intercept: NDArray[Any], device: torch.device
) -> NDArray[Any]:
    """Return X @ coef.T + intercept.

    Parameters
    ----------
    X : ndarray, Tensor or RowSource of shape (n, d), floating
        A source is scored block by block.
    coef : ndarray of shape (k, d), floating
    intercept : ndarray of shape (k,), floating
    device : torch.device
        Where the products are computed.

    Returns
    -------
    ndarray of shape (n, k)
        In the wider of X's and coef's dtype.

    Raises
    ------
    DataError
        For NaN or infinity in X.
    """
    if isinstance(X, RowSource):
        blocks = (torch.as_tensor(block) for _, block in X.blocks(_ROWS_AT_ONCE))
        return np.concatenate(
            [linear_scores(b, coef, intercept, device) for b in blocks]
        )
    X = as_features(X, device)
    check_finite(X)
    W = torch.as_tensor(coef, device=X.device)
    dtype = torch.promote_types(X.dtype, W.dtype)
    F = X.to(dtype) @ W.to(dtype).T
    F += torch.as_tensor(intercept, device=X.device, dtype=dtype)
    result: NDArray[Any] = F.cpu().numpy()
    return result


def best_classes(scores: NDArray[Any], classes: NDArray[Any]) -> NDArray[Any]:
    """Return the class (n,) of the highest score, of scores (n, k) or (n, 1).

    One column is the second class's score against the first: above 0 it wins.
    """
    if scores.shape[1] == 1:
        return np.asarray(classes[(scores[:, 0] > 0).astype(int)])
    return np.asarray(classes[scores.argmax(1)])
