"""Shares, folds and groups: each row where it belongs, no group on both sides."""

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from cnnfeat.errors import CnnfeatWarning, DataError, OptionError, SplitError
from cnnfeat.image_table import ImageTable
from cnnfeat.splits import (
    RowOptions,
    Split,
    choose_split,
    draw_folds,
    draw_share,
    draw_split,
    inner_split,
    splits_to_csv,
)


def made_table(counts, patients=None):
    """Classes a, b, …; `patients` gives each image's group, "" for none."""
    labels = np.repeat(np.arange(len(counts)), counts)
    names = [chr(97 + k) for k in range(len(counts))]
    paths = [f"{names[k]}/{row}.png" for row, k in enumerate(labels)]
    columns = {}
    if patients is not None:
        columns["patient"] = np.array(patients, dtype=object)
    return ImageTable("", paths, labels, names, columns=columns)


def everything(table):
    return np.ones(len(table), dtype=bool)


def named(split, table):
    return tuple(
        {table.paths[row] for row in part} for part in (split.train, split.test)
    )


COUNTS = st.lists(st.integers(2, 25), min_size=2, max_size=5)


@given(counts=COUNTS, share=st.floats(0.05, 0.95), seed=st.integers(0, 99))
def test_a_share_of_each_class_is_held_out_and_the_rest_trained_on(counts, share, seed):
    table = made_table(counts)
    split = draw_share(table, usable=everything(table), share=share, seed=seed)
    expected = [min(max(math.floor(n * share + 0.5), 1), n - 1) for n in counts]
    assert np.bincount(table.labels[split.test]).tolist() == expected
    both = np.concatenate([split.train, split.test])
    assert sorted(both.tolist()) == list(range(len(table)))


@given(
    counts=st.lists(st.integers(4, 25), min_size=2, max_size=5),
    n_folds=st.integers(2, 4),
    seed=st.integers(0, 99),
)
def test_folds_test_each_row_once_and_spread_every_class(counts, n_folds, seed):
    table = made_table(counts)
    usable = everything(table)
    usable[0] = counts[0] <= n_folds
    folds = draw_folds(table, usable=usable, n_folds=n_folds, seed=seed)
    tested = np.concatenate([fold.test for fold in folds])
    assert sorted(tested.tolist()) == np.flatnonzero(usable).tolist()
    for fold in folds:
        both = np.concatenate([fold.train, fold.test])
        assert sorted(both.tolist()) == np.flatnonzero(usable).tolist()
    sizes = np.array([np.bincount(table.labels[fold.test]) for fold in folds])
    assert np.all(np.ptp(sizes, axis=0) <= 1)
    assert sizes.min() > 0


def test_a_class_s_share_and_folds_depend_on_its_own_images_alone():
    table = made_table((9, 12, 10))
    fewer = table.take(table.labels != 1)
    share = named(draw_share(table, usable=everything(table), share=0.3), table)
    alone = named(draw_share(fewer, usable=everything(fewer), share=0.3), fewer)
    assert alone == tuple({p for p in part if p[0] != "b"} for part in share)
    folds = draw_folds(table, usable=everything(table), n_folds=3)
    kept = draw_folds(fewer, usable=everything(fewer), n_folds=3)
    for whole, part in zip(folds, kept, strict=True):
        assert named(part, fewer)[1] == {
            p for p in named(whole, table)[1] if p[0] != "b"
        }


def test_seeds_differ():
    table = made_table((20, 20))
    for draw in (
        lambda seed: draw_share(table, usable=everything(table), share=0.5, seed=seed),
        lambda seed: draw_folds(table, usable=everything(table), n_folds=2, seed=seed)[
            0
        ],
    ):
        assert draw(0).test.tolist() != draw(1).test.tolist()


DRAWS = {
    "split": lambda table, **more: draw_split(
        table, usable=everything(table), train_per_class=4, **more
    ),
    "share": lambda table, **more: draw_share(
        table, usable=everything(table), share=0.2, **more
    ),
    "folds": lambda table, **more: draw_folds(
        table, usable=everything(table), n_folds=4, **more
    )[0],
}


