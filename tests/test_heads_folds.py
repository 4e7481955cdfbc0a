"""C chosen by folds: all solved at once, each as if alone; a grid that grows."""

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.preprocessing import StandardScaler
from test_heads_selection import draw_inner, make_images, make_problem

from cnnfeat.heads import (
    CGrid,
    FoldedProblem,
    FoldFits,
    HeadSettings,
    LinearSVM,
    Softmax,
    TrainingRows,
    _problem,
    _selection,
    fit_splits,
    select_C,
)
from cnnfeat.heads._selection import middle_of_best
from cnnfeat.metrics import mean_per_class_accuracy
from cnnfeat.splits import Split

GRID = (0.01, 1.0, 100.0)


def scored_by_hand(heads, X, y, folds):
    """Mean per-class accuracy over all held-out rows, each fold fitted by itself."""
    found = [
        head.fit(X[fold.train], y[fold.train]).predict(X[fold.test])
        for head, fold in zip(heads, folds, strict=True)
    ]
    held = np.concatenate([y[fold.test] for fold in folds])
    return mean_per_class_accuracy(held, np.concatenate(found) == held, y.max() + 1)


@pytest.mark.parametrize("kind", [LinearSVM, Softmax])
@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("d", [5, 200])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_folds_fitted_at_once_score_as_each_fitted_alone(kind, k, d, class_weight):
    X, y = make_images(d, k=k)
    keep = np.sort(np.random.default_rng(1).permutation(len(y))[: len(y) * 3 // 4])
    X, y = X[keep], y[keep]
    weights = np.linspace(1, 2, len(y))
    head = kind(C=0.7, tol=1e-12, class_weight=class_weight)
    problem = make_problem(X, y, head, sample_weight=weights)
    folds = draw_inner(y)[:4]
    warm = problem.fit_folds(0.1, folds, start=None, tol=1e-12)
    for start in (None, warm.weights):
        found = problem.fit_folds(0.7, folds, start=start, tol=1e-12)
        assert found.scores.shape == (len(y), 4, 1 if k == 2 else k)
        for at, fold in enumerate(folds):
            head.fit(X[fold.train], y[fold.train], weights[fold.train])
            alone = head.decision_function(X).reshape(len(y), -1)
            np.testing.assert_allclose(found.scores[:, at], alone, atol=2e-3)


@pytest.mark.parametrize("d", [5, 200])
def test_dropout_is_of_training_rows_alone(d):
    X, y = make_images(d)
    head = Softmax(dropout=0.5, random_state=3, tol=1e-10)
    problem = make_problem(X, y, head)
    everything = Split(np.arange(len(y)), np.arange(4))
    found = problem.fit_folds(1.0, [everything], start=None, tol=1e-10)
    head.fit(X, y)  # the same masks: those of all rows
    np.testing.assert_allclose(found.scores[:, 0], head.decision_function(X), atol=2e-3)


@pytest.mark.parametrize("kind", [LinearSVM, Softmax])
@pytest.mark.parametrize("elements", [1, 1000, 2**22])
def test_C_is_scored_on_every_held_out_row(monkeypatch, kind, elements):
    monkeypatch.setattr(_selection, "FOLD_ELEMENTS", elements)
    X, y = make_images(20)
    folds = draw_inner(y)
    choice = select_C([FoldedProblem(make_problem(X, y, kind()), folds)], CGrid(GRID))
    for C, score in zip(GRID, choice.scores, strict=True):
        expected = scored_by_hand([kind(C=C)] * len(folds), X, y, folds)
        # A row on a boundary may fall on either side at the tolerance of the choice.
        assert score == pytest.approx(expected, abs=2 / len(y) / 5)


@pytest.mark.parametrize("scale", ["standard", "mean-norm"])
def test_the_transform_that_C_is_chosen_with_is_fitted_to_the_folds_rows(scale):
    X, y = make_images(6)
    X[:, 0] *= np.linspace(1, 40, len(y))  # scales differ from fold to fold
    folds = draw_inner(y)
    rows = [TrainingRows(np.arange(len(y)), folds)]
    asked = HeadSettings("svm", scale, C=GRID, device="cpu")
    (found,) = fit_splits(X, y, rows, asked)
    for C, score in zip(GRID, found.validation, strict=True):
        right = []
        for fold in folds:
            if scale == "standard":
                scaler = StandardScaler().fit(X[fold.train])
                Z = scaler.transform(X).astype(np.float32)
            else:
                Z = X * (20 / np.linalg.norm(X[fold.train], axis=1).mean())
            head = LinearSVM(C=C).fit(Z[fold.train], y[fold.train])
            right.append(head.predict(Z[fold.test]) == y[fold.test])
        held = np.concatenate([y[fold.test] for fold in folds])
        expected = mean_per_class_accuracy(held, np.concatenate(right), 4)
        assert score == pytest.approx(expected, abs=2 / len(y) / 5)


def test_components_that_only_all_rows_have_are_fewer_in_the_folds():
    X, y = make_images(60)
    rows = [TrainingRows(np.arange(len(y)), draw_inner(y))]
    asked = HeadSettings("svm", "l2", C=GRID, n_components=45, device="cpu")
    (found,) = fit_splits(X, y, rows, asked)
    assert found.linear.coef.shape == (4, 45)
    assert 0.25 < max(found.validation) <= 1


# -- ties ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.1, 0.9, 0.2, 0.3], 10),
        ([0.1, 0.9, 0.9, 0.9, 0.2], 100),
        ([0.9, 0.9, 0.1, 0.1], 1),
        ([0.9, 0.1, 0.9, 0.9, 0.9, 0.9], 1000),
        ([0.5, 0.5, 0.1, 0.5, 0.5], 1),
        ([0.7] * 7, 1000),
    ],
)
def test_of_values_that_tie_the_middle_one_is_taken(scores, expected):
    assert (
        middle_of_best(dict(zip(10 ** np.arange(7), scores, strict=False))) == expected
    )


