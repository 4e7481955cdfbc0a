"""Newton's method with preconditioned conjugate gradients, all columns at once.

Minimises, over W (p, n_columns),

    ½ Σ penalty · W² + loss(X W)

Every product with the features is one matrix product over all classes. Squared hinge:
Chapelle, "Training a support vector machine in the primal", 2007, section 4, and Lin,
Weng and Keerthi, JMLR 2008 (Newton-CG), with two departures: an exact line search in
place of a trust region, and a preconditioner that all classes share: the Hessian with
each row weighted by its mean curvature over the classes.

Where all of W is penalised the objective is 1-strongly convex, and ½‖gradient‖² is the
duality gap of the pair (w, α = −loss'(Xw)); it bounds how far the objective lies above
its minimum. It is the stopping rule.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cnnfeat.heads._active_set import GramSource, solve_active_sets, worth_exact
from cnnfeat.heads._conjugate_gradients import (
    FEW,
    Direction,
    OwnPreconditioner,
    Preconditioner,
    SharedPreconditioner,
    conjugate_gradients,
)
from cnnfeat.heads._losses import Loss
from cnnfeat.heads._objective import Objective
from cnnfeat.heads._search import dot, line_search

# CG stops where the residual is this part of the gradient. Active sets change from step
# to step, so the squared hinge does not repay more exact directions.
FORCING_SEPARABLE, FORCING_COUPLED = 0.3, 0.1
NEAR = 0.01  # duality gap, as a part of the objective, of a fit that is all but done
REFRESH_AFTER = 8  # CG steps in one Newton step that make a new preconditioner pay


@dataclass(frozen=True)
class Stopping:
    """When to stop.

    Parameters
    ----------
    tol : float
        Bound of ½‖gradient‖² (n_problems,) as a part of the objective.
    max_iter : int
        Newton steps at most.
    """

    tol: float = 1e-7
    max_iter: int = 200


@dataclass
class Solution:
    """Weights, their scores, and how far they got.

    Attributes
    ----------
    W : Tensor of shape (p, k)
    F : Tensor of shape (n, k)
        X W.
    value, gap : Tensor of shape (n_problems,), dtype=float64
        Objective and ½‖gradient‖².
    n_iter : int
        Newton steps.
    n_products : int
        Hessian products, over all Newton steps.
    """

    W: Tensor
    F: Tensor
    value: Tensor
    gap: Tensor
    n_iter: int
    n_products: int

    def converged(self, tol: float) -> bool:
        """Return whether all of `gap` (n_problems,) is at most `tol` times `value`."""
        return bool((self.gap <= tol * self.value.clamp_min(1e-300)).all())


def minimise(
    objective: Objective,
    W: Tensor,
    stopping: Stopping,
    gram: GramSource | None = None,
    F: Tensor | None = None,
) -> Solution:
    """Return the minimiser from the start W, to `stopping.tol` or `max_iter`.

    Parameters
    ----------
    objective : Objective
        A squared hinge may come with a Gram matrix.
    W : Tensor of shape (p, k)
        The start. Its dtype is the one of objective and gradient, so that float64
        weights are refined with float32 directions.
    stopping : Stopping
        Tolerance and most Newton steps.
    gram : GramSource, optional
        Small active sets are then solved exactly. Asked only once such sets are met.
    F : Tensor of shape (n, k), optional
        Scores of the start, where they are known.

    The loop ends early where rounding keeps the objective from falling further.
    """
    descent = _Descent(objective, W, stopping, gram, F)
    for _ in range(stopping.max_iter):
        if not descent.measure():
            break
        descent.step()
    else:
        descent.measure()
    return descent.solution()


class _Descent:
    """The state of one minimisation; columns that have converged leave it."""

    def __init__(
        self,
        objective: Objective,
        W: Tensor,
        stopping: Stopping,
        gram: GramSource | None,
        F: Tensor | None,
    ):
        rows, loss = objective.rows, objective.loss
        self.rows, self.loss, self.stopping, self.gram = rows, loss, stopping, gram
        self.is_hard = False  # the shared preconditioner has been seen to be far off
        self.fast_penalty = objective.penalty
        self.penalty = objective.penalty.to(W.dtype)
        self.W, self.F = W.clone(), rows.forward(W) if F is None else F.clone()
        self.w, self.f = self.W, self.F
        k = W.shape[1]
        n_problems = k if loss.separable else 1
        self.live = torch.arange(k, device=W.device)
        self.value = torch.zeros(n_problems, dtype=torch.float64, device=W.device)
        self.gap = torch.full_like(self.value, torch.inf)
        self.preconditioner: Preconditioner | None = None
        self.n_iter = self.n_products = self.n_stalled = 0
        self.lowest = torch.full_like(self.value, torch.inf)
        self.last: tuple[Tensor, Tensor] | None = None  # where the last step began

    def measure(self) -> bool:
        """Update value and gap; drop what has converged; return whether any is left."""
        rows, w, separable = self.rows, self.w, self.loss.separable
        losses, G, self.state = self.loss.evaluate(self.f)
        self.gradient = rows.adjoint(G).addcmul_(self.penalty, w)
        # ½‖gradient‖²: the duality gap where all of W is penalised (module docstring).
        gaps = 0.5 * dot(self.gradient, self.gradient, separable).double()
        values = losses + 0.5 * dot(self.penalty * w, w, separable).double()
        if self.last and not bool((values + gaps).isfinite().all()):
            self.w, self.f = self.last
            return False
        problems = self.live if separable else slice(None)
        self.value[problems], self.gap[problems] = values, gaps
        running = gaps > self.stopping.tol * values
        if not bool(running.any()) or self._stalled():
            return False
        if separable and not bool(running.all()):
            self._drop(running)
            gaps, values = gaps[running], values[running]
        # Inexact Newton: a part of ‖gradient‖ = √(2 gap), and never closer than the
        # end of the fit asks for, with some room.
        target = (0.2 * self.stopping.tol * values).sqrt()
        forcing = FORCING_SEPARABLE if separable else FORCING_COUPLED
        self.enough = torch.maximum(forcing * (2 * gaps).sqrt(), target)
        return True

    def _stalled(self) -> bool:
        """Tell whether no problem's objective has fallen, three steps in a row."""
        # Rounding: float32 cannot always reach the tolerance, and float64 takes over.
        stuck = bool((self.value >= self.lowest * (1 - 1e-9)).all())
        self.n_stalled = self.n_stalled + 1 if stuck else 0
        self.lowest = torch.minimum(self.value, self.lowest)
        return self.n_stalled >= 3

    def _drop(self, running: Tensor) -> None:
        self._write_back()
        self.live, self.loss = self.live[running], self.loss.columns(running)
        self.w, self.f = self.w[:, running], self.f[:, running]
        self.gradient, self.state = self.gradient[:, running], self.state[:, running]
        if self.preconditioner:
            self.preconditioner = self.preconditioner.columns(running)

    def _write_back(self) -> None:
        if self.w is not self.W:
            self.W[:, self.live], self.F[:, self.live] = self.w, self.f

    def step(self) -> None:
        """Move to the minimum along the Newton direction."""
        dtype = self.fast_penalty.dtype
        fast_loss, state = self.loss.to(dtype), self.state.to(dtype)
        gradient = self.gradient.to(dtype)
        direction = self._exact_direction(state, gradient)
        if direction is None:
            if self.preconditioner is None:
                self.preconditioner = self._precondition(fast_loss, state)
            direction = conjugate_gradients(
                Objective(self.rows, fast_loss, self.fast_penalty),
                state,
                gradient,
                self.preconditioner,
                self.enough.to(dtype),
            )
            # Curvature moves with the active sets. A preconditioner costs n p² to make,
            # so it is kept until it takes many steps.
            if direction.n_products > REFRESH_AFTER:
                self.preconditioner, self.is_hard = None, True
        # In the refinement W is float64 and D float32: then X D is computed again, as
        # rounded scores would drift from X W over the steps.
        D = direction.D.to(self.w.dtype)
        S = direction.S if D.dtype == dtype else self.rows.forward(D)
        t = line_search(self.loss, self.penalty, self.w, self.f, D, S).to(D.dtype)
        # Near the end of what a dtype can reach rounding may spoil a step, which is
        # then taken back. Far from it, the C is beyond all numbers.
        near = bool((self.gap <= NEAR * self.value).all())
        self.last = (self.w, self.f) if near else None
        self.w, self.f = torch.addcmul(self.w, D, t), torch.addcmul(self.f, S, t)
        self.n_iter += 1
        self.n_products += direction.n_products

    def _precondition(self, loss: Loss, state: Tensor) -> Preconditioner:
        rows, penalty = self.rows, self.fast_penalty
        if self.is_hard and self._is_narrow(state):
            return OwnPreconditioner.of_rows(rows, penalty, loss.own_weights(state))
        return SharedPreconditioner.of_rows(rows, penalty, loss.row_weights(state))

    def _is_narrow(self, state: Tensor) -> bool:
        """Tell whether features are few, and fewer than a column's active rows.

        With fewer rows in it a margin is all but hard. Exact directions then circle
        around its active set, which those of conjugate gradients do not.
        """
        p = self.rows.p
        return p <= FEW and int((state > 0).sum(0).max()) > p

    def _exact_direction(self, state: Tensor, gradient: Tensor) -> Direction | None:
        """Return −H⁻¹ gradient by Woodbury's identity where active sets are small."""
        counts = (state > 0).sum(0)
        if self.gram is None or self._is_narrow(state):
            return None
        if not worth_exact(counts, self.rows, self.gram.has_gram):
            return None
        intercept = self.rows.intercept
        # H = I + X_Iᵀ A X_I, so −H⁻¹ g = −g + X_Iᵀ (A⁻¹ + K_II)⁻¹ X_I g. It holds with
        # every weight penalised, which the squared hinge's are.
        R = self.rows.forward(gradient)
        B, failed = solve_active_sets(self.gram.gram(), intercept, state, R)
        if bool(failed.any()):
            return None
        D = self.rows.adjoint(B).sub_(gradient)
        return Direction(D, self.rows.forward(D), 1)

    def solution(self) -> Solution:
        """Return what has been reached."""
        self._write_back()
        return Solution(
            self.W, self.F, self.value, self.gap, self.n_iter, self.n_products
        )