@pytest.mark.parametrize(
    ("name", "n", "words"),
    [
        (
            "split",
            4,
            r"1 of 3 classes have fewer than 5 usable images .*: b \(4\); "
            r"lower `train_per_class`, or leave them out with `skip_small`",
        ),
        (
            "share",
            1,
            r"1 of 3 classes have fewer than 2 usable images .*: b \(1\); "
            r"`test_share=0` holds none out, or .* `skip_small`",
        ),
        (
            "folds",
            3,
            r"1 of 3 classes have fewer than 4 usable images, one for each "
            r"fold: b \(3\); lower `n_folds`, or .* `skip_small`",
        ),
    ],
)
def test_a_class_too_small_is_refused_or_left_out_by_name(name, n, words):
    table = made_table((9, n, 9))
    with pytest.raises(SplitError, match=words):
        DRAWS[name](table)
    with pytest.warns(CnnfeatWarning, match=rf"left out: b \({n}\)$"):
        split = DRAWS[name](table, skip_small=True)
    fewer = table.take(table.labels != 1)
    assert named(split, table) == named(DRAWS[name](fewer), fewer)


def test_no_two_classes_left_are_refused():
    table = made_table((9, 1))
    for draw in DRAWS.values():
        with (
            pytest.warns(CnnfeatWarning, match="left out"),
            pytest.raises(SplitError, match=r"at least two classes .*: a"),
        ):
            draw(table, skip_small=True)


# -- groups ----------------------------------------------------------------------------


@st.composite
def grouped_tables(draw):
    """Three classes of images of twelve patients, who may be of several classes."""
    counts = draw(st.lists(st.integers(10, 30), min_size=3, max_size=3))
    patient = st.integers(0, 11).map(str)
    patients = [draw(patient) for _ in range(sum(counts))]
    return made_table(counts, patients).grouped_by("patient")


@given(
    table=grouped_tables(), seed=st.integers(0, 9), name=st.sampled_from(list(DRAWS))
)
def test_no_group_is_on_both_sides(table, seed, name):
    try:
        split = DRAWS[name](table, seed=seed)
    except SplitError as error:
        assert "group" in str(error)
        return
    groups = table.groups
    assert not set(groups[split.train]) & set(groups[split.test])
    if name != "folds":
        for part in (split.train, split.test):
            assert set(table.labels[part]) == {0, 1, 2}
    try:
        inner = inner_split(table, split.train, seed=seed)
    except SplitError as error:
        assert "in two groups" in str(error)
        return
    assert not set(groups[inner.train]) & set(groups[inner.test])
    assert sorted([*inner.train, *inner.test]) == split.train.tolist()
    assert set(table.labels[inner.train]) == set(table.labels[split.train])


@given(table=grouped_tables(), seed=st.integers(0, 9))
def test_grouped_folds_test_each_row_once(table, seed):
    try:
        folds = draw_folds(table, usable=everything(table), n_folds=3, seed=seed)
    except SplitError:
        return
    tested = np.concatenate([fold.test for fold in folds])
    assert sorted(tested.tolist()) == list(range(len(table)))


def test_shares_and_folds_of_equal_groups_are_exact():
    patients = [f"p{row // 4}" for row in range(80)]  # ten a class, of four images
    table = made_table((40, 40), patients).grouped_by("patient")
    for seed in range(5):
        split = draw_share(table, usable=everything(table), share=0.2, seed=seed)
        assert np.bincount(table.labels[split.test]).tolist() == [8, 8]
        folds = draw_folds(table, usable=everything(table), n_folds=5, seed=seed)
        for fold in folds:
            assert np.bincount(table.labels[fold.test]).tolist() == [8, 8]


