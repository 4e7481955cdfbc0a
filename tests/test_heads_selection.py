"""C is chosen inside the training rows; many splits at once equal each alone."""

import re

import numpy as np
import pytest
import torch
from row_source import ListSource

from cnnfeat.errors import CnnfeatWarning, DataError
from cnnfeat.heads import (
    CGrid,
    FoldedProblem,
    HeadSettings,
    LinearSVM,
    Softmax,
    TrainingProblem,
    TrainingRows,
    fit_splits,
    select_C,
    warn_of_edges,
)
from cnnfeat.heads._parallel import map_splits
from cnnfeat.heads._selection import is_at_edge
from cnnfeat.image_table import ImageTable
from cnnfeat.splits import inner_positions

GRID = (0.01, 0.1, 1.0, 10.0)
ESTIMATORS = {"svm": LinearSVM, "softmax": Softmax}


def make_images(d, k=4, per_class=12, seed=0):
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(k), per_class)
    X = rng.normal(size=(len(y), d)) + 0.7 * rng.normal(size=(k, d))[y]
    return (X / np.sqrt(d)).astype(np.float32), y


def draw_inner(y, seed=0):
    """Folds of positions to choose C on, of rows that have no paths."""
    return inner_positions(ImageTable.from_labels(y), np.arange(len(y)), seed=seed)


def draw_splits(y, n_splits=3, per_class=8):
    rng = np.random.default_rng(5)
    drawn = [
        np.sort(
            np.concatenate(
                [rng.permutation(np.flatnonzero(y == k))[:per_class] for k in set(y)]
            )
        )
        for _ in range(n_splits)
    ]
    return [TrainingRows(rows, draw_inner(y[rows])) for rows in drawn]


def make_problem(X, y, head=None, **more):
    return TrainingProblem.of(X, y, (head or LinearSVM()).formulation(), **more)


@pytest.fixture
def tight(monkeypatch):
    """Every head is fitted closer than it would be, so that weights can be compared."""
    estimator = HeadSettings._estimator

    def closer(settings, seed=0):
        return estimator(settings, seed).set_params(tol=1e-10)

    monkeypatch.setattr(HeadSettings, "_estimator", closer)


@pytest.mark.parametrize(
    ("kind", "C", "d"),
    [
        *(("softmax", 1e39, 6), ("softmax", 1e39, 300), ("softmax", 1e100, 6)),
        *(("svm", 1e20, 300), ("svm", 1e38, 6), ("svm", 1e38, 300)),
    ],
)
@pytest.mark.filterwarnings("ignore::cnnfeat.errors.ConvergenceWarning")
def test_a_fit_that_is_not_finite_is_refused_and_never_chosen(kind, C, d):
    X, y = make_images(d)
    rows = TrainingRows(np.arange(len(y)), draw_inner(y))

    def fit(*grid):
        settings = HeadSettings(kind, "l2", C=grid, device="cpu")
        return fit_splits(X, y, [rows], settings)[0]

    at = re.escape(f"{C:g}")
    with pytest.raises(DataError, match=f"has no finite weights at C = {at}: lower"):
        fit(C)
    with pytest.raises(DataError, match="no finite weights at any C from"):
        fit(C, 3 * C)
    both, alone = fit(0.01, 1.0, C), fit(0.01, 1.0)
    assert both.linear.C == alone.linear.C
    assert both.validation == (*alone.validation, 0.0)
    np.testing.assert_array_equal(both.linear.coef, alone.linear.coef)


@pytest.mark.parametrize("kind", ["svm", "softmax"])
@pytest.mark.parametrize("d", [6, 300])
@pytest.mark.parametrize("scale", ["none", "l2", "mean-norm", "standard"])
def test_a_split_among_many_equals_the_split_alone(tight, kind, d, scale):
    X, y = make_images(d)
    settings = HeadSettings(kind, scale, C=GRID, device="cpu")
    splits = draw_splits(y)
    together = fit_splits(X, y, splits, settings)
    for split, result in zip(splits, together, strict=True):
        (alone,) = fit_splits(X, y, [split], settings)
        assert result.choice.C == alone.choice.C
        assert result.choice.scores == alone.choice.scores == result.validation
        Z, y_train = X[split.rows], y[split.rows]
        Z = settings.transform().fit(Z).transform(Z)
        head = ESTIMATORS[kind](tol=1e-10, C=result.choice.C).fit(Z, y_train)
        np.testing.assert_allclose(result.linear.coef, head.coef_, atol=1e-4)
        np.testing.assert_allclose(result.linear.intercept, head.intercept_, atol=1e-4)


