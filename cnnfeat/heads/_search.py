"""How far to go along a direction, at no product with the features.

`line_search` finds the step along a direction; `search_plane` a step and a change of
the intercept together, class by class: such a change moves every row into or out of the
margin at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cnnfeat.heads._losses import Loss

LINE_STEPS = 12
PLANE_STEPS = 8
PLANE_ENOUGH = 1e-3  # of the objective, that a further step may win


def dot(A: Tensor, B: Tensor, separable: bool) -> Tensor:
    """Return the inner products (n_problems,) of A and B (m, k), in their dtype.

    One a column where the problems are separable, or one over all.
    """
    if separable:
        return (A * B).sum(0)
    return (A * B).sum().reshape(1)


def line_search(
    loss: Loss, penalty: Tensor, W: Tensor, F: Tensor, D: Tensor, S: Tensor
) -> Tensor:
    """Return the step of each problem that minimises the objective along D.

    Newton's method on the slope, which rises, inside a bracket; the full step is
    kept where it is already within a tenth of the best.

    Parameters
    ----------
    loss : Loss
        Of scores (n, k).
    penalty : Tensor of shape (p, 1)
    W, D : Tensor of shape (p, k)
        Weights and direction.
    F, S : Tensor of shape (n, k)
        Their scores, X W and X D.

    Returns
    -------
    Tensor of shape (n_problems,), dtype=float64
    """
    separable = loss.separable
    # ½ Σ penalty (W + t D)² has slope `linear` + t `square`; the loss needs F + t S.
    weighted = penalty * D
    linear = dot(weighted.double(), W.double(), separable)
    square = dot(weighted.double(), D.double(), separable)
    t = torch.ones_like(linear)
    low, high = torch.zeros_like(t), torch.full_like(t, torch.inf)
    _, start, _ = loss.along(F, S, torch.zeros_like(t))
    start = start + linear
    for _ in range(LINE_STEPS):
        _, slope, curve = loss.along(F, S, t)
        slope, curve = slope + linear + t * square, curve + square
        if bool((slope.abs() <= 0.1 * start.abs()).all()):
            break
        low = torch.where(slope < 0, t, low)
        high = torch.where(slope > 0, t, high)
        # The slope rises, so its zero lies between the last step below it and the last
        # above. A Newton step out of that bracket is replaced: by its middle, or, as
        # long as there is no upper end, by twice the step.
        newton = t - slope / curve.clamp_min(1e-300)
        middle = torch.where(high.isinf(), 2 * t, (low + high) / 2)
        inside = (newton > low) & (newton < high)
        t = torch.where(slope == 0, t, torch.where(inside, newton, middle))
    return t


def search_plane(plane: Plane) -> tuple[Tensor, Tensor]:
    """Return W + t D + u e and its scores, for the best t and u of each column.

    Newton's method from t = 1, u = 0; a step that would raise the objective is cut to a
    third and tried again.

    Returns
    -------
    Tensor of shape (p, k)
    Tensor of shape (n, k)
    """
    k = plane.D.shape[1]
    # (t, u) is sought in float64: sums over rows are, and the arrays stay as they are.
    at = plane.D.new_zeros(2, k, dtype=torch.float64)
    at[0] = 1
    best, step, decrement = plane.measure(at)
    cut = torch.ones_like(best)
    for _ in range(PLANE_STEPS):
        if bool((decrement <= PLANE_ENOUGH * best).all()):
            break
        tried = at + cut * step
        new, new_step, new_decrement = plane.measure(tried)
        lower = new <= best
        at, step = torch.where(lower, tried, at), torch.where(lower, new_step, step)
        best = torch.where(lower, new, best)
        decrement = torch.where(lower, new_decrement, decrement)
        cut = torch.where(lower, 1.0, cut / 3)
    return plane.point(at)


@dataclass
class Plane:
    """The points W + t D + u e of a separable problem, e the intercept's weight.

    Attributes
    ----------
    loss : Loss
        Separable, of k columns.
    penalty : Tensor of shape (p, 1)
    W, F : Tensor of shape (p, k) and (n, k)
        Weights and scores at t = u = 0.
    D, S : Tensor of shape (p, k) and (n, k)
        The direction and its scores.
    intercept : float
        The constant feature, not 0; its weight is the last row of W.
    """

    loss: Loss
    penalty: Tensor
    W: Tensor
    F: Tensor
    D: Tensor
    S: Tensor
    intercept: float

    def __post_init__(self) -> None:
        # The penalty is ½ wᵀ P w in t and u: its slopes at 0 are `lines`, its second
        # derivatives `squares` (t t and t u) and `own` (u u), its value `rest`.
        weighted = self.penalty * self.D
        self.lines = (
            _sum(weighted * self.W),
            self.penalty[-1].double() * self.W[-1].double(),
        )
        self.squares = (_sum(weighted * self.D), weighted[-1].double())
        self.own = float(self.penalty[-1])
        self.rest = 0.5 * _sum(self.penalty * self.W * self.W)

    def point(self, at: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights (p, k) and scores (n, k) at (t, u), (2, k), float64."""
        t, u = at.to(self.D.dtype)
        W = torch.addcmul(self.W, self.D, t)
        W[-1] += u
        return W, torch.addcmul(self.F + u * self.intercept, self.S, t)

    def measure(self, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return value (k,), Newton step (2, k) and half its slope (k,) at (t, u)."""
        (t, u), c, S = at, self.intercept, self.S
        fast = at.to(S.dtype)
        F = torch.addcmul(self.F + fast[1] * c, S, fast[0])
        losses, G, state = self.loss.evaluate(F)
        (line_t, line_u), (h_tt, h_tu) = self.lines, self.squares
        g_t = line_t + t * h_tt + u * h_tu
        g_u = line_u + t * h_tu + u * self.own
        value = losses + self.rest
        value += 0.5 * (t * (line_t + g_t) + u * (line_u + g_u))
        bent = self.loss.curvature(state, S)
        g_t, g_u = g_t + _sum(G * S), g_u + _sum(G) * c
        h_tt, h_tu = h_tt + _sum(bent * S), h_tu + _sum(bent) * c
        h_uu = self.own + _sum(state) * c * c
        # The 2 x 2 Newton system of each column, by Cramer's rule. Where the Hessian is
        # singular the step is huge; it raises the objective, and the caller cuts it.
        determinant = (h_tt * h_uu - h_tu * h_tu).clamp_min(1e-300)
        step_t = (h_tu * g_u - h_uu * g_t) / determinant
        step_u = (h_tu * g_t - h_tt * g_u) / determinant
        decrement = -0.5 * (step_t * g_t + step_u * g_u)
        return value, torch.stack([step_t, step_u]), decrement


def _sum(A: Tensor) -> Tensor:
    return A.sum(0, dtype=torch.float64)