# -- the grid --------------------------------------------------------------------------


GRID_BEYOND = tuple(10.0**e for e in range(1, 8))


class MadeProblem:
    """Held-out rows are the better known the nearer C is to its optimum."""

    def __init__(self, optimum, n=40, n_lost=2, hardest=math.inf):
        self.optimum, self.n_lost, self.hardest = optimum, n_lost, hardest
        self.tried = []
        self.y = self.index = np.arange(n) % 2
        self.classes = np.arange(2)
        self.formulation = LinearSVM().formulation()
        self.row_norms = np.ones(n)

    def fit_folds(self, C, folds, *, start, tol, quick=False):
        self.tried.append(C)
        if quick and self.hardest < C:
            return None
        decades = round(abs(math.log10(C) - self.optimum))
        n_right = max(0, len(self.y) - self.n_lost * decades)
        scores = np.where(self.y > 0, 1.0, -1.0)
        scores[n_right:] *= -1
        weights = np.zeros((1, len(folds)))
        return FoldFits(weights, scores[:, None, None].repeat(len(folds), 1))


def chosen_at(optimum, grid, **more):
    problem = MadeProblem(optimum, **more)
    folds = (Split(np.arange(20), np.arange(40)),)
    return select_C([FoldedProblem(problem, folds)], grid), problem


@settings(deadline=None, max_examples=30)
@given(st.integers(-7, 9), st.sampled_from([1e-4, 0.01, 1.0, 1e3]))
def test_the_grid_grows_until_the_best_lies_inside(optimum, norm):
    X = np.full((3, 4), norm / 2)
    unit = round(math.log10(norm**2))
    choice, problem = chosen_at(optimum - unit, CGrid.for_features(X))
    best = min(max(optimum, -4), 6)
    assert float(f"1e{best - unit}") == choice.C
    lowest, highest = min(-3, max(best - 1, -4)), max(3, min(best + 1, 6))
    expected = [float(f"1e{e - unit}") for e in range(lowest, highest + 1)]
    assert list(choice.grid) == sorted(problem.tried) == expected


