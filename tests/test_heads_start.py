"""The start of a separable problem: the plane's minimum, the path, fewer steps."""

from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from cnnfeat.heads import LinearSVM, _search
from cnnfeat.heads._active_set import worth_exact
from cnnfeat.heads._conjugate_gradients import conjugate_gradients
from cnnfeat.heads._losses import Logistic, SquaredHinge
from cnnfeat.heads._newton import Stopping, minimise
from cnnfeat.heads._objective import Objective
from cnnfeat.heads._rows import Rows, mirror_lower
from cnnfeat.heads._search import Plane, line_search, search_plane
from cnnfeat.heads._start import start_separable


def make_problem(n, d, k, cost, intercept=1.0, seed=0):
    """Return rows, a squared hinge, a logistic loss, and the penalty; float64."""
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(n, d, generator=generator, dtype=torch.float64)
    label = torch.arange(n) % k
    Y = torch.where(label[:, None] == torch.arange(k), 1.0, -1.0).double()
    X[:, :k] += 2 * (Y + 1)
    cost = torch.full((1, 1), cost, dtype=torch.float64)
    rows = Rows(X, intercept)
    return (
        rows,
        SquaredHinge(Y, cost),
        Logistic(Y, cost),
        torch.ones(rows.p, 1).double(),
    )


def objective(rows, loss, penalty, W):
    return loss.evaluate(rows.forward(W))[0] + 0.5 * (penalty * W * W).sum(0)


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 10**6),
    st.sampled_from([0.01, 1.0, 100.0]),
    st.sampled_from([0.3, 1.0, 10.0]),
    st.booleans(),
)
def test_no_point_near_the_one_found_in_the_plane_is_lower(seed, cost, c, logistic):
    rows, hinge, log, penalty = make_problem(60, 6, 3, cost, c, seed % 97)
    loss = log if logistic else hinge
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(rows.p, 3, generator=generator, dtype=torch.float64)
    D = torch.randn(rows.p, 3, generator=generator, dtype=torch.float64)
    plane = Plane(loss, penalty, W, rows.forward(W), D, rows.forward(D), c)
    best, scores = search_plane(plane)
    torch.testing.assert_close(scores, rows.forward(best))
    start = objective(rows, loss, penalty, W + D)
    assert (objective(rows, loss, penalty, best) <= start * (1 + 1e-12)).all()
    # Random directions can take more steps than the solver, which goes on, allows.
    with patch.object(_search, "PLANE_STEPS", 50):
        best, _ = search_plane(plane)
    found = objective(rows, loss, penalty, best)
    for t, u in [(0.2, 0), (-0.2, 0), (0, 0.2), (0, -0.2), (0.1, -0.1)]:
        other = best + t * D
        other[-1] += u
        near = objective(rows, loss, penalty, other)
        assert (near >= found * (1 - 2e-3)).all()


def test_value_and_step_of_the_plane_are_those_of_the_objective():
    rows, hinge, _, penalty = make_problem(40, 5, 3, 0.7, 2.0)
    W, D = torch.randn(2, rows.p, 3).double()
    plane = Plane(hinge, penalty, W, rows.forward(W), D, rows.forward(D), 2.0)
    at = torch.randn(2, 3).double()
    value, step, decrement = plane.measure(at)
    point, _ = plane.point(at)
    torch.testing.assert_close(value, objective(rows, hinge, penalty, point))
    gradient = torch.zeros(2, 3).double()
    for i, e in enumerate(1e-6 * torch.eye(2).double()):
        above = plane.measure(at + e[:, None])[0]
        gradient[i] = (above - plane.measure(at - e[:, None])[0]) / 2e-6
    torch.testing.assert_close(
        -0.5 * (gradient * step).sum(0), decrement, rtol=1e-4, atol=1e-6
    )
    assert (decrement >= 0).all()


