"""The three losses on scores: value, gradient, curvature and line search.

A loss sees scores `F` (n_rows, n_columns) and nothing of features or weights. Squared
hinge and logistic losses are separable: every column is a problem of its own, and
columns that have converged can be dropped. The multinomial loss couples the columns.

All sums run in float64; the arrays keep the dtype of the scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Loss(Protocol):
    """What the Newton solver asks of a loss."""

    separable: bool

    def columns(self, keep: Tensor) -> Loss:
        """Return the same loss on some of the columns."""

    def to(self, dtype: torch.dtype) -> Loss:
        """Return the same loss with its arrays in another dtype."""

    def evaluate(self, F: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (value per column in float64, dL/dF, state for `curvature`)."""

    def curvature(self, state: Tensor, S: Tensor) -> Tensor:
        """Return d²L/dF² applied to a change of scores S."""

    def row_weights(self, state: Tensor) -> Tensor:
        """Return the mean curvature of each row over the columns, (n_rows,)."""

    def along(self, F: Tensor, S: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return value, slope and curvature per column of t -> L(F + t S)."""


class SeparableLoss(Loss, Protocol):
    """A loss whose columns are problems of their own."""

    @property
    def Y(self) -> Tensor:
        """Labels ±1, (n_rows, n_columns)."""

    def scaled(self, factor: float) -> SeparableLoss:
        """Return the same loss with every cost times `factor`."""


def _sum_rows(A: Tensor) -> Tensor:
    return A.sum(0, dtype=torch.float64)


def _take(cost: Tensor, keep: Tensor) -> Tensor:
    return cost[:, keep] if cost.shape[1] > 1 else cost


@dataclass(frozen=True)
class SquaredHinge:
    """Σ cost max(0, 1 − Y F)², one column a class (Chapelle 2007, section 2).

    `Y` is (n_rows, n_columns), ±1; `cost` broadcasts to it and holds C times weights.
    """

    Y: Tensor
    cost: Tensor
    separable = True

    def columns(self, keep: Tensor) -> SquaredHinge:
        """Return the same loss on some of the columns."""
        return SquaredHinge(self.Y[:, keep], _take(self.cost, keep))

    def to(self, dtype: torch.dtype) -> SquaredHinge:
        """Return the same loss in another dtype."""
        return SquaredHinge(self.Y.to(dtype), self.cost.to(dtype))

    def scaled(self, factor: float) -> SquaredHinge:
        """Return the same loss with every cost times `factor`."""
        return SquaredHinge(self.Y, self.cost * factor)

    def evaluate(self, F: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return value per problem, dL/dF and the curvature's state."""
        slack = torch.addcmul(torch.ones_like(F[:1, :1]), self.Y, F, value=-1)
        slack.clamp_min_(0)
        state = (slack > 0).to(F.dtype).mul_(2 * self.cost)
        slack_cost = slack * self.cost
        value = _sum_rows(slack_cost * slack)
        return value, slack_cost.mul_(self.Y).mul_(-2), state

    def curvature(self, state: Tensor, S: Tensor) -> Tensor:
        """Return d²L/dF² applied to S."""
        return state * S

    def row_weights(self, state: Tensor) -> Tensor:
        """Return each row's mean curvature."""
        return state.mean(1)

    def along(self, F: Tensor, S: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return value, slope and curvature of t -> L(F + t S)."""
        YS = self.Y * S
        slack = torch.addcmul(1 - self.Y * F, YS, t.to(F.dtype), value=-1).clamp_min_(0)
        weighted = slack * self.cost
        value = _sum_rows(weighted * slack)
        slope = _sum_rows(weighted.mul_(YS)).mul_(-2)
        curve = _sum_rows(YS.square_().mul_(slack > 0).mul_(self.cost)).mul_(2)
        return value, slope, curve


@dataclass(frozen=True)
class Logistic:
    """Σ cost log(1 + exp(−Y F)): the two-class case of scikit-learn's convention."""

    Y: Tensor
    cost: Tensor
    separable = True

    def columns(self, keep: Tensor) -> Logistic:
        """Return the same loss on some of the columns."""
        return Logistic(self.Y[:, keep], _take(self.cost, keep))

    def to(self, dtype: torch.dtype) -> Logistic:
        """Return the same loss in another dtype."""
        return Logistic(self.Y.to(dtype), self.cost.to(dtype))

    def scaled(self, factor: float) -> Logistic:
        """Return the same loss with every cost times `factor`."""
        return Logistic(self.Y, self.cost * factor)

    def evaluate(self, F: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return value per problem, dL/dF and the curvature's state."""
        M = self.Y * F
        p = torch.sigmoid(-M)  # probability of the wrong side
        value = _sum_rows(-torch.nn.functional.logsigmoid(M) * self.cost)
        return value, -self.Y * p * self.cost, p * (1 - p) * self.cost

    def curvature(self, state: Tensor, S: Tensor) -> Tensor:
        """Return d²L/dF² applied to S."""
        return state * S

    def row_weights(self, state: Tensor) -> Tensor:
        """Return each row's mean curvature."""
        return state.mean(1)

    def along(self, F: Tensor, S: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return value, slope and curvature of t -> L(F + t S)."""
        value, G, state = self.evaluate(F + t.to(F.dtype) * S)
        return value, _sum_rows(G * S), _sum_rows(state * S * S)


@dataclass(frozen=True)
class Multinomial:
    """Σ cost (logsumexp(F) − F[label]): all columns are one problem.

    `Y` is (n_rows, n_columns), one-hot; `cost` is (n_rows, 1) or (1, 1).
    """

    Y: Tensor
    cost: Tensor
    separable = False

    def columns(self, keep: Tensor) -> Multinomial:
        """Return the same loss on some of the columns."""
        return self

    def to(self, dtype: torch.dtype) -> Multinomial:
        """Return the same loss in another dtype."""
        return Multinomial(self.Y.to(dtype), self.cost.to(dtype))

    def evaluate(self, F: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return value per problem, dL/dF and the curvature's state."""
        log_p = torch.log_softmax(F, 1)
        value = -((log_p * self.Y).sum(1, keepdim=True) * self.cost).sum(
            dtype=torch.float64
        )
        p = log_p.exp_()
        return value.reshape(1), (p - self.Y).mul_(self.cost), p

    def curvature(self, state: Tensor, S: Tensor) -> Tensor:
        """Return d²L/dF² applied to S."""
        pS = state * S
        return pS.addcmul_(state, pS.sum(1, keepdim=True), value=-1).mul_(self.cost)

    def row_weights(self, state: Tensor) -> Tensor:
        """Return each row's mean curvature."""
        return ((state - state * state) * self.cost).mean(1)

    def along(self, F: Tensor, S: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return value, slope and curvature of t -> L(F + t S)."""
        value, G, state = self.evaluate(F + t.to(F.dtype) * S)
        curve = (self.curvature(state, S) * S).sum(dtype=torch.float64)
        return value, (G * S).sum(dtype=torch.float64).reshape(1), curve.reshape(1)
