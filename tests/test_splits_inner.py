"""Folds inside the training rows: each row held out in turn, no class ever whole."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from test_splits import draw, listing

from cnnfeat.errors import SplitError
from cnnfeat.image_table import ImageTable
from cnnfeat.splits import inner_folds, inner_positions, inner_split, split_seed

COUNTS = st.lists(st.integers(1, 23), min_size=2, max_size=6)


def table_of(counts):
    names = [f"class{k}" for k in range(len(counts))]
    labels, paths, _ = listing(counts, names)
    return ImageTable("", paths, labels, names)


def n_held(table, folds):
    """How often each row is held out."""
    times = np.zeros(len(table), int)
    for fold in folds:
        times[fold.test] += 1
    return times


@settings(deadline=None, max_examples=60)
@given(COUNTS.filter(lambda counts: max(counts) > 1), st.integers(0, 9))
def test_each_row_is_held_out_equally_often_and_no_class_is_held_out_whole(
    counts, seed
):
    table = table_of(counts)
    rows = np.arange(len(table))
    folds = inner_folds(table, rows, seed=seed)
    for fold in folds:
        assert len(fold.test)
        np.testing.assert_array_equal(np.union1d(fold.train, fold.test), rows)
        assert not set(fold.train) & set(fold.test)
        assert set(table.labels[fold.train]) == set(range(len(counts)))
    n_repeats = min(10, -(-1500 // len(rows)))
    single = np.array(counts)[table.labels] == 1
    times = n_held(table, folds)
    assert (times[~single] == n_repeats).all() and (times[single] == 0).all()


def test_the_folds_of_one_division_are_stratified():
    table = table_of((15, 20, 7) * 15)
    folds = inner_folds(table, np.arange(len(table)))[:5]  # the first of three
    held = np.array([np.bincount(table.labels[fold.test]) for fold in folds])
    assert (held.max(0) - held.min(0) <= 1).all()
    sizes = held.sum(1)
    assert sizes.max() - sizes.min() < 30  # 126 each, if classes began at one fold: 45


@pytest.mark.parametrize(
    ("per_class", "n_classes", "n_folds"),
    [(5, 10, 50), (15, 10, 50), (15, 20, 25), (50, 10, 15), (30, 50, 5), (29, 102, 5)],
)
def test_few_rows_are_divided_several_times(per_class, n_classes, n_folds):
    table = table_of((per_class,) * n_classes)
    folds = inner_folds(table, np.arange(len(table)))
    assert len(folds) == n_folds
    assert len({fold.test.tobytes() for fold in folds}) == n_folds


def test_many_rows_are_held_out_once_a_sixth():
    table = table_of((30,) * 101)
    (fold,) = inner_folds(table, np.arange(len(table)))
    assert np.bincount(table.labels[fold.test]).tolist() == [5] * 101
    alone = inner_split(table, np.arange(len(table)))
    np.testing.assert_array_equal(fold.test, alone.test)


def test_a_protocols_own_division_is_taken():
    table = table_of((30, 30))
    (fold,) = inner_folds(table, np.arange(60), held_out=5)
    assert np.bincount(table.labels[fold.test]).tolist() == [5, 5]


def test_classes_of_equal_size_hold_out_different_places():
    table = ImageTable.from_labels(np.repeat(np.arange(8), 12))
    for folds in (
        [inner_split(table, np.arange(96))],
        inner_folds(table, np.arange(96))[:1],
    ):
        places = [
            folds[0].test[table.labels[folds[0].test] == k] % 12 for k in range(8)
        ]
        assert len({tuple(place) for place in places}) > 4


def test_leaving_a_class_out_changes_no_fold_of_the_others():
    table = table_of((9, 12, 9, 30))
    rows = np.arange(len(table))
    without = rows[table.labels != 1]
    for whole, fewer in zip(
        inner_folds(table, rows), inner_folds(table, without), strict=True
    ):
        kept = whole.test[table.labels[whole.test] != 1]
        np.testing.assert_array_equal(kept, fewer.test)


def test_positions_are_those_of_the_rows():
    table = table_of((8, 9, 10))
    rows = np.sort(np.random.default_rng(0).permutation(27)[:20])
    for at, fold in zip(
        inner_positions(table, rows, seed=3),
        inner_folds(table, rows, seed=3),
        strict=True,
    ):
        np.testing.assert_array_equal(rows[at.train], fold.train)
        np.testing.assert_array_equal(rows[at.test], fold.test)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1000), st.integers(5, 12), st.integers(3, 6))
def test_a_group_is_held_out_whole_and_no_class_with_it(seed, n_groups, n_classes):
    rng = np.random.default_rng(seed)
    table = table_of((20,) * n_classes)
    groups = rng.integers(n_groups, size=len(table))
    groups[:20] = 0  # one class is one group alone, and so is never held out
    rows = np.arange(len(table))
    for folds in (
        inner_folds(table, rows, groups=groups, seed=seed),
        inner_folds(table, rows, groups=groups, seed=seed, held_out=1 / 6),
    ):
        for fold in folds:
            assert not set(groups[fold.train]) & set(groups[fold.test])
            assert set(table.labels[fold.train]) == set(range(n_classes))
            assert 0 not in groups[fold.test]


def test_groups_are_spread_evenly_over_the_folds():
    table = table_of((50, 50))
    groups = np.arange(100) % 50 // 2  # 25 patients, two images of each class
    folds = inner_folds(table, np.arange(100), groups=groups)
    assert len(folds) == 50
    assert {tuple(np.bincount(table.labels[fold.test])) for fold in folds} == {(10, 10)}


@pytest.mark.parametrize(
    "change", [{}, {"groups": np.array(list("pq"))}, {"held_out": 1 / 6}]
)
def test_nothing_to_hold_out_is_told(change):
    with pytest.raises(SplitError, match=r"no class has two of them.*`C`"):
        inner_folds(table_of((1, 1)), np.arange(2), **change)


def test_classes_of_one_group_each_leave_nothing_to_hold_out():
    table = table_of((4, 4))
    with pytest.raises(SplitError, match="with groups: in two groups"):
        inner_folds(table, np.arange(8), groups=table.labels)


@pytest.mark.parametrize(
    ("n", "held_out", "expected"),
    [
        *((30, 1 / 6, 5), (50, 8, 8), (2, 5, 1)),
        *((15, 1 / 6, 3), (9, 1 / 6, 2), (8, 1 / 6, 1), (10, 0.25, 3)),
    ],
)
def test_the_inner_split_stays_inside_the_training_rows(n, held_out, expected):
    labels, paths, names = listing((60, 70))
    outer = draw(labels, paths, names, n=n)
    table = ImageTable("", paths, labels, names)
    inner = inner_split(table, outer.train, held_out=held_out)
    assert np.bincount(labels[inner.test]).tolist() == [expected] * 2
    together = np.concatenate([inner.train, inner.test])
    assert sorted(together.tolist()) == outer.train.tolist()


def test_a_class_with_one_row_keeps_it():
    table = ImageTable("", ("a/0", "b/0", "b/1"), np.array([0, 1, 1]), ("a", "b"))
    inner = inner_split(table, np.arange(3))
    assert np.bincount(table.labels[inner.train]).tolist() == [1, 1]
    with pytest.raises(SplitError, match=r"no class has two of them.*`C`"):
        inner_split(table, np.array([0, 1]))


def test_no_split_of_one_seed_is_one_of_another():
    seeds = [split_seed(seed, index) for seed in range(50) for index in range(10)]
    assert len(set(seeds)) == len(seeds)
    assert [split_seed(seed, 0) for seed in (0, 7, 2**40)] == [0, 7, 2**40]
    assert max(split_seed(seed, 1) for seed in range(50)) < 2**31


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.integers(0, 5), st.integers(0, 5))
def test_splits_of_neighbouring_seeds_share_no_draw(seed, i, j):
    labels, paths, names = listing((40, 40))
    one = draw(labels, paths, names, n=20, seed=split_seed(seed, i))
    other = draw(labels, paths, names, n=20, seed=split_seed(seed + 1, j))
    assert set(one.train) != set(other.train)
