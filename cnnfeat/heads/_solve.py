"""Solve in float32, verify and finish in float64.

On the Gram side weights come back as w = Xᵀ β with β = −loss'(scores). On either side
the gradient at the returned weights is computed from X in float64, and Newton steps go
on from there until the tolerance holds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cnnfeat.heads._active_set import GramSource
from cnnfeat.heads._conjugate_gradients import (
    FEW,
    SharedPreconditioner,
    conjugate_gradients,
)
from cnnfeat.heads._design import Design
from cnnfeat.heads._losses import Logistic, Loss, SquaredHinge
from cnnfeat.heads._newton import Solution, Stopping, minimise
from cnnfeat.heads._objective import Objective
from cnnfeat.heads._rows import Rows
from cnnfeat.heads._search import dot, line_search
from cnnfeat.heads._start import start_separable

REFINEMENTS = 8


@dataclass
class Optimum:
    """Where a solver ended.

    Attributes
    ----------
    W : Tensor of shape (d + 1, k) or, without an intercept, (d, k), dtype=float64
        The intercept's weight last.
    value, gap : Tensor of shape (n_problems,), dtype=float64
        Objective, and ½‖gradient‖², of each problem: k, or 1 where classes are coupled.
    n_iter : int
        Newton steps.
    side : {"primal", "gram"}
    converged : bool
    start : Tensor of shape (p, k)
        Where a nearby problem on the same `Design` may start.
    """

    W: Tensor
    value: Tensor
    gap: Tensor
    n_iter: int
    side: str
    converged: bool
    start: Tensor


def solve(
    design: Design, loss: Loss, k: int, stopping: Stopping, start: Tensor | None
) -> Optimum:
    """Minimise ½ Σ penalty · W² + loss(X W) over W, of k columns.

    Parameters
    ----------
    design : Design
        X and the side to solve on.
    loss : Loss
        Of n rows and k columns.
    k : int
    stopping : Stopping
    start : Tensor of shape (p, k), optional
        `Optimum.start` of a nearby problem on the same design.

    Returns
    -------
    Optimum
    """
    if design.plan.side == "gram":
        return _solve_gram(design, loss, k, stopping, start)
    solution, K = _descend(design, design.rows, loss, k, stopping, start)
    return _finish_primal(design, loss, stopping, solution, K)


def solve_loosely(
    design: Design, loss: Loss, k: int, stopping: Stopping, start: Tensor | None
) -> Solution:
    """Return what suffices to score a C: as `solve`, but not verified with X.

    The weights are in the basis of the design's side; `weights_of` takes them out of
    it. What float32 cannot reach float64 does.
    """
    first, _ = _descend(design, _basis_rows(design), loss, k, stopping, start)
    if first.converged(stopping.tol):
        return first
    left = replace(stopping, max_iter=max(0, stopping.max_iter - first.n_iter))
    return refine(design, loss, left, first.W)


def refine(design: Design, loss: Loss, stopping: Stopping, start: Tensor) -> Solution:
    """Go on from weights (p, k) in the basis of the design's side, in float64."""
    objective = _exact(design, _basis_rows(design), loss)
    return minimise(objective, start.double(), stopping, _exact_steps(design, loss))


def _basis_rows(design: Design) -> Rows:
    return design.reduced() if design.plan.side == "gram" else design.rows


def _exact(design: Design, rows: Rows, loss: Loss) -> Objective:
    """Return the objective in float64; of few features the directions are so too."""
    penalty = design.penalty(rows.p)
    if rows is design.rows and rows.p <= FEW:
        penalty = penalty.double()
    return Objective(rows, loss.to(torch.float64), penalty)


def weights_of(design: Design, V: Tensor) -> Tensor:
    """Return the weights on X, (p, k), of weights V in the basis of the design."""
    return _from_basis(design, V)[1] if design.plan.side == "gram" else V


def _descend(
    design: Design,
    rows: Rows,
    loss: Loss,
    k: int,
    stopping: Stopping,
    start: Tensor | None,
) -> tuple[Solution, GramSource | None]:
    """Minimise in the working dtype; return the solution and K where it serves."""
    penalty, loss = design.penalty(rows.p), loss.to(design.dtype)
    K = _exact_steps(design, loss)
    # Half the tolerance: rounding makes the gap in float64 a little larger, and must
    # not cost a further step there.
    stopping = replace(stopping, tol=stopping.tol / 2)
    W, F, n_iter = start, None, 0
    if W is not None:
        W = W.to(design.dtype)
    elif isinstance(loss, (SquaredHinge, Logistic)):  # separable: a start of its own
        W, F, n_iter = start_separable(rows, loss, penalty, stopping, K)
    else:
        W = penalty.new_zeros(rows.p, k)
    solution = minimise(Objective(rows, loss, penalty), W, stopping, K, F)
    return replace(solution, n_iter=n_iter + solution.n_iter), K