@pytest.mark.parametrize("kind", ["svm", "softmax"])
@pytest.mark.parametrize("k", [2, 4])
def test_the_head_of_a_fit_scores_as_its_estimator(kind, k):
    X, y = make_images(30, k=k)
    settings = HeadSettings(kind, "mean-norm", C=(0.1,), device="cpu")
    (fitted,) = fit_splits(X, y, [TrainingRows(np.arange(len(y)))], settings)
    head = fitted.to_head([f"class {name}" for name in fitted.linear.classes])
    Z = settings.transform().fit(X).transform(X)
    estimator = settings._estimator().set_params(C=0.1).fit(Z, y)
    scores = estimator.decision_function(Z)
    if k == 2 and kind == "svm":
        scores = np.stack([-scores, scores], axis=1)
    if k == 2 and kind == "softmax":
        np.testing.assert_allclose(
            head.probabilities(X), estimator.predict_proba(Z), atol=1e-3
        )
        scores = np.stack([-scores, scores], axis=1) / 2
    np.testing.assert_allclose(head.scores(X), scores, atol=1e-3)
    assert head.class_names == tuple(f"class {name}" for name in range(k))


def test_the_order_of_the_grid_does_not_matter():
    X, y = make_images(40, k=2)
    part = FoldedProblem(make_problem(X, y), draw_inner(y))
    forward = select_C([part], CGrid(GRID))
    backward = select_C([part], CGrid(GRID[::-1]))
    assert forward.C == backward.C and forward.scores == backward.scores
    assert forward.scores[GRID.index(forward.C)] == max(forward.scores)


def test_a_grid_of_one_is_fitted_without_a_choice():
    X, y = make_images(20)
    settings = HeadSettings(scale="none", C=(0.5,), device="cpu")
    (result,) = fit_splits(X, y, [TrainingRows(np.arange(len(y)))], settings)
    assert result.choice is None and result.grid == (0.5,) and result.validation == ()
    assert not settings.chooses_C
    np.testing.assert_allclose(
        result.linear.coef, LinearSVM(C=0.5).fit(X, y).coef_, atol=1e-4
    )


def test_a_choice_without_rows_to_choose_on_is_refused():
    X, y = make_images(20)
    with pytest.raises(DataError, match="from 4 values needs rows to choose it on"):
        fit_splits(X, y, [TrainingRows(np.arange(len(y)))], HeadSettings(C=GRID))


# -- problems --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [LinearSVM, Softmax])
@pytest.mark.parametrize("d", [5, 200])
def test_a_fit_that_starts_at_another_C_ends_where_a_fresh_one_does(kind, d):
    X, y = make_images(d)
    problem = make_problem(X, y, kind(tol=1e-10))
    started = problem.fit(1.0, start=problem.fit(0.1).start)
    fresh = problem.fit(1.0)
    np.testing.assert_allclose(started.coef, fresh.coef, atol=1e-4)
    assert started.objective == pytest.approx(fresh.objective, rel=1e-6)


def test_weights_start_a_fit_to_other_rows_only_where_they_mean_the_same():
    X, y = make_images(5)
    few, many = make_problem(X[::2], y[::2]), make_problem(X, y)
    assert few.can_start(many)
    wide = make_images(300)[0]
    gram = make_problem(wide, y)
    assert gram.can_start(gram)
    assert not make_problem(wide[::2], y[::2]).can_start(gram)
    assert not few.can_start(make_problem(X, y % 3))  # another number of columns
    dropped = make_problem(X, y, LinearSVM(dropout=0.5))
    assert not dropped.can_start(make_problem(X, y, LinearSVM(dropout=0.5)))


