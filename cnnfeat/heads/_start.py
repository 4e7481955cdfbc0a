"""Where a separable problem starts: a ridge solution, scaled and shifted, then a path.

The first Newton step from zero is a ridge regression on ±1, which puts half of the rows
inside the margin, while at the minimum a few rows in a hundred are there. So its scores
are first scaled and shifted, class by class, to the minimum of the objective in that
plane, which takes no product with the features. For large C the problem is solved
loosely for a smaller C first and followed upwards, as in Hastie et al., "The entire
regularization path for the support vector machine", JMLR 2004: coming from a smaller C
the active sets shrink to the right ones, coming from a hard margin they wander.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from cnnfeat.heads._active_set import GramSource
from cnnfeat.heads._conjugate_gradients import SharedPreconditioner
from cnnfeat.heads._losses import SeparableLoss
from cnnfeat.heads._newton import Stopping, minimise
from cnnfeat.heads._objective import Objective
from cnnfeat.heads._rows import Rows
from cnnfeat.heads._search import Plane, line_search, search_plane

FIRST_STRENGTH = 10.0  # mean of 2 C ‖x‖² that the path starts from
PATH_RATIO = 10.0  # from one C of the path to the next
PATH_TOL = 0.3  # of the problems on the way


def start_separable(
    rows: Rows,
    loss: SeparableLoss,
    penalty: Tensor,
    stopping: Stopping,
    gram: GramSource | None,
) -> tuple[Tensor, Tensor, int]:
    """Return weights (p, k) near the minimum, their scores (n, k), and Newton steps.

    Parameters
    ----------
    rows : Rows
        n rows of p features.
    loss : SeparableLoss
        Of k columns.
    penalty : Tensor of shape (p, 1)
        Its dtype is the one of the result.
    stopping : Stopping
    gram : GramSource, optional
        As for `minimise`.
    """
    factor, W, F = _ridge(rows, loss, penalty)
    n_iter, loose = 1, replace(stopping, tol=max(stopping.tol, PATH_TOL))
    while factor < 1:
        easier = Objective(rows, loss.scaled(factor), penalty)
        step = minimise(easier, W, loose, gram, F)
        W, F, n_iter = step.W, step.F, n_iter + step.n_iter
        factor *= PATH_RATIO
    return W, F, n_iter


def _ridge(
    rows: Rows, loss: SeparableLoss, penalty: Tensor
) -> tuple[float, Tensor, Tensor]:
    """Return the factor on C that was used, the weights and their scores."""
    # At zero scores every row is active: the first Newton step is a ridge regression.
    F = penalty.new_zeros(rows.n, loss.Y.shape[1])
    _, G, state = loss.evaluate(F)
    H = rows.weighted_gram(loss.row_weights(state))
    # The mean of 2 C ‖x‖² says how hard the margin is, whatever the features' scale.
    strength = float(H.diagonal().sum()) / rows.n
    # One that overflows would make a factor of 0, and a path without end.
    has_path = 0 < strength < math.inf
    factor = min(1.0, FIRST_STRENGTH / strength) if has_path else 1.0
    # Less than half a step of the path is not worth a problem of its own.
    if factor * PATH_RATIO**0.5 >= 1:
        factor = 1.0
    H *= factor
    H.diagonal().add_(penalty[:, 0])
    D = SharedPreconditioner(H)(rows.adjoint(G).mul_(-factor))
    S, W, loss = rows.forward(D), torch.zeros_like(D), loss.scaled(factor)
    if rows.intercept:
        plane = Plane(loss, penalty, W, F, D, S, rows.intercept)
        return factor, *search_plane(plane)
    t = line_search(loss, penalty, W, F, D, S).to(D.dtype)
    return factor, D * t, S * t