def test_plates_with_every_class_are_divided_whole():
    patients = [f"plate{row % 4}" for row in range(40)]
    table = made_table((20, 20), patients).grouped_by("patient")
    split = draw_split(table, usable=everything(table), train_per_class=8)
    # Two plates give ten a class, of which eight are asked for; two are for the test.
    assert np.bincount(table.labels[split.train]).tolist() == [8, 8]
    assert np.bincount(table.labels[split.test]).tolist() == [10, 10]


def test_a_class_of_one_group_is_too_small():
    patients = ["x"] * 6 + [str(row) for row in range(12)]
    table = made_table((6, 6, 6), patients).grouped_by("patient")
    with pytest.raises(SplitError, match=r"groups of their own: a \(6\)"):
        draw_share(table, usable=everything(table), share=0.2)
    with pytest.warns(CnnfeatWarning, match=r"left out: a \(6\)"):
        split = draw_share(table, usable=everything(table), share=0.2, skip_small=True)
    assert 0 not in table.labels[np.concatenate([split.train, split.test])]


def test_images_without_a_value_are_groups_of_their_own():
    table = made_table((3, 3), ["", "", "p", "p", "q", ""])
    groups = table.grouped_by("patient").groups
    assert len(set(groups.tolist())) == 5
    assert groups[2] == groups[3]
    assert table.grouped_by(None).groups is None


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(DataError, match="no column 'patients': there are patient"):
        made_table((1, 1), ["a", "b"]).grouped_by("patients")
    with pytest.raises(DataError, match="no column 'plate': there are none"):
        made_table((1, 1)).grouped_by("plate")


# -- one split, as a head asks for it --------------------------------------------------


def test_a_fifth_is_held_out_where_nothing_is_asked():
    table = made_table((10, 20))
    split = choose_split(table, RowOptions())
    assert np.bincount(table.labels[split.test]).tolist() == [2, 4]
    all_rows = choose_split(table, RowOptions(test_share=0))
    assert (len(all_rows.train), len(all_rows.test)) == (30, 0)
    drawn = choose_split(table, RowOptions(train_per_class=3, test_per_class=2))
    assert (len(drawn.train), len(drawn.test)) == (6, 4)


def test_a_file_of_splits_names_the_rows(tmp_path):
    table = made_table((4, 4), ["p", "p", "q", "q", "p", "p", "q", "q"])
    splits = [
        Split(np.array([0, 4]), np.array([2, 6])),
        Split(np.array([0, 4]), np.array([1, 5])),
    ]
    path = tmp_path / "s.csv"
    path.write_text(splits_to_csv(splits, table.paths))
    asked = RowOptions(splits_file=str(path), split_index=1)
    assert choose_split(table, asked).test.tolist() == [1, 5]
    with pytest.raises(SplitError, match=r"`split_index=2`: .* has 2 splits"):
        choose_split(table, RowOptions(splits_file=str(path), split_index=2))
    grouped = table.grouped_by("patient")
    assert choose_split(grouped, RowOptions(splits_file=str(path))).test.tolist() == [
        2,
        6,
    ]
    with pytest.raises(SplitError, match=r"2 of 2 test images belong to groups"):
        choose_split(grouped, asked)
    with pytest.warns(CnnfeatWarning, match="1 rows of the given splits are left out"):
        left = choose_split(_without(table, 5), asked)
    assert left.test.tolist() == [1]


def _without(table, row):
    ok = everything(table)
    ok[row] = False
    return ImageTable("", table.paths, table.labels, table.class_names, ok)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"splits_file": "s.csv", "test_share": 0.2}, "`splits_file` .*`test_share`"),
        ({"splits_file": "s.csv", "train_per_class": 2}, "`train_per_class` does not"),
        ({"test_share": 0.2, "train_per_class": 2}, "`test_share` .*`train_per"),
        ({"test_per_class": 2}, "give both"),
    ],
)
def test_options_that_contradict_each_other(options, words):
    with pytest.raises(OptionError, match=words):
        RowOptions(**options).check_rows()
