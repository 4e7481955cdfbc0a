"""The features of a problem as its solver sees them, and the side it is solved on.

Primal side: Newton's method on X itself. Gram side, for more features than rows: the
same method on L with K = X Xᵀ = L Lᵀ, whose rows are the images in an orthonormal basis
of their span.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cnnfeat.errors import DataError
from cnnfeat.heads._rows import Rows

SIDES = ("auto", "primal", "gram")
TYPICAL_PRODUCTS = 40  # Hessian products of a fit, for choosing the side
JITTER = 1e-6  # of the largest squared row norm, added to K in float32
_MIB = 2**20


@dataclass(frozen=True)
class Plan:
    """How a problem will be solved: the side, and whether K is at hand for it."""

    side: str  # "primal" | "gram"
    use_gram: bool  # small active sets are solved on blocks of K

    @property
    def needs_gram(self) -> bool:
        """Whether some step of the solver may ask for K."""
        return self.use_gram or self.side == "gram"


def plan_solver(
    n: int, d: int, k: int, *, solver: str, budget: int | None, hinge: bool
) -> Plan:
    """Choose the cheaper side by counting multiplications and bytes.

    Parameters
    ----------
    n, d, k : int
        Rows, features, and columns of W.
    solver : {"auto", "primal", "gram"}
    budget : int or None
        Bytes that square matrices may take; None for no limit.
    hinge : bool
        Whether the loss is a squared hinge, whose small active sets are solved on K.

    Raises
    ------
    DataError
        For an unknown `solver`, or if `solver="gram"` is asked for and K does
        not fit the budget in bytes.
    """
    if solver not in SIDES:
        raise DataError(f"solver must be one of {', '.join(SIDES)}; found {solver!r}")
    gram_bytes = 2 * 8 * n * n  # K and its factor
    gram_fits = budget is None or gram_bytes <= budget
    square_fits = budget is None or 2 * 4 * d * d <= budget
    if budget is not None and not gram_fits:
        if solver == "gram":
            raise DataError(
                f"the Gram matrix of {n} rows needs {gram_bytes / _MIB:.0f} MiB, over "
                f"the memory budget of {budget / _MIB:.0f} MiB; raise memory_budget or "
                "use solver='auto'"
            )
        if not square_fits:
            raise DataError(
                f"{n} rows x {d} features need a square matrix of "
                f"{min(gram_bytes, 8 * d * d) / _MIB:.0f} MiB, over the memory budget "
                f"of {budget / _MIB:.0f} MiB; raise memory_budget"
            )
    # Per product and column: X w and Xᵀ r cost 2 n d each, the preconditioner 2 d²;
    # it is made of a d x d matrix and its factor, about 3 (n + d) d² once or twice.
    primal = TYPICAL_PRODUCTS * k * (4 * n * d + 2 * d * d) + 3 * (n + d) * d * d
    # The same with d = n, after K (n² d, half of it computed) and its factor.
    gram = n * n * d + TYPICAL_PRODUCTS * k * 6 * n * n + 8 * n**3
    side = solver
    if side == "auto":
        cheaper = gram < primal or not square_fits
        side = "gram" if gram_fits and cheaper else "primal"
    use_gram = hinge and gram_fits and (side == "gram" or n * n * d < primal)
    return Plan(side, use_gram)


@dataclass
class Design:
    """Rows, K where the plan asks for it, and L where the side is Gram.

    Attributes
    ----------
    rows : Rows
        n rows of d features, and the intercept's constant.
    plan : Plan
    dtype : torch.dtype
        The one that is solved in, before the check in float64.
    penalise_intercept : bool
    K : Tensor of shape (n, n), optional
        X Xᵀ in `dtype`, without the intercept.
    """

    rows: Rows
    plan: Plan
    dtype: torch.dtype
    penalise_intercept: bool
    K: Tensor | None = None
    _reduced: Rows | None = None

    @property
    def has_gram(self) -> bool:
        """Whether K is at hand already."""
        return self.K is not None

    def gram(self) -> Tensor:
        """Return K (n, n) in `dtype`, computed once.

        Raises
        ------
        DataError
            If a squared row norm overflows.
        """
        if self.K is None:
            self.K = self.rows.gram(self.dtype).to(self.dtype)
        if not bool(self.K.diagonal().isfinite().all()):
            raise DataError(
                "squared row norms overflow; divide the features by a constant or "
                "use a scale such as 'mean-norm'"
            )
        return self.K

    def penalty(self, p: int) -> Tensor:
        """Return ones (p, 1) in `dtype`, with 0 last for an intercept that goes free.

        p is d, or n in the basis, and 1 more for an intercept.
        """
        penalty = torch.ones(p, 1, dtype=self.dtype, device=self.rows.device)
        if self.rows.intercept and not self.penalise_intercept:
            penalty[-1] = 0
        return penalty

    def reduced(self) -> Rows:
        """Return the rows in a basis of their span, L (n, n), computed once."""
        if self._reduced is None:
            L = _cholesky(self.gram(), JITTER if self.dtype.itemsize < 8 else 1e-14)
            self._reduced = Rows(
                L.to(self.dtype), self.rows.intercept, self.rows.device
            )
        return self._reduced


def _cholesky(K: Tensor, jitter: float) -> Tensor:
    """Return L (n, n) in float64 with L Lᵀ = K + jitter · largest diagonal."""
    jitter *= float(K.diagonal().max()) or 1.0
    failed = True
    # K is singular where rows repeat or outnumber the features, and rounding may make
    # it indefinite: the jitter grows until a factor exists. The check in float64 is of
    # X itself, so a larger one costs refinements and not accuracy.
    while failed:
        shifted = K.double()
        shifted = shifted.clone() if shifted is K else shifted
        shifted.diagonal().add_(jitter)
        L, info = torch.linalg.cholesky_ex(shifted)
        failed, jitter = bool(info), jitter * 10
    return L
