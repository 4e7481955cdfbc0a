"""Splits: what a class draws depends on the seed, its name and its paths alone."""

import os
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from cnnfeat.errors import CnnfeatWarning, SplitError
from cnnfeat.image_table import ImageTable
from cnnfeat.splits import (
    Split,
    draw_split,
    match_paths,
    read_splits,
    splits_to_csv,
    usable_rows,
)

NAMES = ("ant", "bee", "cat", "dog")


def listing(counts=(10, 12, 9, 11), names=NAMES):
    labels = np.repeat(np.arange(len(counts)), counts)
    paths = [f"{names[k]}/{i}.png" for i, k in enumerate(labels)]
    return labels, paths, names


def everything(labels):
    return np.ones(len(labels), dtype=bool)


def draw(labels, paths, names, usable=None, n=4, **options):
    usable = everything(labels) if usable is None else usable
    table = ImageTable("", paths, labels, names)
    return draw_split(table, usable=usable, train_per_class=n, **options)


def chosen(split, paths):
    return {paths[row] for row in split.train}, {paths[row] for row in split.test}


@settings(deadline=None, max_examples=40)
@given(
    counts=st.lists(st.integers(5, 20), min_size=2, max_size=4),
    n_test=st.one_of(st.none(), st.integers(1, 20)),
    seed=st.integers(0, 2**40),
)
def test_counts_and_disjointness(counts, n_test, seed):
    labels, paths, names = listing(counts)
    split = draw(labels, paths, names, test_per_class=n_test, seed=seed)
    assert not set(split.train) & set(split.test)
    assert np.bincount(labels[split.train]).tolist() == [4] * len(counts)
    expected = [min(n - 4, n_test or n) for n in counts]
    assert np.bincount(labels[split.test]).tolist() == expected
    for rows in (split.train, split.test):
        assert rows.dtype == np.int64
        assert np.all(np.diff(rows) > 0)


@settings(deadline=None, max_examples=30)
@given(order=st.permutations(range(42)), seed=st.integers(0, 5))
def test_the_order_of_rows_and_classes_does_not_matter(order, seed):
    labels, paths, names = listing()
    expected = chosen(draw(labels, paths, names, seed=seed), paths)
    order = np.array(order)
    shuffled = [paths[k] for k in order]
    renumbered = 3 - labels[order]
    split = draw(renumbered, shuffled, names[::-1], seed=seed)
    assert chosen(split, shuffled) == expected


def test_leaving_a_class_out_changes_nothing_for_the_others():
    labels, paths, names = listing()
    ok = everything(labels)
    train, test = chosen(draw(labels, paths, names), paths)
    without = usable_rows(ImageTable("", paths, labels, names, ok), exclude=["bee"])
    fewer = chosen(draw(labels, paths, names, without), paths)
    assert fewer == (
        {path for path in train if not path.startswith("bee")},
        {path for path in test if not path.startswith("bee")},
    )


def test_a_seed_gives_the_same_rows_on_every_machine():
    labels, paths, names = listing((6, 6), names=("ant", "bee"))
    split = draw(labels, paths, names, n=2, test_per_class=1, seed=7)
    for label, name in enumerate(("ant", "bee")):
        # As `printf '7\0ant\0ant/0.png' | sha256sum` and sort would have it.
        order = sorted(
            range(6 * label, 6 * label + 6),
            key=lambda row, name=name: sha256(
                f"7\0{name}\0{paths[row]}".encode()
            ).hexdigest(),
        )
        assert sorted(order[:2]) == split.train[2 * label : 2 * label + 2].tolist()
        assert order[2] == split.test[label]


def test_seeds_differ_and_small_draws_are_within_large_ones():
    labels, paths, names = listing()
    assert set(draw(labels, paths, names, seed=0).train) != set(
        draw(labels, paths, names, seed=1).train
    )
    assert set(draw(labels, paths, names, n=2).train) < set(
        draw(labels, paths, names, n=4).train
    )


def test_every_row_is_drawn_equally_often():
    labels, paths, names = listing((10, 10), names=("ant", "bee"))
    times = np.zeros(20)
    for seed in range(400):
        times[draw(labels, paths, names, seed=seed).train] += 1
    # Binomial with p = 0.4: five standard deviations are 49.
    assert np.abs(times - 160).max() < 49


def test_rows_that_are_not_usable_are_never_drawn_and_move_one_row_each():
    labels, paths, names = listing()
    labels[20] = -1
    ok = everything(labels)
    whole = draw(
        labels, paths, names, usable_rows(ImageTable("", paths, labels, names, ok))
    )
    failed = whole.train[0]
    ok[failed] = False
    split = draw(
        labels, paths, names, usable_rows(ImageTable("", paths, labels, names, ok))
    )
    both = np.concatenate([split.train, split.test])
    assert failed not in both
    assert 20 not in both
    assert len(set(whole.train) ^ set(split.train)) == 2


def test_small_classes_are_named_with_their_counts():
    labels, paths, names = listing((3, 12, 4, 11))
    with pytest.raises(
        SplitError, match=r"2 of 4 .* 5 usable .*: ant \(3\), cat \(4\);"
    ):
        draw(labels, paths, names)
    many = [f"c{k}" for k in range(9)]
    labels, paths, names = listing((2,) * 9, many)
    with pytest.raises(SplitError, match=r"c4 \(2\) and 4 more"):
        draw(labels, paths, names)


