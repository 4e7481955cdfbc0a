"""Newton steps of the squared hinge solved exactly on each class's active rows.

For an active set I (rows inside the margin) the minimiser of the quadratic model is
w = X_Iᵀ β with (K_II + diag(1 / (2 C_i))) β = y_I, Chapelle 2007, equation (11). Past
small C few rows are active, about one in twenty on image features, so a Cholesky
factorisation a class costs less than conjugate gradients over all rows. All classes
take their blocks from one Gram matrix K.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from cnnfeat.heads._rows import Rows

GROUP_ELEMENTS = 2**20  # of the padded blocks that are factorised together


class GramSource(Protocol):
    """Whoever computes K = X Xᵀ (n, n), without the intercept, once and when asked."""

    @property
    def has_gram(self) -> bool:
        """Whether K (n, n) is at hand already."""

    def gram(self) -> Tensor:
        """Return K (n, n), float32 or float64."""


# Multiplications of a Cholesky factorisation, m³, that the conjugate gradients of one
# Newton step repay, as a multiple of the n p of one product with the features.
REPAID = 40
# Products with one column that exact steps save in the rest of a fit: for fewer columns
# than repay it, K is not computed.
SAVED = 40


def worth_exact(counts: Tensor, rows: Rows, has_gram: bool = True) -> bool:
    """Return whether active sets are cheaper solved exactly.

    Without K at hand its n² p / 2 multiplications have to be repaid as well.

    Parameters
    ----------
    counts : Tensor of shape (k,), dtype=int64
        Active rows of each column.
    rows : Rows
        n rows of p features.
    has_gram : bool
    """
    if not has_gram and SAVED * len(counts) < rows.n / 2:
        return False
    return float(counts.double().pow(3).mean()) <= REPAID * rows.n * rows.p


def solve_active_sets(
    K: Tensor, intercept: float, state: Tensor, R: Tensor
) -> tuple[Tensor, Tensor]:
    """Return (K_II + diag(1 / state_I))⁻¹ R_I in each column, and which columns failed.

    Rows outside a column's active set are zero. With R = X g this is the Woodbury part
    of the Newton direction −g + Xᵀ B.

    Parameters
    ----------
    K : Tensor of shape (n, n)
        Gram matrix without the intercept; its dtype is that of the factorisations.
    intercept : float
        Value of the constant feature, squared into every entry of K.
    state : Tensor of shape (n, k)
        2 C_i where the row is active, 0 where it is not.
    R : Tensor of shape (n, k)
        Right-hand sides.

    Returns
    -------
    Tensor of shape (n, k), dtype of R
    Tensor of shape (k,), dtype=bool
        Columns whose matrix was not positive definite; theirs is not to be used.
    """
    columns, members = (state.T > 0).nonzero(as_tuple=True)
    counts = torch.bincount(columns, minlength=state.shape[1])
    active = members.split(counts.tolist())
    B = torch.zeros_like(R)
    failed = torch.zeros(len(counts), dtype=torch.bool, device=K.device)
    for group in _groups(counts):
        names, m = group.tolist(), int(counts[group].max())
        # Blocks of one group are padded with the identity, which leaves the solution of
        # the part inside as it is.
        block = torch.eye(m, dtype=K.dtype, device=K.device).repeat(len(names), 1, 1)
        target = K.new_zeros(len(names), m, 1)
        for at, name in enumerate(names):
            rows = active[name]
            own = block[at, : len(rows), : len(rows)]
            # The constant feature adds its square to every entry of X Xᵀ.
            own.copy_(K.index_select(0, rows).index_select(1, rows)).add_(intercept**2)
            own.diagonal().add_(1 / state[rows, name])
            target[at, : len(rows), 0] = R[rows, name]
        factor, info = torch.linalg.cholesky_ex(block)
        # `cholesky_ex` tells of a matrix that is not positive definite, and does not
        # raise: one such class must not end the fit of the others.
        half = torch.linalg.solve_triangular(factor, target, upper=False)
        beta = torch.linalg.solve_triangular(factor.mT, half, upper=True)[:, :, 0]
        failed[group] = (info != 0) | ~beta.isfinite().all(1)
        for at, name in enumerate(names):
            rows = active[name]
            B[rows, name] = beta[at, : len(rows)].to(B.dtype)
    return B, failed


def _groups(counts: Tensor) -> Iterator[Tensor]:
    """Yield columns of like size together, so that padding costs little."""
    order = counts.argsort()
    sizes = counts[order].tolist()
    start = 0
    for stop in range(1, len(sizes) + 1):
        if stop < len(sizes):
            n, m = stop + 1 - start, sizes[stop]
            if n * m * m <= GROUP_ELEMENTS and m <= 1.15 * sizes[start] + 8:
                continue
        if sizes[stop - 1] > 0:
            yield order[start:stop]
        start = stop