@pytest.mark.parametrize("sign", [1, -1])
def test_a_gain_that_may_be_chance_ends_the_grid_and_is_taken(sign):
    choice, problem = chosen_at(4 * sign, CGrid.for_features(np.eye(4)), n_lost=1)
    # A single row more is right in the first decade beyond, and none in the second.
    assert 10.0 ** (4 * sign) == choice.C
    tried = {1: (4, 5), -1: (-4,)}[sign]  # there is but one below
    assert problem.tried[7:] == [10.0**e for e in tried]
    assert choice.grid == tuple(sorted(problem.tried))
    assert max(choice.scores) == choice.scores[choice.grid.index(choice.C)]


@settings(deadline=None, max_examples=20)
@given(st.integers(5, 9))
def test_a_slow_gain_is_followed_over_two_decades(optimum):
    # One row more a decade: sqrt(1) is chance, and of two rows sqrt(2).
    choice, problem = chosen_at(optimum, CGrid.for_features(np.eye(4)), n_lost=1)
    assert 10.0 ** min(optimum, 6) == choice.C
    assert problem.tried[7:] == [1e4, 1e5, 1e6]


def test_a_slow_gain_is_taken_where_the_next_decade_has_no_fit():
    grid = CGrid.for_features(np.eye(4))
    choice, problem = chosen_at(6, grid, n_lost=1, hardest=1e4)
    assert problem.tried[7:] == [1e4, 1e5] and choice.C == 1e4
    assert choice.scores[-1] == 0


class FlatProblem(MadeProblem):
    """Each C is right on two thirds of the rows, whichever they are."""

    def fit_folds(self, C, folds, *, start, tol, quick=False):
        self.tried.append(C)
        rng = np.random.default_rng([self.optimum, round(math.log10(C)) + 9])
        right = rng.permutation(len(self.y)) < len(self.y) * 2 // 3
        scores = np.where((self.y > 0) == right, 1.0, -1.0)[:, None, None]
        return FoldFits(np.zeros((1, len(folds))), scores.repeat(len(folds), 1))


def test_a_flat_curve_is_not_followed():
    n_beyond = []
    for seed in range(100):
        problem = FlatProblem(seed, n=60)
        fold = Split(np.arange(0), np.arange(60))
        select_C([FoldedProblem(problem, (fold,))], CGrid((1.0,), ((), GRID_BEYOND)))
        n_beyond.append(len(problem.tried) - 1)
    # All are equal but for luck: most end at once, hardly one goes all the way.
    assert np.median(n_beyond) == 1
    assert np.mean(np.array(n_beyond) == len(GRID_BEYOND)) < 0.05


@pytest.mark.parametrize("hardest", [4, 5])
def test_a_C_beyond_the_grid_whose_fits_do_not_converge_is_never_chosen(hardest):
    grid = CGrid.for_features(np.eye(4))
    choice, problem = chosen_at(6, grid, hardest=10.0**hardest)
    assert 10.0**hardest == choice.C and choice.grid[-1] == 10.0 ** (hardest + 1)
    assert choice.scores[-1] == 0 and max(problem.tried) == choice.grid[-1]


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 4), st.integers(0, 12), st.integers(0, 12), st.integers(0, 9))
def test_chance_counts_a_row_once_however_often_it_is_held_out(
    n_repeats, n_gained, n_lost, seed
):
    shuffled = np.random.default_rng(seed).permutation(40)
    before, after = np.ones(40, bool), np.ones(40, bool)
    before[shuffled[:n_gained]] = after[shuffled[20 : 20 + n_lost]] = False

    class TwoProblem(MadeProblem):
        def fit_folds(self, C, folds, *, start, tol, quick=False):
            right = before if C == 1 else after
            scores = np.where((self.y > 0) == right, 1.0, -1.0)[:, None, None]
            return FoldFits(np.zeros((1, len(folds))), scores.repeat(len(folds), 1))

    fold = Split(np.arange(0), np.arange(40))
    parts = [FoldedProblem(TwoProblem(0), (fold,) * n_repeats)]
    trials = _selection._Trials(parts)
    trials.run((1.0, 10.0))
    gain, chance = trials.gain(10.0, 1.0)
    assert gain == pytest.approx((n_gained - n_lost) / 40)
    assert gain == pytest.approx(trials.scores[10.0] - trials.scores[1.0])
    assert chance == pytest.approx(math.sqrt(n_gained + n_lost) / 40)