def test_a_streamed_problem_chooses_and_fits_as_one_in_memory():
    class Source(ListSource):
        def __getitem__(self, rows):
            return Source(self.X[rows])

    X, y = make_images(6)
    split = TrainingRows(np.arange(len(y)), draw_inner(y))
    settings = HeadSettings("svm", "mean-norm", C=GRID, device="cpu")
    (streamed,) = fit_splits(Source(X), y, [split], settings)
    (in_memory,) = fit_splits(X, y, [split], settings)
    assert streamed.choice.scores == in_memory.choice.scores
    np.testing.assert_allclose(streamed.linear.coef, in_memory.linear.coef, atol=1e-2)


@pytest.mark.parametrize("grid", [[], [0.0], [1.0, -1.0], [1.0, np.inf]])
def test_a_bad_grid_is_refused(grid):
    X, y = make_images(5)
    with pytest.raises(DataError, match=r"grid of C is empty|finite number above 0"):
        select_C([FoldedProblem(make_problem(X, y), draw_inner(y))], CGrid(grid))


def test_a_class_with_one_row_is_trained_on_and_not_chosen_on():
    X, y = make_images(5)
    y[0] = 99
    folds = draw_inner(y)
    assert all(0 in fold.train and 0 not in fold.test for fold in folds)
    choice = select_C([FoldedProblem(make_problem(X, y), folds)], CGrid(GRID))
    assert 0 < max(choice.scores) <= 1


def test_an_unknown_kind_is_named():
    with pytest.raises(
        DataError, match="one of svm, softmax, ridge, ncm, knn; found 'tree'"
    ):
        HeadSettings("tree")


@pytest.mark.parametrize(
    ("C", "grid", "expected"), [(10, GRID, True), (1, GRID, False), (10, (10,), False)]
)
def test_the_largest_of_several_C_is_an_edge(C, grid, expected):
    assert is_at_edge(C, grid) is expected


def test_one_warning_tells_of_all_edges():
    with pytest.warns(
        CnnfeatWarning, match=r"best in 2 of 3 fits \(first: b\)"
    ) as told:
        warn_of_edges([("a", 1.0, GRID), ("b", 10.0, GRID), ("c", 10.0, GRID)])
    assert len(told) == 1
    warn_of_edges([("a", 1.0, GRID)])  # a warning is an error here


def test_dropout_goes_through_the_choice():
    X, y = make_images(30)
    settings = HeadSettings("softmax", C=GRID, dropout=0.5, device="cpu")
    rows = draw_splits(y, 1)[0]
    seeds = [TrainingRows(rows.rows, rows.folds, seed) for seed in (1, 2, 1)]
    first, other, again = fit_splits(X, y, seeds, settings)
    assert first.choice.C in GRID
    np.testing.assert_array_equal(first.linear.coef, again.linear.coef)
    assert np.abs(first.linear.coef - other.linear.coef).max() > 1e-3


def test_splits_on_several_threads_equal_splits_one_by_one():
    X, y = make_images(6)
    drawn = [np.flatnonzero(np.arange(len(y)) % 5 != k) for k in range(5)]
    splits = [TrainingRows(rows, draw_inner(y[rows])) for rows in drawn]
    settings = HeadSettings(scale="none", C=GRID, device="cpu")
    n_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = fit_splits(X, y, splits, settings)
        torch.set_num_threads(4)
        together = fit_splits(X, y, splits, settings)
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(n_threads)
    for one, other in zip(alone, together, strict=True):
        assert one.choice.C == other.choice.C
        # The last split has all threads, which add up in another order.
        np.testing.assert_allclose(one.linear.coef, other.linear.coef, atol=1e-5)


def test_an_error_in_one_thread_is_the_error_of_all():
    def fit_one(number):
        if number == 2:
            raise DataError("split 2 has one class")
        return number

    n_threads = torch.get_num_threads()
    with pytest.raises(DataError, match="split 2"):
        map_splits(fit_one, 4, 2)
    assert torch.get_num_threads() == n_threads
    assert map_splits(str, 4, 2) == ["0", "1", "2", "3"]
