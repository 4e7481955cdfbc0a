"""Newton directions by preconditioned conjugate gradients, all columns at once.

The preconditioner is shared by all classes: the inverse of the Hessian in which every
row is weighted by its mean curvature over the classes. With every row active, as in the
first step, it is the exact inverse.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cnnfeat.heads._losses import Loss
from cnnfeat.heads._rows import Rows
from cnnfeat.heads._search import dot

CG_MAX_ITER = 200


class Preconditioner:
    """The inverse of a symmetric positive definite H (p, p), shared by all columns."""

    def __init__(self, H: Tensor):
        self.factor = _factor(H)

    @classmethod
    def of_rows(cls, rows: Rows, penalty: Tensor, a: Tensor) -> Preconditioner:
        """Return the one of diag(penalty) + Xᵀ diag(a) X."""
        H = rows.weighted_gram(a)
        H.diagonal().add_(penalty[:, 0])
        return cls(H)

    def __call__(self, R: Tensor) -> Tensor:
        """Return the inverse applied to R (p, n_columns)."""
        half = torch.linalg.solve_triangular(self.factor, R, upper=False)
        return torch.linalg.solve_triangular(self.factor.mT, half, upper=True)


def _factor(H: Tensor) -> Tensor:
    """Return the Cholesky factor of H; from float64 where float32 fails."""
    factor, failed = torch.linalg.cholesky_ex(H)
    if not failed:
        return factor
    H64 = H.double()
    ridge = H64.diagonal().abs().max() * 1e-10
    H64.diagonal().add_(ridge + 1e-300)
    factor, failed = torch.linalg.cholesky_ex(H64)
    if failed:  # rounding made it indefinite: the diagonal still scales the columns
        return torch.diag(H.diagonal().clamp_min(1e-30).sqrt())
    return factor.to(H.dtype)


@dataclass
class Direction:
    """A Newton direction, its scores, and the Hessian products that it took."""

    D: Tensor
    S: Tensor
    n_products: int


def conjugate_gradients(
    rows: Rows,
    loss: Loss,
    state: Tensor,
    penalty: Tensor,
    gradient: Tensor,
    preconditioner: Preconditioner,
    enough: Tensor,
) -> Direction:
    """Return D with H D ≈ −gradient and its scores S = X D.

    `enough` holds the residual norm at which a problem stops, (n_problems,). Columns
    that have stopped leave the matrix products.
    """
    separable = loss.separable
    D, S = torch.zeros_like(gradient), torch.zeros_like(state)
    live = torch.arange(gradient.shape[1], device=gradient.device)
    d, s, r = D, S, -gradient
    z = preconditioner(r)
    q, rz = z, dot(r, z, separable)
    for step in range(1, CG_MAX_ITER + 1):
        scores = rows.forward(q)
        Hq = rows.adjoint(loss.curvature(state, scores)).addcmul_(penalty, q)
        alpha = rz / dot(q, Hq, separable).clamp_min(torch.finfo(r.dtype).tiny)
        d = torch.addcmul(d, q, alpha)
        s = torch.addcmul(s, scores, alpha)
        r = torch.addcmul(r, Hq, alpha, value=-1)
        running = dot(r, r, separable).sqrt() > enough
        n_running = int(running.sum())
        if n_running == 0 or step == CG_MAX_ITER:
            D[:, live], S[:, live] = d, s
            break
        if separable and n_running <= 0.8 * len(live):
            D[:, live], S[:, live] = d, s
            live, enough, rz = live[running], enough[running], rz[running]
            d, s, r, q = (A[:, running] for A in (d, s, r, q))
            loss, state = loss.columns(running), state[:, running]
        z = preconditioner(r)
        previous, rz = rz, dot(r, z, separable)
        q = torch.addcmul(z, q, rz / previous)
    return Direction(D, S, step)
