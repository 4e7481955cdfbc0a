"""Feature rows as a linear operator: in memory, or streamed in blocks of rows.

The solvers ask three things of the features: scores of weights (`forward`), the sum of
rows weighted by residuals (`adjoint`), and Gram matrices. An intercept is a virtual
last feature of constant value, so no copy of the matrix is ever made for it.

Products run in the dtype of the argument: float32 for speed, float64 for verification,
whatever the dtype of the features.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

BLOCK_BYTES = 64 * 2**20  # of a converted block of rows
GRAM_COLUMNS = 8192  # features summed in float32 before the float64 accumulator


@runtime_checkable
class RowSource(Protocol):
    """Anything that can hand out its rows in order, block by block.

    `blocks(n_rows)` yields `(slice, array of shape (at most n_rows, n_features))`.
    A feature file opened for one layer, wrapped by the verb, is one.
    """

    shape: tuple[int, int]
    dtype: Any

    def blocks(self, n_rows: int) -> Iterator[tuple[slice, Any]]:
        """Yield (rows, block (m, d)) in order, at most `n_rows` at a time."""


class Rows:
    """Features (n, d) as an operator, with a virtual last column.

    Parameters
    ----------
    X : Tensor or RowSource of shape (n, d), floating
        A source is read once per product.
    intercept : float
        Value of the virtual column; 0 for none. p is d, and 1 more with it.
    device : torch.device or str
        Where blocks of a source go; a tensor is there already.
    block_bytes : int
        Of a block of rows that is converted or read.
    """

    def __init__(
        self,
        X: Tensor | RowSource,
        intercept: float = 0.0,
        device: torch.device | str = "cpu",
        block_bytes: int = BLOCK_BYTES,
    ):
        self.X = X
        self.intercept = intercept
        self.n, self.d = (int(m) for m in X.shape)
        self.p = self.d + (intercept != 0)
        self.device = torch.device(device)
        self.block_bytes = block_bytes

    def blocks(self, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
        """Yield (rows, block (m, d)) in `dtype`; one when nothing is converted."""
        X = self.X
        if isinstance(X, Tensor) and X.dtype == dtype:
            yield slice(0, self.n), X
            return
        step = max(1, self.block_bytes // (dtype.itemsize * max(1, self.d)))
        if isinstance(X, Tensor):
            for start in range(0, self.n, step):
                rows = slice(start, min(start + step, self.n))
                yield rows, X[rows].to(dtype)
            return
        for rows, block in X.blocks(step):
            yield rows, torch.as_tensor(block).to(self.device, dtype)

    def forward(self, W: Tensor) -> Tensor:
        """Return scores X W (n, k) of weights (p, k), in their dtype."""
        weights = W[: self.d]
        constant = W[self.d :] * self.intercept
        F = W.new_empty(self.n, W.shape[1])
        for rows, block in self.blocks(W.dtype):
            torch.mm(block, weights, out=F[rows])  # no copy of a block's scores
        return F.add_(constant) if self.intercept else F

    def adjoint(self, R: Tensor) -> Tensor:
        """Return Xᵀ R (p, k) of residuals (n, k), in their dtype; intercept last."""
        out = R.new_zeros(self.p, R.shape[1])
        for rows, block in self.blocks(R.dtype):
            out[: self.d].addmm_(block.T, R[rows])
        if self.intercept:
            out[self.d] = self.intercept * R.sum(0)
        return out

    def weighted_gram(self, a: Tensor) -> Tensor:
        """Return Xᵀ diag(a) X (p, p) for a (n,), in its dtype; intercept last."""
        out = a.new_zeros(self.p, self.p)
        d = self.d
        for rows, block in self.blocks(a.dtype):
            # With √a on both sides the product is symmetric: half of it is enough.
            scaled = block * a[rows, None].sqrt()
            add_lower_product(scaled.T, out[:d, :d])
        if self.intercept:
            out[d] = self.adjoint(a[:, None])[:, 0] * self.intercept
            out[d, d] = self.intercept**2 * a.sum()
        return mirror_lower(out)

    def weighted_grams(self, A: Tensor) -> Tensor:
        """Return Xᵀ diag(a) X of each column a of A (n, k), (k, p, p), in A's dtype.

        All of them are one product with the n products of features of a row, so it is
        meant for few features.
        """
        p = self.p
        out = A.new_zeros(A.shape[1], p * p)
        for rows, block in self.blocks(A.dtype):
            if self.intercept:
                constant = block.new_full((len(block), 1), self.intercept)
                block = torch.cat([block, constant], 1)
            step = max(1, self.block_bytes // (A.dtype.itemsize * p * p))
            for part, a in zip(block.split(step), A[rows].split(step), strict=True):
                outer = part[:, :, None] * part[:, None, :]
                out.addmm_(a.T, outer.view(-1, p * p))
        return out.view(-1, p, p)

    def gram(self, dtype: torch.dtype) -> Tensor:
        """Return X Xᵀ without the intercept, (n, n), products in `dtype`.

        Sums of `GRAM_COLUMNS` products run in `dtype`; longer ones in float64. Streamed
        rows are read once per panel of rows that fits the block size.
        """
        long = self.d > GRAM_COLUMNS
        sums = torch.float64 if long else dtype
        K = torch.zeros(self.n, self.n, dtype=sums, device=self.device)
        for rows, panel in self.blocks(dtype):
            if rows.start == 0 and rows.stop == self.n:  # all rows in one block
                _add_gram(panel, K) if long else add_lower_product(panel, K)
                break
            for others, block in self.blocks(dtype):
                if others.start >= rows.start:
                    K[others, rows] += _product(block, panel)
        return mirror_lower(K)


def _product(A: Tensor, B: Tensor) -> Tensor:
    """Return A Bᵀ, long sums accumulated in float64."""
    sums = torch.float64 if A.shape[1] > GRAM_COLUMNS else A.dtype
    out = torch.zeros(len(A), len(B), dtype=sums, device=A.device)
    for start in range(0, A.shape[1], GRAM_COLUMNS):
        columns = slice(start, start + GRAM_COLUMNS)
        out += A[:, columns] @ B[:, columns].T
    return out


def _add_gram(X: Tensor, K: Tensor) -> None:
    """Add X Xᵀ to the lower triangle of K, long sums accumulated in float64."""
    for start in range(0, X.shape[1], GRAM_COLUMNS):
        part = X[:, start : start + GRAM_COLUMNS]
        product = torch.zeros(len(X), len(X), dtype=X.dtype, device=X.device)
        add_lower_product(part, product)
        K += product


def add_lower_product(A: Tensor, out: Tensor, n_blocks: int = 16) -> None:
    """Add A Aᵀ to the lower triangle of `out`, block by block.

    Nearly half the products of the whole are saved; above the diagonal blocks `out` is
    left as it was.

    Parameters
    ----------
    A : Tensor of shape (m, j)
    out : Tensor of shape (m, m), of A's dtype
    n_blocks : int
        More save more products, up to a half; fewer are larger and faster each.
    """
    step = max(128, -(-len(A) // n_blocks))
    for start in range(0, len(A), step):
        rows = slice(start, start + step)
        stop = min(start + step, len(A))
        out[rows, :stop].addmm_(A[rows], A[:stop].T)


def mirror_lower(A: Tensor, step: int = 512) -> Tensor:
    """Copy the lower triangle of A (m, m) onto the upper one, in place; return A.

    Block by block: A.T is a view, and copying it whole would need a second A.
    """
    for start in range(0, len(A), step):
        rows = slice(start, start + step)
        A[:start, rows] = A[rows, :start].T
        corner = A[rows, rows]
        corner.tril_().add_(corner.tril(-1).T)
    return A
