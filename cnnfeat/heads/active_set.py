"""Newton steps of the squared hinge solved exactly on each class's active rows.

For an active set I (rows inside the margin) the minimiser of the quadratic model is
w = X_Iᵀ β with (K_II + diag(1 / (2 C_i))) β = y_I, Chapelle 2007, equation (11). Past
small C few rows are active, about one in twenty on image features, so a Cholesky
factorisation a class costs less than conjugate gradients over all rows. All classes
take their blocks from one Gram matrix K.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

GROUP_ELEMENTS = 2**20  # of the padded blocks that are factorised together
MAX_ACTIVE = 448  # rows; with more, conjugate gradients cost less


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
    R : Tensor of shape (n, k)
        Right-hand sides.
    state : Tensor of shape (n, k)
        2 C_i where the row is active, 0 where it is not.
    """
    mask = state.T > 0  # (k, n)
    _, members = mask.nonzero(as_tuple=True)
    counts = mask.sum(1)
    starts = counts.cumsum(0) - counts
    B = torch.zeros_like(R)
    failed = torch.zeros(len(counts), dtype=torch.bool, device=K.device)
    for group in _groups(counts):
        m = int(counts[group].max())
        slots = torch.arange(m, device=K.device)
        valid = slots < counts[group][:, None]  # (g, m)
        index = torch.where(valid, starts[group][:, None] + slots, 0)
        index = torch.where(valid, members[index], 0)
        block = K[index[:, :, None], index[:, None, :]] + intercept**2  # (g, m, m)
        block *= valid[:, :, None] & valid[:, None, :]
        lam = torch.where(valid, 1 / state[index, group[:, None]], 1.0)
        lam = lam.to(K.dtype)
        block.diagonal(dim1=1, dim2=2).add_(lam)
        target = torch.where(valid, R[index, group[:, None]], 0.0).to(K.dtype)
        factor, info = torch.linalg.cholesky_ex(block)
        beta = torch.cholesky_solve(target[:, :, None], factor)[:, :, 0]
        failed[group] = (info != 0) | ~beta.isfinite().all(1)
        B[index[valid], group[:, None].expand_as(index)[valid]] = beta[valid].to(
            R.dtype
        )
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
