"""Newton directions by preconditioned conjugate gradients, all columns at once.

The preconditioner is shared by all classes: the inverse of the Hessian in which every
row is weighted by its mean curvature over the classes. With every row active, as in the
first step, it is the exact inverse. Where features are few each column has its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from cnnfeat.heads._objective import Objective
from cnnfeat.heads._rows import Rows
from cnnfeat.heads._search import dot

CG_MAX_ITER = 200
FEW = 64  # features, with which each column has a preconditioner of its own


class Preconditioner(Protocol):
    """Near the inverse of the Hessian of every column."""

    def __call__(self, R: Tensor) -> Tensor:
        """Return the inverse applied to R (p, k)."""

    def columns(self, keep: Tensor) -> Preconditioner:
        """Return it for the columns where `keep` (k,), bool, says so."""


class OwnPreconditioner:
    """For each column the inverse of its own block of the Hessian.

    A block of the squared hinge is all of a column's Hessian; that of the softmax lacks
    what classes have to do with each other. Blocks and factors are float64: features
    are few, and with a large C the smallest eigenvalues are below float32's rounding of
    the largest.

    Parameters
    ----------
    half : Tensor of shape (k, p, p)
        L⁻¹ of each block L Lᵀ.
    """

    def __init__(self, half: Tensor):
        self.half = half

    @classmethod
    def of_rows(cls, rows: Rows, penalty: Tensor, A: Tensor) -> OwnPreconditioner:
        """Return the one of diag(penalty) + Xᵀ diag(a) X, a each column of A (n, k).

        `penalty` (p, 1) is of the dtype that the inverse is applied in.
        """
        H = rows.weighted_grams(A.double())
        H.diagonal(dim1=1, dim2=2).add_(penalty[:, 0].double())
        # Only a free intercept may lack curvature.
        largest = H.diagonal(dim1=1, dim2=2).amax(1)
        H.diagonal(dim1=1, dim2=2).add_(largest[:, None] * 1e-14 + 1e-300)
        factor, failed = torch.linalg.cholesky_ex(H)
        scales = H.diagonal(dim1=1, dim2=2).clamp_min(1e-30).sqrt().diag_embed()
        factor = torch.where((failed > 0)[:, None, None], scales, factor)
        one = torch.eye(rows.p, dtype=H.dtype, device=H.device).expand_as(H)
        half = torch.linalg.solve_triangular(factor, one, upper=False)
        return cls(half.to(penalty.dtype))

    def columns(self, keep: Tensor) -> OwnPreconditioner:
        """Return it for the columns where `keep` (k,), bool, says so."""
        return OwnPreconditioner(self.half[keep])

    def __call__(self, R: Tensor) -> Tensor:
        """Return L⁻ᵀ L⁻¹ R of each column of R (p, k)."""
        out = self.half.mT @ (self.half @ R.T[:, :, None])
        return out[:, :, 0].T


class SharedPreconditioner:
    """The inverse of a symmetric positive definite H (p, p), shared by all columns."""

    def __init__(self, H: Tensor):
        self.factor = _factor(H)

    @classmethod
    def of_rows(cls, rows: Rows, penalty: Tensor, a: Tensor) -> SharedPreconditioner:
        """Return the one of diag(penalty) + Xᵀ diag(a) X.

        Parameters
        ----------
        rows : Rows
            n rows of p features.
        penalty : Tensor of shape (p, 1)
        a : Tensor of shape (n,), of penalty's dtype
            Curvature of each row, the same for all columns.
        """
        H = rows.weighted_gram(a)
        H.diagonal().add_(penalty[:, 0])
        return cls(H)

    def columns(self, keep: Tensor) -> SharedPreconditioner:
        """Return it as it is: it serves whichever columns `keep` (k,) leaves."""
        return self

    def __call__(self, R: Tensor) -> Tensor:
        """Return the inverse applied to R (p, n_columns)."""
        # H = L Lᵀ: one solve with L, one with its transpose.
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
    """A Newton direction.

    Attributes
    ----------
    D : Tensor of shape (p, k)
    S : Tensor of shape (n, k)
        Its scores X D, so that the search along it takes no product with X.
    n_products : int
        Hessian products that it took.
    """

    D: Tensor
    S: Tensor
    n_products: int


def conjugate_gradients(
    objective: Objective,
    state: Tensor,
    gradient: Tensor,
    preconditioner: Preconditioner,
    enough: Tensor,
) -> Direction:
    """Return D with H D ≈ −gradient and its scores S = X D.

    Columns that have stopped leave the matrix products.

    Parameters
    ----------
    objective : Objective
        Loss and penalty in the dtype of the gradient.
    state : Tensor of shape (n, k)
        The loss's own, at the weights where the gradient was taken.
    gradient : Tensor of shape (p, k)
    preconditioner : Preconditioner
        Near the inverse of every column's H.
    enough : Tensor of shape (n_problems,)
        Norm of the residual at which a problem stops.

    References
    ----------
    Nocedal and Wright, "Numerical optimization", 2nd edition, algorithm 5.3.
    """
    rows, loss, penalty = objective.rows, objective.loss, objective.penalty
    separable = loss.separable
    D, S = torch.zeros_like(gradient), torch.zeros_like(state)
    live = torch.arange(gradient.shape[1], device=gradient.device)
    d, s, r = D, S, -gradient
    z = preconditioner(r)
    q, rz = z, dot(r, z, separable)
    for step in range(1, CG_MAX_ITER + 1):
        scores = rows.forward(q)
        # H q = penalty q + Xᵀ (d²L/dF²) X q: two products with X for all columns.
        Hq = rows.adjoint(loss.curvature(state, scores)).addcmul_(penalty, q)
        # H is at least the penalty; rounding at large C may tell otherwise, even of the
        # sign. A direction of no curvature gives 0 / tiny = 0 and not NaN.
        least = dot(q, penalty * q, separable).clamp_min(torch.finfo(r.dtype).tiny)
        alpha = rz / torch.maximum(dot(q, Hq, separable), least)
        d = torch.addcmul(d, q, alpha)
        s = torch.addcmul(s, scores, alpha)
        r = torch.addcmul(r, Hq, alpha, value=-1)
        # A preconditioner that rounding has made indefinite leads nowhere.
        running = (dot(r, r, separable).sqrt() > enough) & (rz > 0)
        n_running = int(running.sum())
        if n_running == 0 or step == CG_MAX_ITER:
            D[:, live], S[:, live] = d, s
            break
        # Taking columns out copies all arrays, so it waits until a fifth have stopped.
        if separable and n_running <= 0.8 * len(live):
            D[:, live], S[:, live] = d, s
            live, enough, rz = live[running], enough[running], rz[running]
            d, s, r, q = (A[:, running] for A in (d, s, r, q))
            loss, state = loss.columns(running), state[:, running]
            preconditioner = preconditioner.columns(running)
        z = preconditioner(r)
        previous, rz = rz, dot(r, z, separable)
        q = torch.addcmul(z, q, rz / previous)
    return Direction(D, S, step)
