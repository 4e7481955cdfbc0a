"""Choose the side to solve on, solve in float32, verify and finish in float64.

Primal side: Newton's method on X itself. Gram side, for more features than rows: the
same method on L with K = X Xᵀ = L Lᵀ, whose rows are the images in an orthonormal basis
of their span; weights come back as w = Xᵀ β with β = −loss'(scores). Either way the
gradient at the returned weights is computed from X in float64, and Newton steps go on
from there until the tolerance holds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cnnfeat.errors import DataError
from cnnfeat.heads._active_set import GramSource
from cnnfeat.heads._conjugate_gradients import Preconditioner, conjugate_gradients
from cnnfeat.heads._losses import Logistic, Loss, SquaredHinge
from cnnfeat.heads._newton import Settings, Solution, minimise
from cnnfeat.heads._rows import Rows
from cnnfeat.heads._search import dot, line_search
from cnnfeat.heads._start import start_separable

SOLVERS = ("auto", "primal", "gram")
TYPICAL_PRODUCTS = 40  # Hessian products of a fit, for choosing the side
JITTER = 1e-6  # of the largest squared row norm, added to K in float32
REFINEMENTS = 8


@dataclass(frozen=True)
class Plan:
    """How a problem will be solved: the side, and whether K is at hand for it."""

    side: str  # "primal" | "gram"
    use_gram: bool  # small active sets are solved on blocks of K


def plan_solver(
    n: int, d: int, k: int, *, solver: str, budget: int | None, hinge: bool
) -> Plan:
    """Choose the cheaper side by counting multiplications and bytes.

    Raises
    ------
    DataError
        For an unknown `solver`, or if `solver="gram"` is asked for and K does
        not fit the budget in bytes.
    """
    if solver not in SOLVERS:
        raise DataError(f"solver must be one of {', '.join(SOLVERS)}; found {solver!r}")
    gram_bytes = 2 * 8 * n * n  # K and its factor
    fits = budget is None or gram_bytes <= budget
    if solver == "gram" and not fits:
        raise DataError(
            f"the Gram matrix of {n} rows needs {gram_bytes / 2**20:.0f} MiB, over the "
            f"memory budget of {budget / 2**20:.0f} MiB; raise memory_budget or use "  # type: ignore[operator]
            "solver='auto'"
        )
    square_fits = budget is None or 2 * 4 * d * d <= budget
    if not fits and not square_fits:
        raise DataError(
            f"{n} rows x {d} features need a square matrix of "
            f"{min(gram_bytes, 8 * d * d) / 2**20:.0f} MiB, over the memory budget of "
            f"{budget / 2**20:.0f} MiB; raise memory_budget"  # type: ignore[operator]
        )
    primal = TYPICAL_PRODUCTS * k * (4 * n * d + 2 * d * d) + 3 * (n + d) * d * d
    gram = n * n * d + TYPICAL_PRODUCTS * k * 6 * n * n + 8 * n**3
    if solver == "auto":
        solver = "gram" if fits and (gram < primal or not square_fits) else "primal"
    use_gram = hinge and fits and (solver == "gram" or n * n * d < primal)
    return Plan(solver, use_gram)


@dataclass
class Fit:
    """Weights (d + 1, k) in float64, intercept's weight last where there is one."""

    W: Tensor
    value: Tensor
    gap: Tensor
    n_iter: int
    solver: str
    converged: bool
    start: Tensor  # where a nearby problem on the same `Problem` may start


@dataclass
class Problem:
    """Rows, K where the plan asks for it, and L where the side is Gram."""

    rows: Rows
    plan: Plan
    dtype: torch.dtype
    penalise_intercept: bool
    K: Tensor | None = None  # in the working dtype, without the intercept
    _reduced: Rows | None = None

    @property
    def has_gram(self) -> bool:
        """Whether K is at hand already."""
        return self.K is not None

    def gram(self) -> Tensor:
        """Return K in the working dtype, computed once."""
        if self.K is None:
            self.K = self.rows.gram(self.dtype).to(self.dtype)
        if not bool(self.K.diagonal().isfinite().all()):
            raise DataError(
                "squared row norms overflow; divide the features by a constant or "
                "use a scale such as 'mean-norm'"
            )
        return self.K

    def penalty(self, p: int) -> Tensor:
        """Return ones (p, 1), with 0 for an intercept that goes free."""
        penalty = torch.ones(p, 1, dtype=self.dtype, device=self.rows.device)
        if self.rows.intercept and not self.penalise_intercept:
            penalty[-1] = 0
        return penalty

    def reduced(self) -> Rows:
        """Return the rows in an orthonormal basis of their span (the factor L)."""
        if self._reduced is None:
            K = self.gram()
            largest = float(K.diagonal().max())
            jitter = (largest or 1.0) * (JITTER if self.dtype.itemsize < 8 else 1e-14)
            failed = True
            while failed:
                shifted = K.double()
                shifted = shifted.clone() if shifted is K else shifted
                shifted.diagonal().add_(jitter)
                L, info = torch.linalg.cholesky_ex(shifted)
                failed, jitter = bool(info), jitter * 10
            self._reduced = Rows(
                L.to(self.dtype), self.rows.intercept, self.rows.device
            )
        return self._reduced