def test_labels_that_no_split_can_be_drawn_from():
    labels, paths, names = listing()
    with pytest.raises(SplitError, match="no image has a label"):
        draw(np.full(42, -1), paths, names)
    with pytest.raises(SplitError, match=r"at least two classes.*: ant"):
        draw(np.where(labels == 0, 0, -1), paths, names)
    with pytest.raises(SplitError, match=r"at least two classes.*none"):
        draw(labels, paths, names, ~everything(labels))
    with pytest.raises(SplitError, match="at least 1 training"):
        draw(labels, paths, names, n=0)


def test_an_unknown_class_to_leave_out_and_a_class_that_cannot_be_read():
    labels, paths, names = listing()
    table = ImageTable("", paths, labels, names, ok=labels != 2)
    with pytest.raises(SplitError, match=r"no class 'bea' to leave out; nearest: bee"):
        usable_rows(table, exclude=["bea"])
    with pytest.warns(CnnfeatWarning, match="1 classes are left out.*cat"):
        usable_rows(table, exclude=["ant"])


# -- the CSV ---------------------------------------------------------------------------


@pytest.mark.parametrize("n_splits", [1, 3])
def test_csv_round_trip(tmp_path, n_splits):
    labels, _, names = listing()
    paths = [f'{names[k]}/a, "b" é{i}.png' for i, k in enumerate(labels)]
    splits = [draw(labels, paths, names, seed=seed) for seed in range(n_splits)]
    csv_path = tmp_path / "splits.csv"
    csv_path.write_text(splits_to_csv(splits, paths), encoding="utf-8")
    for split, back in zip(splits, read_splits(csv_path, paths), strict=True):
        np.testing.assert_array_equal(split.train, back.train)
        np.testing.assert_array_equal(split.test, back.test)


def test_no_cell_of_a_csv_is_a_formula_and_paths_come_back(tmp_path):
    paths = ["=cmd/1.jpg", "-x", "'=y", "+1", "a=b", "@z"]
    split = Split(np.array([0, 2, 4]), np.array([1, 3, 5]))
    text = splits_to_csv([split], paths)
    for line in text.splitlines()[1:]:
        assert line[0] not in "=-@" or line.startswith("+1,")
    (tmp_path / "s.csv").write_text(text)
    (back,) = read_splits(tmp_path / "s.csv", paths)
    np.testing.assert_array_equal(back.train, split.train)
    np.testing.assert_array_equal(back.test, split.test)


def test_csv_by_hand(tmp_path):
    csv_path = tmp_path / "s.csv"
    csv_path.write_bytes("\ufeffsplit,path\r\ntest,b\r\ntrain,a\r\n".encode())
    (split,) = read_splits(csv_path, ["a", "b", "c"])
    assert (split.train.tolist(), split.test.tolist()) == ([0], [1])


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("path,part\na,train\n", "no column 'split'"),
        ("", "no column 'path'"),
        ("path,split\n", "names no images"),
        ("path,split\na,val\n", "line 2: split is 'val'"),
        ("path,split\na,train\na,test\n", "line 3: a is there twice"),
        ("path,split\na\n", "line 2: not 2 fields"),
        ("path,split\na,train,1\n", "line 2: not 2 fields"),
        ("path,split,split_index\na,train,x\n", "'x' is not a whole number"),
        ("path,split,split_index\na,train,-1\n", "'-1' is not a whole number from 0"),
        ("path,split,split_index\na,train,٣\n", "is not a whole number"),
        (f"path,split,split_index\na,train,{'9' * 5000}\n", "is not a whole number"),
        ("path,split\na,train\n" + "b" * 200_000 + ",test\n", "is not CSV: field"),
        ('path,split\n"a,train\n', "is not CSV"),
        ("path,split\nx,train\n", "1 of 1 images are not in the features: x"),
    ],
)
def test_csv_that_cannot_be_used(tmp_path, text, match):
    csv_path = tmp_path / "s.csv"
    csv_path.write_text(text)
    with pytest.raises(SplitError, match=match):
        read_splits(csv_path, ["a", "b"])


def test_csv_that_cannot_be_read(tmp_path):
    with pytest.raises(SplitError, match="there is no such file"):
        read_splits(tmp_path / "no.csv", [])
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(SplitError, match="is a pipe or a device"):
        read_splits(tmp_path / "pipe.csv", [])
    (tmp_path / "s.csv").write_bytes(b"path,split\n\xff,train\n")
    with pytest.raises(SplitError, match="is not UTF-8"):
        read_splits(tmp_path / "s.csv", [])


def test_missing_images_are_counted_and_five_are_named():
    wanted = [f"x{k}" for k in range(7)] + ["a"]
    with pytest.raises(SplitError, match=r"L: 7 of 8 .*: x0, x1, x2, x3, x4, …$"):
        match_paths(wanted, ["a"], "L")
    with pytest.raises(SplitError, match="a stands in two rows"):
        match_paths(["a"], ["a", "b", "a"], "L")
    assert match_paths(["b"], ["a", "b", "a"], "L").tolist() == [1]


def test_a_split_of_nothing_is_still_a_split():
    split = Split(np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert splits_to_csv([split], []) == "path,split\n"
