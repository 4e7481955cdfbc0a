"""Learning curves have one test set; a draw does not know which folder was listed."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from cnnfeat.benchmark import DrawOptions, draw_split_sets
from cnnfeat.errors import SplitError
from cnnfeat.image_table import ImageTable
from cnnfeat.splits import draw_share, draw_split, first_of_classes, smaller_split

NAMES = ("ant", "bee", "moth/night")


def make_table(folder="", n=12, groups=None):
    paths = tuple(f"{folder}{name}/{k:02}.jpg" for name in NAMES for k in range(n))
    labels = np.repeat(np.arange(len(NAMES)), n).astype(np.int32)
    ok = np.ones(len(paths), dtype=bool)
    table = ImageTable("/data", paths, labels, NAMES, ok)
    if groups is None:
        return table
    named = np.array([f"patient {number}" for number in groups], dtype=object)
    return replace(table, columns={"patient": named}).grouped_by("patient")


def drawn(table, n_train=5, seed=0):
    usable = np.ones(len(table), dtype=bool)
    return draw_split(table, usable=usable, train_per_class=n_train, seed=seed)


def same(one, other):
    return np.array_equal(one.train, other.train) and np.array_equal(
        one.test, other.test
    )


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.sampled_from(["data", "2013", "animals", "moth"]), max_size=3),
    st.integers(0, 99),
)
def test_the_folder_that_was_listed_does_not_matter(above, seed):
    folder = "".join(f"{name}/" for name in above)
    assert same(drawn(make_table(folder), seed=seed), drawn(make_table(), seed=seed))


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(["", "photos/", "a/b/"]), st.integers(0, 99))
def test_images_without_class_folders_count_from_the_one_they_share(folder, seed):
    def listed(folder):
        table = make_table()
        paths = [f"{folder}{k % 3}/{k}.jpg" for k in range(len(table))]
        return ImageTable("/data", tuple(paths), table.labels, NAMES, table.ok)

    assert same(drawn(listed(folder), seed=seed), drawn(listed("x/"), seed=seed))


def test_images_of_one_name_in_two_folders_of_a_class_are_drawn_apart():
    paths = [f"{site}/ant/{k}.jpg" for site in ("a", "b") for k in range(20)]
    labels = np.zeros(41, np.int32)
    labels[-1] = 1
    paths = (*paths, "a/bee/0.jpg")
    table = ImageTable("/data", paths, labels, NAMES, np.ones(41, dtype=bool))
    usable = np.arange(41) < 41
    rows = first_of_classes(table, usable=usable, n=10, seed=0)
    names = [paths[row].rsplit("/")[-1] for row in rows if row < 40]
    # Drawn by their names alone, two of each would be drawn.
    assert len(names) == 10 and len(set(names)) > 5


def test_first_splits_of_class_folders_are_those_of_before():
    # The key of 01.jpg in the class ant is still that of "ant/01.jpg".
    split = drawn(make_table(n=6), n_train=2)
    assert split.train.tolist() == [3, 4, 8, 11, 12, 17]


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=4, unique=True),
    st.sampled_from([None, 2]),
    st.booleans(),
    st.integers(0, 9),
)
def test_a_learning_curve_has_one_test_set_and_nested_training_sets(
    sizes, test_per_class, in_groups, seed
):
    groups = np.arange(36) // 2 if in_groups else None
    table = make_table(groups=groups)
    draw = DrawOptions(
        protocol="folder",
        train_sizes=tuple(sizes),
        test_per_class=test_per_class,
        n_splits=2,
        seed=seed,
    )
    sets = draw_split_sets(table, np.ones(len(table), dtype=bool), draw)
    assert [one.train_per_class for one in sets] == sorted(sizes)
    for small, large in pairwise(sets):
        for one, other in zip(small.splits, large.splits, strict=True):
            np.testing.assert_array_equal(one.test, other.test)
            assert set(one.train) < set(other.train)
            counts = np.bincount(table.labels[one.train])
            assert (counts == small.train_per_class).all()


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 8), st.integers(0, 99))
def test_the_smaller_training_set_is_the_one_drawn_at_its_size(size, seed):
    table = make_table()
    smaller = smaller_split(table, drawn(table, 8, seed), size, seed)
    np.testing.assert_array_equal(smaller.train, drawn(table, size, seed).train)
    with pytest.raises(SplitError, match="at least 1 training image"):
        smaller_split(table, drawn(table, 8, seed), 0, seed)


@pytest.mark.parametrize(
    ("n", "share", "expected"),
    [(10, 0.25, 3), (6, 0.25, 2), (10, 0.05, 1), (5, 0.5, 3)],
)
def test_a_share_that_is_half_an_image_is_rounded_up(n, share, expected):
    table = make_table(n=n)
    usable = np.ones(len(table), dtype=bool)
    split = draw_share(table, usable=usable, share=share)
    assert np.bincount(table.labels[split.test]).tolist() == [expected] * 3
