"""C is chosen inside the training rows; many splits at once equal each alone."""

import numpy as np
import pytest
import torch

from cnnfeat.errors import DataError
from cnnfeat.heads import (
    FeatureTransform,
    LinearSVM,
    Softmax,
    default_grid,
    draw_inner,
    fit_splits,
    select_C,
)
from cnnfeat.heads._parallel import map_splits

GRID = (0.01, 0.1, 1.0, 10.0)


def make_images(d, k=4, per_class=12, seed=0):
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(k), per_class)
    X = rng.normal(size=(len(y), d)) + 0.7 * rng.normal(size=(k, d))[y]
    return (X / np.sqrt(d)).astype(np.float32), y


def draw_splits(y, n_splits=3, per_class=8):
    rng = np.random.default_rng(5)
    return [
        np.sort(
            np.concatenate(
                [rng.permutation(np.flatnonzero(y == k))[:per_class] for k in set(y)]
            )
        )
        for _ in range(n_splits)
    ]


@pytest.mark.parametrize("head", [LinearSVM(tol=1e-10), Softmax(tol=1e-10)])
@pytest.mark.parametrize("d", [6, 300])
@pytest.mark.parametrize("scale", [None, "l2", "mean-norm", "standard"])
def test_a_split_among_many_equals_the_split_alone(head, d, scale):
    X, y = make_images(d)
    transform = None if scale is None else FeatureTransform(scale)
    splits = draw_splits(y)
    together = fit_splits(head, X, y, splits, GRID, transform=transform)
    for rows, result in zip(splits, together, strict=True):
        Z, y_train = X[rows], y[rows]
        if transform is not None:
            Z = transform.unfitted().fit(Z).transform(Z)
        choice = select_C(head, Z, y_train, GRID)
        assert result.choice.C == choice.C
        assert result.choice.scores == choice.scores
        alone = type(head)(C=choice.C, tol=1e-10).fit(Z, y_train)
        np.testing.assert_allclose(result.head.coef_, alone.coef_, atol=1e-4)
        np.testing.assert_allclose(result.head.intercept_, alone.intercept_, atol=1e-4)


def test_the_order_of_the_grid_does_not_matter_and_ties_go_to_the_smaller_C():
    X, y = make_images(40, k=2)
    y_easy = y.copy()
    X[:, 0] += 3 * y
    forward = select_C(LinearSVM(), X, y_easy, GRID)
    backward = select_C(LinearSVM(), X, y_easy, GRID[::-1])
    assert forward.C == backward.C and forward.scores == backward.scores
    assert GRID[int(np.argmax(forward.scores))] == forward.C


def test_the_inner_rows_are_stratified_seeded_and_disjoint():
    y = np.repeat(["a", "b", "c"], 30)
    train, validation = draw_inner(y, seed=3)
    assert len(train) == 75 and len(validation) == 15
    assert (np.unique(y[validation], return_counts=True)[1] == 5).all()
    assert set(train) | set(validation) == set(range(90))
    again = draw_inner(y, seed=3)[1]
    np.testing.assert_array_equal(again, validation)
    assert (draw_inner(y, seed=4)[1] != validation).any()


def test_given_inner_rows_are_used():
    X, y = make_images(20)
    inner = (np.arange(0, 48, 2), np.arange(1, 48, 2))
    choice = select_C(LinearSVM(), X, y, GRID, inner=inner)
    scores = []
    for C in GRID:
        predicted = LinearSVM(C=C).fit(X[::2], y[::2]).predict(X[1::2])
        scores.append(
            np.mean([(predicted[y[1::2] == k] == k).mean() for k in range(4)])
        )
    np.testing.assert_allclose(choice.scores, scores)


def test_a_grid_of_one_is_fitted_without_a_choice():
    X, y = make_images(20)
    (result,) = fit_splits(LinearSVM(), X, y, [np.arange(len(y))], [0.5])
    assert result.choice is None and result.head.C == 0.5
    np.testing.assert_allclose(
        result.head.coef_, LinearSVM(C=0.5).fit(X, y).coef_, atol=1e-4
    )


@pytest.mark.parametrize("grid", [[], [0.0], [1.0, -1.0], [1.0, np.inf]])
def test_a_bad_grid_is_refused(grid):
    X, y = make_images(5)
    with pytest.raises(DataError, match=r"grid of C is empty|finite number above 0"):
        select_C(LinearSVM(), X, y, grid)


def test_a_class_with_one_row_is_named():
    X, y = make_images(5)
    y[0] = 99
    LinearSVM().fit(X, y)  # fine without a choice
    with pytest.raises(DataError, match="class 99 has 1 training row"):
        select_C(LinearSVM(), X, y, GRID)


def test_the_default_grid_follows_the_scale_of_the_features():
    X, _ = make_images(30)
    assert len(default_grid(X)) == 7
    np.testing.assert_allclose(default_grid(10 * X), np.array(default_grid(X)) / 100)


def test_dropout_goes_through_the_choice():
    X, y = make_images(30)
    head = Softmax(dropout=0.5, random_state=1)
    results = fit_splits(head, X, y, draw_splits(y), GRID)
    assert all(result.choice.C in GRID for result in results)


def test_splits_on_several_threads_equal_splits_one_by_one():
    X, y = make_images(6)
    splits = [np.flatnonzero(np.arange(len(y)) % 5 != k) for k in range(5)]
    n_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = fit_splits(LinearSVM(), X, y, splits, GRID)
        torch.set_num_threads(4)
        together = fit_splits(LinearSVM(), X, y, splits, GRID)
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(n_threads)
    for one, other in zip(alone, together, strict=True):
        assert one.choice.C == other.choice.C
        np.testing.assert_array_equal(one.head.coef_, other.head.coef_)


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