def _exact_steps(design: Design, loss: Loss) -> GramSource | None:
    """Return where K comes from, where small active sets are solved exactly."""
    return design if isinstance(loss, SquaredHinge) and design.plan.use_gram else None


def _finish_primal(
    design: Design,
    loss: Loss,
    stopping: Stopping,
    first: Solution,
    K: GramSource | None,
) -> Optimum:
    """Verify in float64, and go on from there when the tolerance does not hold."""
    left = replace(stopping, max_iter=max(0, stopping.max_iter - first.n_iter))
    objective = _exact(design, design.rows, loss)
    final = minimise(objective, first.W.double(), left, K)
    n_iter = first.n_iter + final.n_iter
    done = final.converged(stopping.tol)
    return Optimum(final.W, final.value, final.gap, n_iter, "primal", done, final.W)


def _solve_gram(
    design: Design, loss: Loss, k: int, stopping: Stopping, start: Tensor | None
) -> Optimum:
    """Solve in the span of the rows; `start` is the weights in that basis or None."""
    reduced = design.reduced()
    solution, _ = _descend(design, reduced, loss, k, stopping, start)
    return _finish_gram(design, loss, stopping, solution)


def _finish_gram(
    design: Design, loss: Loss, stopping: Stopping, first: Solution
) -> Optimum:
    """Map the weights back, verify with X in float64, refine where needed."""
    rows, exact_loss = design.rows, loss.to(torch.float64)
    penalty = design.penalty(rows.p).double()
    beta, W = _from_basis(design, first.W)
    # W and β are moved side by side, W = Xᵀ β throughout: the gradient of the penalised
    # part is then Xᵀ (β + G) and needs no product with X to reach the basis.
    F, n_iter = rows.forward(W), first.n_iter
    for attempt in range(REFINEMENTS + 1):
        losses, G, state = exact_loss.evaluate(F)
        gradient = rows.adjoint(G) + penalty * W
        value = losses + 0.5 * dot(penalty * W, W, loss.separable)
        gap = 0.5 * dot(gradient, gradient, loss.separable)
        done = bool((gap <= stopping.tol * value).all())
        if done or attempt == REFINEMENTS or n_iter >= stopping.max_iter:
            break
        n_iter += 1
        change, D = _from_basis(
            design, _basis_direction(design, loss, beta + G, gradient, state)
        )
        S = rows.forward(D)
        t = line_search(exact_loss, penalty, W, F, D, S)
        beta, W, F = beta + t * change, W + t * D, F + t * S
    return Optimum(W, value, gap, n_iter, "gram", done, first.W)


def _from_basis(design: Design, V: Tensor) -> tuple[Tensor, Tensor]:
    """Return β and weights W = Xᵀ β, both float64, of the weights V in the basis.

    V is (n, k), or (n + 1, k) with an intercept. V = Lᵀ β, so lengths are kept: what
    rounding does to β in directions that the features hardly span does not reach W. The
    product runs in the working dtype, which is the one that W is kept in; the check
    that follows is of this W.
    """
    n, L = design.rows.n, design.reduced().X
    beta = torch.linalg.solve_triangular(L.T, V[:n], upper=True)  # type: ignore[union-attr]
    W = design.rows.adjoint(beta).double()
    W[design.rows.d :] = V[n:].double()
    return beta.double(), W


def _basis_direction(
    design: Design, loss: Loss, residual: Tensor, gradient: Tensor, state: Tensor
) -> Tensor:
    """Return the Newton direction (n + 1, k) in the basis, from a gradient Xᵀ residual.

    In the basis that gradient is Lᵀ residual; the intercept's entry is the same.
    """
    reduced, dtype = design.reduced(), design.dtype
    penalty, fast = design.penalty(reduced.p), loss.to(dtype)
    g = reduced.adjoint(residual.to(dtype))
    g[design.rows.n :] = gradient[design.rows.d :].to(dtype)
    state = state.to(dtype)
    preconditioner = SharedPreconditioner.of_rows(
        reduced, penalty, fast.row_weights(state)
    )
    # Closer than the Newton steps of `minimise` go: each refinement maps weights there
    # and back, which costs two products with X.
    enough = 0.01 * dot(g, g, loss.separable).sqrt()
    return conjugate_gradients(
        Objective(reduced, fast, penalty), state, g, preconditioner, enough
    ).D
