"""Ridge regression on ±1 for each class against the rest, solved once for every C.

    minimise  ½‖w‖² + C Σ (y − w·x − b)²

The SVM's objective without the hinge, and with an intercept that is not penalised; so C
means the same, and the usual λ is 1 / 2C. One eigendecomposition serves all C, and what
each row's prediction is without that row follows from it (Allen 1974; Golub, Heath and
Wahba 1979), also without that row's whole group. It is solved in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnfeat.heads._linear import LinearFit
from cnnfeat.heads._selection import CChoice, CGrid, middle_of_best
from cnnfeat.metrics import mean_per_class_accuracy


def fit_ridge(
    Z: Tensor,
    y: NDArray[Any],
    grid: CGrid,
    groups: NDArray[np.int64] | None = None,
) -> tuple[LinearFit, CChoice | None]:
    """Choose C by leaving out each row, and fit to all of them.

    All values that the grid may grow to are tried, as they cost next to nothing.

    Parameters
    ----------
    Z : Tensor of shape (n, d), floating
        Transformed features of the training rows.
    y : ndarray of shape (n,)
        Labels of any kind that NumPy can sort.
    grid : CGrid
    groups : ndarray of shape (n,), dtype=int64, optional
        Rows of one group are left out together.

    Returns
    -------
    LinearFit
        A row of weights for each class, of two as well.
    CChoice or None
        None for a grid of one value.
    """
    classes, index = np.unique(y, return_inverse=True)
    problem = _Spectrum.of(Z, index, len(classes))
    below, above = grid.extra
    values = sorted({*grid.values, *below, *above})
    if len(grid.values) == 1:
        return problem.fit(classes, grid.values[0]), None
    scores = {}
    for C in values:
        predicted = problem.left_out(C, _members(groups)).argmax(1)
        right = predicted.cpu().numpy() == index
        scores[C] = mean_per_class_accuracy(index, right, len(classes))
    C = middle_of_best(scores)
    choice = CChoice(C, tuple(values), tuple(scores.values()))
    return problem.fit(classes, C), choice


def _members(groups: NDArray[np.int64] | None) -> list[NDArray[np.int64]]:
    """Return the rows of each group, () where each row is its own."""
    if groups is None:
        return []
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order])) + 1
    return np.split(order, starts)


@dataclass(frozen=True, eq=False)
class _Spectrum:
    """Centred features in their own axes.

    The hat matrix at λ is H = 1/n + B diag(f) Bᵀ. On the side of the features, G = V
    diag(s) Vᵀ, B = Z V and f = 1 / (s + λ); on that of the rows, K = Q diag(s) Qᵀ,
    B = Q and f = s / (s + λ).
    """

    B: Tensor  # (n, r)
    s: Tensor  # (r,)
    axes: Tensor  # (d, r): weights are axes @ diag(1 / (s + λ)) Bᵀ Y
    Y: Tensor  # (n, k), centred
    y_mean: Tensor  # (k,)
    mean: Tensor  # (d,)
    side: str

    @classmethod
    def of(cls, Z: Tensor, index: NDArray[np.int64], n_classes: int) -> _Spectrum:
        X = Z.double()
        mean = X.mean(0)
        X = X - mean
        Y = torch.full((len(X), n_classes), -1.0, dtype=X.dtype, device=X.device)
        Y[torch.arange(len(X)), torch.as_tensor(index)] = 1.0
        y_mean = Y.mean(0)
        if X.shape[1] <= len(X):
            s, V = torch.linalg.eigh(X.T @ X)
            parts, side = (X @ V, s.clamp_min(0), V), "primal"
        else:
            s, Q = torch.linalg.eigh(X @ X.T)
            parts, side = (Q, s.clamp_min(0), X.T @ Q), "gram"
        return cls(*parts, Y - y_mean, y_mean, mean, side)

    def _factor(self, C: float) -> Tensor:
        shrunk = 1 / (self.s + 0.5 / C)
        return shrunk if self.side == "primal" else self.s * shrunk

    def left_out(self, C: float, members: Sequence[NDArray[np.int64]]) -> Tensor:
        """Return predictions (n, k) of each row by a fit without it, or its group.

        With e = Y − H Y those of rows I are Y_I − (1 − H_II)⁻¹ e_I.
        """
        n, f = len(self.B), self._factor(C)
        residual = self.Y - self.B @ (f[:, None] * (self.B.T @ self.Y))
        if not members:
            leverage = self.B.square() @ f + 1 / n
            out = residual / (1 - leverage).clamp_min(1e-12)[:, None]
        else:
            out = torch.empty_like(residual)
            for rows in members:
                own = self.B[rows]
                inner = torch.eye(len(rows), dtype=own.dtype, device=own.device)
                inner -= (own * f) @ own.T + 1 / n
                out[rows] = torch.linalg.solve(inner, residual[rows])
        return self.Y + self.y_mean - out

    def fit(self, classes: NDArray[Any], C: float) -> LinearFit:
        """Return the head at C."""
        shrunk = 1 / (self.s + 0.5 / C)
        W = self.axes @ (shrunk[:, None] * (self.B.T @ self.Y))  # (d, k)
        b = self.y_mean - self.mean @ W
        fitted = self.B @ (self._factor(C)[:, None] * (self.B.T @ self.Y))
        loss = (self.Y - fitted).square().sum()
        return LinearFit(
            kind="ridge",
            C=C,
            classes=classes,
            coef=W.T.float().cpu().numpy(),
            intercept=b.float().cpu().numpy(),
            n_iter=1,
            side=self.side,
            objective=float(0.5 * W.square().sum() + C * loss),
        )
