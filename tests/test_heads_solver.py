"""The parts of the solver: losses against finite differences, products, steps."""

import numpy as np
import pytest
import torch
from row_source import ListSource

from cnnfeat.heads import LinearSVM, Softmax
from cnnfeat.heads._active_set import solve_active_sets
from cnnfeat.heads._conjugate_gradients import OwnPreconditioner
from cnnfeat.heads._losses import Logistic, Multinomial, SquaredHinge
from cnnfeat.heads._newton import Stopping, minimise
from cnnfeat.heads._objective import Objective
from cnnfeat.heads._rows import Rows
from cnnfeat.heads._search import line_search

torch.manual_seed(0)
N, K, D = 23, 4, 6
LABELS = torch.arange(N) % K
ONE_HOT = torch.nn.functional.one_hot(LABELS).double()
COST = torch.rand(N, 1, dtype=torch.float64) + 0.1
LOSSES = [
    SquaredHinge(2 * ONE_HOT - 1, COST * torch.ones(1, K)),
    Logistic(2 * ONE_HOT - 1, COST),
    Multinomial(ONE_HOT, COST),
]


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_and_curvature_match_finite_differences(loss):
    F, S = torch.randn(2, N, K, dtype=torch.float64)
    h = 1e-6
    value, G, state = loss.evaluate(F)
    up, down = loss.evaluate(F + h * S), loss.evaluate(F - h * S)
    slope = float((up[0] - down[0]).sum()) / (2 * h)
    assert slope == pytest.approx(float((G * S).sum()), rel=1e-6)
    np.testing.assert_allclose(
        loss.curvature(state, S), (up[1] - down[1]) / (2 * h), atol=1e-5
    )
    total, along_slope, _ = loss.along(F, S, torch.zeros(1, dtype=torch.float64))
    assert float(total.sum()) == pytest.approx(float(value.sum()))
    assert float(along_slope.sum()) == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("intercept", [0.0, 2.0])
def test_products_agree_with_the_written_out_matrix(streamed, intercept):
    X = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
    source = ListSource(X) if streamed else torch.from_numpy(X)
    rows = Rows(source, intercept, block_bytes=100)
    A = X.astype(float)
    if intercept:
        A = np.hstack([A, np.full((N, 1), intercept)])
    W, R = torch.randn(rows.p, 3).double(), torch.randn(N, 3).double()
    a = torch.rand(N).double()
    np.testing.assert_allclose(rows.forward(W), A @ W.numpy(), rtol=1e-10)
    np.testing.assert_allclose(rows.adjoint(R), A.T @ R.numpy(), atol=1e-10)
    np.testing.assert_allclose(rows.weighted_gram(a), A.T @ np.diag(a) @ A, atol=1e-10)
    columns = torch.stack([a, 2 * a, a.square()], 1)
    for own, one in zip(rows.weighted_grams(columns), columns.T, strict=True):
        np.testing.assert_allclose(own, A.T @ np.diag(one) @ A, atol=1e-10)
    np.testing.assert_allclose(rows.gram(torch.float64), X @ X.T.astype(float), 1e-5)


def test_active_sets_are_solved_as_if_written_out():
    X = torch.randn(N, D, dtype=torch.float64)
    state = torch.rand(N, 3, dtype=torch.float64) * (torch.rand(N, 3) > 0.5)
    state[:, 2] = 0  # nothing active
    R = torch.randn(N, 3, dtype=torch.float64)
    B, failed = solve_active_sets(X @ X.T, 0.7, state, R)
    assert not failed.any()
    for j in range(3):
        on = state[:, j] > 0
        H = (X @ X.T + 0.49)[on][:, on] + torch.diag(1 / state[on, j])
        np.testing.assert_allclose(B[on, j], torch.linalg.solve(H, R[on, j]), 1e-8)
        assert (B[~on, j] == 0).all()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("scale", [0.01, 1.0, 50.0])
def test_the_line_search_lowers_the_objective_from_any_direction(loss, scale):
    rows = Rows(torch.randn(N, D, dtype=torch.float64))
    W = torch.zeros(D, K, dtype=torch.float64)
    F = rows.forward(W)
    D_ = -scale * rows.adjoint(loss.evaluate(F)[1])
    t = line_search(loss, torch.ones(D, 1).double(), W, F, D_, rows.forward(D_))
    before = float(loss.evaluate(F)[0].sum())
    after = float(loss.evaluate(F + t * rows.forward(D_))[0].sum())
    assert after + 0.5 * float((t * D_).square().sum()) < before


def test_the_gap_bounds_the_distance_to_the_minimum():
    rows = Rows(torch.randn(N, D, dtype=torch.float64), 1.0)
    penalty, start = torch.ones(D + 1, 1).double(), torch.zeros(D + 1, K).double()
    best = minimise(Objective(rows, LOSSES[0], penalty), start, Stopping(1e-14, 100))
    for n_steps in range(4):
        early = minimise(
            Objective(rows, LOSSES[0], penalty), start, Stopping(1e-14, n_steps)
        )
        above = early.value - best.value
        assert (above <= early.gap + 1e-12).all() and (above >= -1e-10).all()


@pytest.mark.parametrize("kind", [LinearSVM, Softmax])
@pytest.mark.parametrize("shape", [(90, 5), (30, 200)])
def test_streamed_rows_give_the_head_of_rows_in_memory(kind, shape):
    rng = np.random.default_rng(0)
    X = rng.normal(size=shape).astype(np.float32)
    y = rng.integers(0, 3, len(X))
    in_memory = kind(tol=1e-10).fit(X, y)
    streamed = kind(tol=1e-10).fit(ListSource(X), y)
    np.testing.assert_allclose(streamed.coef_, in_memory.coef_, atol=1e-5)
    np.testing.assert_allclose(
        streamed.decision_function(ListSource(X)),
        in_memory.decision_function(X),
        atol=1e-4,
    )


def test_streamed_rows_with_nan_are_named():
    X = np.ones((20, 3), np.float32)
    X[13, 2] = np.inf
    with pytest.raises(ValueError, match="row 13 is the first"):
        LinearSVM().fit(ListSource(X), np.arange(20) % 2)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_each_column_has_the_inverse_of_its_own_hessian(loss, dtype):
    rows = Rows(torch.randn(N, D, dtype=torch.float64), 1.0)
    F, R = torch.randn(N, K).double(), torch.randn(rows.p, K).double()
    penalty = torch.ones(rows.p, 1, dtype=dtype)
    weights = loss.own_weights(loss.evaluate(F)[2])
    inverse = OwnPreconditioner.of_rows(rows, penalty, weights)
    found, tol = inverse(R.to(dtype)), 1e-10 if dtype == torch.float64 else 1e-4
    for k in range(K):
        H = rows.weighted_gram(weights[:, k]) + torch.eye(rows.p)
        expected = torch.linalg.solve(H, R[:, k])
        torch.testing.assert_close(found[:, k].double(), expected, atol=tol, rtol=tol)
    keep = torch.arange(K) % 2 == 0
    torch.testing.assert_close(
        inverse.columns(keep)(R[:, keep].to(dtype)), found[:, keep]
    )
