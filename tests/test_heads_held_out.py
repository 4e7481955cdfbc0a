"""C is chosen as by full-precision fits; rows are called known only where they are."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from test_heads_selection import make_problem

from cnnfeat.heads import CGrid, FoldedProblem, Softmax, TrainingProblem, select_C
from cnnfeat.heads._held_out import Marks
from cnnfeat.heads._selection import SETTLING_TOLS, middle_of_best
from cnnfeat.metrics import mean_per_class_accuracy
from cnnfeat.splits import Split

GRID = (0.01, 0.3, 10.0, 300.0)
N_ROWS, N_FOLDS = 24, 3


def make_images(seed):
    """Rows of 2 to 4 classes that overlap, more features than rows or fewer."""
    rng = np.random.default_rng(seed)
    k, d = int(rng.integers(2, 5)), int(rng.choice([3, 12, 60]))
    y = np.arange(N_ROWS) % k
    X = rng.normal(size=(N_ROWS, d)) + rng.uniform(0.3, 1) * rng.normal(size=(k, d))[y]
    part = rng.permutation(N_ROWS) % N_FOLDS
    folds = [
        Split(np.flatnonzero(part != at), np.flatnonzero(part == at))
        for at in range(N_FOLDS)
    ]
    return (X / np.sqrt(d)).astype(np.float32), y, tuple(folds)


def fitted(problem, folds, C, tol):
    found = problem.fit_folds(C, folds, start=None, tol=tol)
    marks = found.marks(folds, problem.index, problem.row_norms)
    return Marks.joined(marks)


def exact_choice(X, y, folds):
    """The C of fits in float64 of which hardly more can be had, and its score."""
    problem = make_problem(X.astype(np.float64), y)
    held = np.concatenate([y[fold.test] for fold in folds])
    scores = {}
    for C in GRID:
        right = fitted(problem, folds, C, 1e-13).right
        scores[C] = mean_per_class_accuracy(held, right, y.max() + 1)
    best = middle_of_best(scores)
    return best, scores[best]


def test_C_is_that_of_full_precision_fits_in_200_problems():
    chosen, exact = [], []
    for seed in range(200):
        X, y, folds = make_images(seed)
        found = select_C([FoldedProblem(make_problem(X, y), folds)], CGrid(GRID))
        chosen.append((found.C, max(found.scores)))
        exact.append(exact_choice(X, y, folds))
    assert chosen == exact
    assert {C for C, _ in exact} == set(GRID)


@pytest.mark.parametrize("tol", [1e-1, 1e-2, 1e-4])
@pytest.mark.parametrize("C", [0.3, 300.0])
def test_a_row_that_is_known_stays_as_it_is(C, tol):
    n_known = n_open = 0
    for seed in range(10):
        X, y, folds = make_images(seed)
        problem = make_problem(X, y)
        loose = fitted(problem, folds, C, tol)
        exact = fitted(make_problem(X.astype(np.float64), y), folds, C, 1e-13)
        np.testing.assert_array_equal(
            loose.right[loose.known], exact.right[loose.known]
        )
        n_known += loose.known.sum()
        n_open += (~loose.known).sum()
    assert n_known > 0 and n_open > 0


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 5), st.integers(0, 1000), st.floats(0, 2))
def test_no_error_within_the_bound_changes_a_known_row(k, seed, size):
    rng = np.random.default_rng(seed)
    scores, norms = rng.normal(size=(9, k)), rng.uniform(0.5, 2, 9)
    index, errors = rng.integers(0, max(2, k), 9), size * rng.random(k)
    marks = Marks.of(scores, index, errors, norms)
    sure = Marks.of(scores, index, None, norms)
    np.testing.assert_array_equal(marks.right, sure.right)
    assert sure.known.all() and (size > 0 or marks.known.all())
    for _ in range(20):
        shift = rng.choice([-1, -0.5, 0, 1], size=(9, k)) * norms[:, None] * errors
        moved = Marks.of(scores + 0.999 * shift, index, None, norms)
        np.testing.assert_array_equal(
            moved.right[marks.known], marks.right[marks.known]
        )


def test_a_softmax_whose_intercept_is_free_is_taken_as_it_is_scored():
    X, y, folds = make_images(0)
    found = make_problem(X, y, Softmax()).fit_folds(1.0, folds, start=None, tol=0.1)
    assert found.errors is None


def test_fits_that_cannot_reach_the_best_are_not_refined(monkeypatch):
    refined, n_seeds = [], 10
    refine = TrainingProblem.refine_folds

    def counted(self, C, folds, weights, tol):
        if tol == max(SETTLING_TOLS):
            refined.append(C)
        return refine(self, C, folds, weights, tol)

    monkeypatch.setattr(TrainingProblem, "refine_folds", counted)
    for seed in range(n_seeds):
        X, y, folds = make_images(seed)
        select_C([FoldedProblem(make_problem(X, y), folds)], CGrid(GRID))
    assert 0 < len(refined) < len(GRID) * n_seeds / 2