def make_hard(kind):
    """Few features of very unlike scales, and many classes that overlap."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(19), 20)
    X = np.abs(0.4 * rng.normal(size=(len(y), 6)) + rng.normal(size=(19, 6))[y])
    X *= np.logspace(-2, 0, 6)
    X = (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)
    return make_problem(X, y, kind()), draw_inner(y)


@pytest.mark.parametrize("kind", [LinearSVM, Softmax])
@pytest.mark.parametrize("C", [1e3, 1e5, 1e6])
def test_few_features_converge_at_large_C(kind, C):
    problem, folds = make_hard(kind)
    # A warning is an error here.
    assert problem.fit_folds(C, folds, start=None, tol=1e-4) is not None
    assert problem.fit(C).objective > 0


@pytest.mark.parametrize("kind", [LinearSVM, Softmax])
def test_a_quick_fit_that_does_not_converge_is_given_up_in_silence(kind, monkeypatch):
    problem, folds = make_hard(kind)
    assert problem.fit_folds(10.0, folds, start=None, tol=1e-4, quick=True)
    monkeypatch.setattr(_problem, "QUICK_STEPS", 1)
    assert problem.fit_folds(10.0, folds, start=None, tol=1e-4, quick=True) is None


@pytest.mark.parametrize("kind", ["svm", "softmax"])
def test_features_that_part_the_classes_are_not_fitted_at_larger_C(kind):
    X, y = make_images(6)
    X[:, :4] += 5 * np.eye(4, dtype=np.float32)[y]
    rows = [TrainingRows(np.arange(len(y)), draw_inner(y))]
    (found,) = fit_splits(X, y, rows, HeadSettings(kind, device="cpu"))
    assert max(found.validation) == 1 and found.grid[-1] == 1e3 > found.linear.C


@pytest.mark.parametrize("optimum", [-6, 8])
def test_a_grid_that_was_given_never_grows(optimum):
    choice, _ = chosen_at(optimum, CGrid((1.0, 0.1, 10.0)))
    assert choice.grid == (0.1, 1.0, 10.0)
    assert (0.1 if optimum < 0 else 10.0) == choice.C


@pytest.mark.parametrize("scale", ["l2", "none", "standard"])
def test_C_is_the_number_asked_for_in_every_split(scale):
    X, y = make_images(20)
    X *= np.random.default_rng(3).uniform(1, 1.2, (len(y), 1)).astype(np.float32)
    drawn = [np.flatnonzero(np.arange(len(y)) % 6 != k) for k in range(3)]
    splits = [TrainingRows(rows, draw_inner(y[rows])) for rows in drawn]
    fits = fit_splits(X, y, splits, HeadSettings("svm", scale, device="cpu"))
    for fit in fits:
        assert fit.linear.C in fit.grid
        # Exact powers of ten, as they are written.
        assert all(float(f"1e{round(math.log10(C))}") == C for C in fit.grid)
    assert len(set.intersection(*(set(fit.grid) for fit in fits))) >= 7


def test_the_grid_of_features_of_any_scale():
    X, _ = make_images(30)
    assert CGrid.for_features(0 * X).values == tuple(
        float(f"1e{e}") for e in range(-3, 4)
    )
    ratio = np.array(CGrid.for_features(X).values) / CGrid.for_features(10 * X).values
    np.testing.assert_allclose(ratio, 100)
