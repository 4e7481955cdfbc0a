"""The three losses on scores: value, gradient, curvature and line search.

A loss sees scores `F` (n, k) of n rows and k columns, and nothing of features or
weights. Squared hinge and logistic losses are separable: every column is a problem of
its own, and columns that have converged can be dropped. The multinomial loss couples
the columns into one problem.

All sums run in float64, (n_problems,); arrays keep the dtype of the scores, float32
while a direction is sought and float64 in the check.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor


class Loss(Protocol):
    """What the Newton solver asks of a loss of scores (n, k)."""

    separable: bool

    def columns(self, keep: Tensor) -> Loss:
        """Return the same loss on the columns where `keep` (k,), bool, says so."""

    def to(self, dtype: torch.dtype) -> Loss:
        """Return the same loss with its arrays (n, k) in another dtype."""

    def evaluate(self, F: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return L, dL/dF and what `curvature` needs to know.

        Parameters
        ----------
        F : Tensor of shape (n, k), floating
            Scores.

        Returns
        -------
        Tensor of shape (n_problems,), dtype=float64
            L: one a column, or one over all.
        Tensor of shape (n, k), dtype of F
            dL/dF.
        Tensor of shape (n, k), dtype of F
            The state.
        """

    def curvature(self, state: Tensor, S: Tensor) -> Tensor:
        """Return d²L/dF² (n, k) applied to a change of scores S (n, k)."""

    def row_weights(self, state: Tensor) -> Tensor:
        """Return the mean curvature of each row over the columns, (n,)."""

    def own_weights(self, state: Tensor) -> Tensor:
        """Return the curvature of each row in each column alone, (n, k)."""

    def along(self, F: Tensor, S: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return value, slope and curvature of t -> L(F + t S).

        Parameters
        ----------
        F, S : Tensor of shape (n, k), floating
            Scores, and their change along a direction.
        t : Tensor of shape (n_problems,), dtype=float64
            A step for each problem.

        Returns
        -------
        three Tensors of shape (n_problems,), dtype=float64
        """


class SeparableLoss(Loss, Protocol):
    """A loss whose k columns are problems of their own."""

    @property
    def Y(self) -> Tensor:
        """Labels ±1, (n, k)."""

    def scaled(self, factor: float) -> SeparableLoss:
        """Return the same loss with every cost (n, k) times `factor`."""


def _sum_rows(A: Tensor) -> Tensor:
    return A.sum(0, dtype=torch.float64)


@dataclass(frozen=True)
class _Columns:
    """A separable loss: a sum over rows of cost times a function of Y F.

    Parameters
    ----------
    Y : Tensor of shape (n, k), floating
        ±1.
    cost : Tensor of shape (n, k), (n, 1) or (1, 1), floating
        C times the weight of the row.
    """

    Y: Tensor
    cost: Tensor
    separable = True

    def columns(self, keep: Tensor) -> Self:
        """Return the same loss on the columns where `keep` (k,), bool, says so."""
        one_column = self.cost.shape[1] == 1  # it serves whichever columns are left
        return type(self)(
            self.Y[:, keep], self.cost if one_column else self.cost[:, keep]
        )

    def to(self, dtype: torch.dtype) -> Self:
        """Return the same loss with its arrays (n, k) in another dtype."""
        return type(self)(self.Y.to(dtype), self.cost.to(dtype))

    def scaled(self, factor: float) -> Self:
        """Return the same loss with every cost (n, k) times `factor`."""
        return type(self)(self.Y, self.cost * factor)

    def curvature(self, state: Tensor, S: Tensor) -> Tensor:
        """Return d²L/dF² (n, k) applied to S (n, k); it is diagonal."""
        return state * S

    def row_weights(self, state: Tensor) -> Tensor:
        """Return each row's mean curvature, (n,)."""
        return state.mean(1)

    def own_weights(self, state: Tensor) -> Tensor:
        """Return the curvatures as they are, (n, k)."""
        return state


@dataclass(frozen=True)
class SquaredHinge(_Columns):
    """Σ cost max(0, 1 − Y F)², one column (n,) a class (Chapelle 2007, section 2)."""

    def evaluate(self, F: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return L (k,), dL/dF (n, k), and 2 cost where a row is active, (n, k)."""
        slack = torch.addcmul(torch.ones_like(F[:1, :1]), self.Y, F, value=-1)
        slack.clamp_min_(0)
        # The generalised second derivative: 2 cost inside the margin, 0 outside.
        state = (slack > 0).to(F.dtype).mul_(2 * self.cost)
        slack_cost = slack * self.cost
        value = _sum_rows(slack_cost * slack)
        # dL/dF = −2 cost Y max(0, 1 − Y F)
        return value, slack_cost.mul_(self.Y).mul_(-2), state

    def along(self, F: Tensor, S: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return value, slope and curvature (k,) of t (k,) -> L(F + t S), F (n, k)."""
        YS = self.Y * S
        # 1 − Y (F + t S) = (1 − Y F) − t Y S
        slack = torch.addcmul(1 - self.Y * F, YS, t.to(F.dtype), value=-1).clamp_min_(0)
        weighted = slack * self.cost
        value = _sum_rows(weighted * slack)
        slope = _sum_rows(weighted.mul_(YS)).mul_(-2)
        curve = _sum_rows(YS.square_().mul_(slack > 0).mul_(self.cost)).mul_(2)
        return value, slope, curve


@dataclass(frozen=True)
class Logistic(_Columns):
    """Σ cost log(1 + exp(−Y F)), (n, 1): scikit-learn's problem of two classes."""

    def evaluate(self, F: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return L (k,), dL/dF (n, k), and the second derivative (n, k)."""
        M = self.Y * F
        p = torch.sigmoid(-M)  # probability of the wrong side
        # log(1 + exp(−M)) = −log σ(M), which does not overflow for M ≪ 0.
        value = _sum_rows(-torch.nn.functional.logsigmoid(M) * self.cost)
        return value, -self.Y * p * self.cost, p * (1 - p) * self.cost

    def along(self, F: Tensor, S: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return value, slope and curvature (k,) of t (k,) -> L(F + t S), F (n, k)."""
        value, G, state = self.evaluate(F + t.to(F.dtype) * S)
        return value, _sum_rows(G * S), _sum_rows(state * S * S)


@dataclass(frozen=True)
class Multinomial:
    """Σ cost (logsumexp(F) − F[label]), summed over folds: one problem of all columns.

    Scores are (n, n_folds · k), the k columns of a fold side by side.

    Parameters
    ----------
    Y : Tensor of shape (n, k), floating
        One-hot, for all folds.
    cost : Tensor of shape (n, n_folds), floating
        C times the weight of the row; 0 in the folds that do not train on it.
    """

    Y: Tensor
    cost: Tensor
    separable = False

    def columns(self, keep: Tensor) -> Multinomial:
        """Return the loss as it is: coupled columns (n, k) stay together."""
        return self

    def to(self, dtype: torch.dtype) -> Multinomial:
        """Return the same loss with its arrays (n, k) in another dtype."""
        return Multinomial(self.Y.to(dtype), self.cost.to(dtype))

    def evaluate(self, F: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return L (1,), dL/dF and the probabilities, both of the shape of F."""
        log_p = torch.log_softmax(self._by_fold(F), 2)
        own = (log_p * self.Y[:, None]).sum(2)
        value = -(own * self.cost).sum(dtype=torch.float64)
        p = log_p.exp_()
        G = (p - self.Y[:, None]).mul_(self.cost[:, :, None])
        return value.reshape(1), G.view_as(F), p.view_as(F)

    def curvature(self, state: Tensor, S: Tensor) -> Tensor:
        """Return d²L/dF² applied to S, of its shape, row by row and fold by fold."""
        # The Hessian of a row is cost (diag(p) − p pᵀ), so H s = cost (p∘s − p (p·s)).
        p = self._by_fold(state)
        pS = p * self._by_fold(S)
        bent = pS.addcmul_(p, pS.sum(2, keepdim=True), value=-1)
        return bent.mul_(self.cost[:, :, None]).view_as(S)

    def row_weights(self, state: Tensor) -> Tensor:
        """Return the mean of each row's diagonal of the Hessian, (n,)."""
        return self.own_weights(state).mean(1)

    def own_weights(self, state: Tensor) -> Tensor:
        """Return each row's diagonal of the Hessian, (n, n_folds · k)."""
        p = self._by_fold(state)
        return ((p - p * p) * self.cost[:, :, None]).view_as(state)

    def along(self, F: Tensor, S: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return value, slope and curvature (1,) of t (1,) -> L(F + t S)."""
        value, G, state = self.evaluate(F + t.to(F.dtype) * S)
        curve = (self.curvature(state, S) * S).sum(dtype=torch.float64)
        return value, (G * S).sum(dtype=torch.float64).reshape(1), curve.reshape(1)

    def _by_fold(self, A: Tensor) -> Tensor:
        """Return A (n, n_folds · k) as (n, n_folds, k)."""
        return A.reshape(len(A), -1, self.Y.shape[1])