def solve(
    problem: Problem, loss: Loss, k: int, settings: Settings, start: Tensor | None
) -> Fit:
    """Minimise to `settings.tol`; `start` is the weights of a nearby problem."""
    if problem.plan.side == "gram":
        return _solve_gram(problem, loss, k, settings, start)
    solution, K = _descend(problem, problem.rows, loss, k, settings, start)
    return _finish_primal(problem, loss, settings, solution, K)


def _descend(
    problem: Problem,
    rows: Rows,
    loss: Loss,
    k: int,
    settings: Settings,
    start: Tensor | None,
) -> tuple[Solution, GramSource | None]:
    """Minimise in the working dtype; return the solution and K where it serves."""
    penalty, loss = problem.penalty(rows.p), loss.to(problem.dtype)
    exact = isinstance(loss, SquaredHinge) and problem.plan.use_gram
    K = problem if exact else None
    # Half the tolerance, so that rounding does not cost a step in float64.
    settings = replace(settings, tol=settings.tol / 2)
    W, F, n_iter = start, None, 0
    if W is not None:
        W = W.to(problem.dtype)
    elif isinstance(loss, (SquaredHinge, Logistic)):
        W, F, n_iter = start_separable(rows, loss, penalty, settings, K)
    else:
        W = penalty.new_zeros(rows.p, k)
    solution = minimise(rows, loss, penalty, W, settings, K, F)
    return replace(solution, n_iter=n_iter + solution.n_iter), K


def _finish_primal(
    problem: Problem,
    loss: Loss,
    settings: Settings,
    first: Solution,
    K: GramSource | None,
) -> Fit:
    """Verify in float64, and go on from there when the tolerance does not hold."""
    if not settings.verify and first.converged(settings.tol):
        W, value, gap = first.W.double(), first.value, first.gap
        return Fit(W, value, gap, first.n_iter, "primal", True, first.W)
    left = replace(settings, max_iter=max(0, settings.max_iter - first.n_iter))
    penalty = problem.penalty(problem.rows.p)
    final = minimise(
        problem.rows, loss.to(torch.float64), penalty, first.W.double(), left, K
    )
    n_iter = first.n_iter + final.n_iter
    done = final.converged(settings.tol)
    return Fit(final.W, final.value, final.gap, n_iter, "primal", done, final.W)


def _solve_gram(
    problem: Problem, loss: Loss, k: int, settings: Settings, start: Tensor | None
) -> Fit:
    """Solve in the span of the rows; `start` is the weights in that basis or None."""
    reduced = problem.reduced()
    solution, _ = _descend(problem, reduced, loss, k, settings, start)
    return _finish_gram(problem, loss, settings, solution)


def _finish_gram(
    problem: Problem, loss: Loss, settings: Settings, first: Solution
) -> Fit:
    """Map the weights back, verify with X in float64, refine where needed."""
    rows, exact_loss = problem.rows, loss.to(torch.float64)
    penalty = problem.penalty(rows.p).double()
    beta, W = _from_basis(problem, first.W)
    F, n_iter = rows.forward(W), first.n_iter
    for attempt in range(REFINEMENTS + 1):
        losses, G, state = exact_loss.evaluate(F)
        gradient = rows.adjoint(G) + penalty * W
        value = losses + 0.5 * dot(penalty * W, W, loss.separable)
        gap = 0.5 * dot(gradient, gradient, loss.separable)
        done = bool((gap <= settings.tol * value).all())
        if done or attempt == REFINEMENTS or n_iter >= settings.max_iter:
            break
        n_iter += 1
        change, D = _from_basis(
            problem, _basis_direction(problem, loss, beta + G, gradient, state)
        )
        S = rows.forward(D)
        t = line_search(exact_loss, penalty, W, F, D, S)
        beta, W, F = beta + t * change, W + t * D, F + t * S
    return Fit(W, value, gap, n_iter, "gram", done, first.W)


def _from_basis(problem: Problem, V: Tensor) -> tuple[Tensor, Tensor]:
    """Return β and weights W = Xᵀ β, both float64, of the weights V in the basis.

    V = Lᵀ β, so lengths are kept: what rounding does to β in directions that the
    features hardly span does not reach W. The product runs in the working dtype, which
    is the one that W is kept in; the check that follows is of this W.
    """
    n, L = problem.rows.n, problem.reduced().X
    beta = torch.linalg.solve_triangular(L.T, V[:n], upper=True)  # type: ignore[union-attr]
    W = problem.rows.adjoint(beta).double()
    W[problem.rows.d :] = V[n:].double()
    return beta.double(), W


def _basis_direction(
    problem: Problem, loss: Loss, residual: Tensor, gradient: Tensor, state: Tensor
) -> Tensor:
    """Return the Newton direction in the basis, from a gradient Xᵀ residual."""
    reduced, dtype = problem.reduced(), problem.dtype
    penalty, fast = problem.penalty(reduced.p), loss.to(dtype)
    g = reduced.adjoint(residual.to(dtype))
    g[problem.rows.n :] = gradient[problem.rows.d :].to(dtype)
    state = state.to(dtype)
    preconditioner = Preconditioner.of_rows(reduced, penalty, fast.row_weights(state))
    enough = 0.01 * dot(g, g, loss.separable).sqrt()
    return conjugate_gradients(
        reduced, fast, state, penalty, g, preconditioner, enough
    ).D