@pytest.mark.parametrize("intercept", [0.0, 1.0])
@pytest.mark.parametrize("cost", [1e-3, 1.0, 1e4])
def test_the_start_is_far_below_zero_weights_and_the_end_is_the_same(intercept, cost):
    rows, hinge, _, penalty = make_problem(200, 20, 4, cost, intercept)
    W, F, n_iter = start_separable(rows, hinge, penalty, Stopping(), None)
    torch.testing.assert_close(F, rows.forward(W))
    assert n_iter >= 1
    zero = torch.zeros_like(W)
    assert (
        objective(rows, hinge, penalty, W) < objective(rows, hinge, penalty, zero)
    ).all()
    ends = [
        minimise(Objective(rows, hinge, penalty), start, Stopping(1e-10))
        for start in (W, zero)
    ]
    torch.testing.assert_close(ends[0].value, ends[1].value, rtol=1e-8, atol=0)


def test_the_path_spares_newton_steps_near_a_hard_margin():
    rows, hinge, _, penalty = make_problem(300, 40, 10, 1e5)
    settings = Stopping(1e-6)
    cold = minimise(
        Objective(rows, hinge, penalty), torch.zeros(rows.p, 10).double(), settings
    )
    W, F, n_start = start_separable(rows, hinge, penalty, settings, None)
    warm = minimise(Objective(rows, hinge, penalty), W, settings, None, F)
    assert warm.converged(1e-6)
    assert n_start + warm.n_iter < 0.8 * cold.n_iter


def test_a_large_C_converges_on_shallow_features():
    """Rectified, correlated rows of unit norm, as averaged early layers give them."""
    rng = np.random.default_rng(0)
    X = np.maximum(0, rng.standard_normal((400, 8)) @ rng.standard_normal((8, 64)) + 2)
    X = (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)
    head = LinearSVM(C=1e5).fit(X, np.arange(400) % 10)  # a warning is an error here
    assert head.n_iter_ < 200


def test_exact_steps_are_taken_for_small_active_sets_only():
    rows = Rows(torch.zeros(1000, 100))
    assert worth_exact(torch.tensor([50, 60, 0]), rows)
    assert not worth_exact(torch.tensor([900, 900, 900]), rows)


@given(st.integers(1, 40), st.integers(1, 9))
def test_the_lower_triangle_is_mirrored(n, step):
    A = torch.randn(n, n)
    lower = A.tril()
    expected = lower + lower.tril(-1).T
    assert torch.equal(mirror_lower(A, step), expected)


# -- what rounding does at large C -----------------------------------------------------


def test_a_preconditioner_that_rounding_made_indefinite_leads_nowhere():
    rows, hinge, _, penalty = make_problem(60, 6, 3, 1.0)
    W = torch.zeros(rows.p, 3, dtype=torch.float64)
    _, G, state = hinge.evaluate(rows.forward(W))
    gradient = rows.adjoint(G)
    objective = Objective(rows, hinge, penalty)
    enough = torch.full((3,), 1e-9).double()
    for wrong in (torch.neg, torch.zeros_like):
        found = conjugate_gradients(objective, state, gradient, wrong, enough)
        assert found.n_products == 1 and found.D.isfinite().all()


@pytest.mark.parametrize("fatal", [2, 3, 100])
def test_a_step_that_rounding_spoils_near_the_end_is_taken_back(monkeypatch, fatal):
    rows, hinge, _, penalty = make_problem(200, 20, 4, 1.0)
    calls = []

    def spoilt(*arguments):
        calls.append(1)
        t = line_search(*arguments)
        return t * torch.inf if len(calls) >= fatal else t

    monkeypatch.setattr("cnnfeat.heads._newton.line_search", spoilt)
    monkeypatch.setattr("cnnfeat.heads._newton.NEAR", 1e9)
    start = torch.zeros(rows.p, 4, dtype=torch.float64)
    found = minimise(Objective(rows, hinge, penalty), start, Stopping(1e-12))
    assert found.W.isfinite().all() and found.value.isfinite().all()
    torch.testing.assert_close(found.F, rows.forward(found.W))
    assert (objective(rows, hinge, penalty, found.W) <= found.value * (1 + 1e-9)).all()
