"""Protocols: the table of the design, rows as published, deviations said aloud."""

import dataclasses
import warnings

import numpy as np
import pytest

from cnnfeat.errors import CnnfeatWarning, OptionError, SplitError
from cnnfeat.image_table import ImageTable
from cnnfeat.protocols import (
    PROTOCOLS,
    Draw,
    get_protocol,
    protocol_splits,
    read_published_splits,
)
from cnnfeat.splits import split_seed

BACKGROUND = "BACKGROUND_Google"


def listing(counts):
    """Class names, labels and paths of made-up class folders."""
    names = tuple(counts)
    labels = np.repeat(np.arange(len(names)), list(counts.values()))
    paths = [f"{names[k]}/image_{i:04}.jpg" for i, k in enumerate(labels)]
    return labels, paths, names, np.ones(len(labels), dtype=bool)


def splits_of(protocol, labels, paths, names, usable, **draw):
    table = ImageTable("", paths, labels, names)
    return protocol_splits(protocol, table, Draw(**draw), usable=usable)


def caltech101_counts(background=True):
    """As many classes and images as the official ones, the smallest class 31."""
    counts = {f"class{k:03}": 86 for k in range(99)}
    counts["inline_skate"] = 31
    counts["Faces"] = 8677 - 99 * 86 - 31
    return {BACKGROUND: 467, **counts} if background else counts


@pytest.fixture
def quiet():
    """No warning is expected: one would be an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# -- the table -------------------------------------------------------------------------


def test_the_table_of_the_design():
    assert list(PROTOCOLS) == [
        "caltech101-decaf",
        "caltech101-zf",
        "caltech101",
        "caltech256-zf",
        "sun397",
        "mit67",
        "cub200",
        "flowers102",
        "office31",
        "office31-dslr",
        "scene15",
        "folder",
    ]
    columns = {
        name: (p.n_classes, p.train_sizes, p.test_per_class, p.n_splits)
        for name, p in PROTOCOLS.items()
    }
    assert columns["caltech101-decaf"] == (102, (30,), None, 5)
    assert columns["caltech101-zf"] == (102, (15, 30), 50, 5)
    assert columns["caltech101"] == (101, (30,), 50, 5)
    assert columns["caltech256-zf"] == (256, (15, 30, 45, 60), 50, 5)
    assert columns["sun397"] == (397, (50,), 50, 10)
    assert columns["scene15"] == (15, (100,), None, 10)
    assert PROTOCOLS["caltech101-decaf"].inner_held_out(30) == 5
    assert PROTOCOLS["caltech101-decaf"].inner_held_out(15) is None
    assert PROTOCOLS["sun397"].inner_held_out(50) == 8
    assert PROTOCOLS["caltech101"].inner_held_out(30) is None
    assert PROTOCOLS["cub200"].metric == "accuracy"


@pytest.mark.parametrize(
    ("protocol", "layer", "head", "percent", "accuracy", "std"),
    [
        ("caltech101-decaf", "6", "svm with dropout", "86.91 ± 0.7", 0.8691, 0.007),
        ("caltech101-decaf", "6", "softmax", "84.30 ± 1.6", 0.843, 0.016),
        ("caltech101-decaf", "5", "softmax", "63.29 ± 6.6", 0.6329, 0.066),
        ("caltech101-decaf", "7", "svm with dropout", "85.51 ± 0.9", 0.8551, 0.009),
        ("caltech101-zf", "1", "svm", "44.8 ± 0.7", 0.448, 0.007),
        ("caltech101-zf", "7", "softmax", "85.4 ± 0.4", 0.854, 0.004),
        ("caltech256-zf", "7", "softmax", "72.6 ± 0.1", 0.726, 0.001),
        ("caltech256-zf", "4", "svm", "51.3 ± 0.1", 0.513, 0.001),
        ("sun397", "6", "softmax", "40.94 ± 0.3", 0.4094, 0.003),
        ("mit67", "first fully connected", "svm", "58.44", 0.5844, None),
        ("cub200", "6", "softmax", "58.75", 0.5875, None),
        ("flowers102", "first fully connected", "svm", "74.7", 0.747, None),
        ("office31", "6", "svm", "80.66 ± 2.3", 0.8066, 0.023),
        ("office31-dslr", "7", "softmax", "91.91 ± 2.0", 0.9191, 0.02),
    ],
)
def test_published_numbers(protocol, layer, head, percent, accuracy, std):
    (result,) = (
        found
        for found in PROTOCOLS[protocol].published
        if (found.layer, found.head) == (layer, head)
    )
    assert result.percent == percent
    assert result.accuracy == pytest.approx(accuracy)
    assert result.std == (None if std is None else pytest.approx(std))
    assert result.source.startswith(("DeCAF", "ZF", "Razavian"))


@pytest.mark.parametrize(
    ("protocol", "layer", "percents"),
    [
        ("caltech101-zf", "whole network", ["83.8 ± 0.5", "86.5 ± 0.5"]),
        (
            "caltech256-zf",
            "whole network",
            ["65.7 ± 0.2", "70.6 ± 0.2", "72.7 ± 0.4", "74.2 ± 0.3"],
        ),
        (
            "caltech256-zf",
            "whole network, not pretrained",
            ["9.0", "22.5", "31.2", "38.8"],
        ),
    ],
)
def test_zf_s_own_headline_has_a_number_for_every_training_size(
    protocol, layer, percents
):
    found = get_protocol(protocol)
    rows = [one for one in found.published if one.layer == layer]
    assert [one.percent for one in rows] == percents
    assert tuple(one.train_per_class for one in rows) == found.train_sizes


def test_an_unknown_protocol_is_answered_with_names():
    assert get_protocol("folder").name == "folder"
    with pytest.raises(OptionError, match=r"'caltech-101'; nearest: caltech101"):
        get_protocol("caltech-101")
    with pytest.raises(OptionError, match=r"nearest: .*scene15, folder"):
        get_protocol("xyz")


# -- random splits ---------------------------------------------------------------------


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("name", "n_classes", "n_test"),
    [
        ("caltech101-decaf", 102, 9144 - 3060),
        ("caltech101-zf", 102, 101 * 50 + 1),
        ("caltech101", 101, 100 * 50 + 1),
    ],
)
def test_caltech101_has_the_rows_that_its_protocols_say(name, n_classes, n_test):
    labels, paths, names, usable = listing(caltech101_counts())
    splits = splits_of(PROTOCOLS[name], labels, paths, names, usable)
    assert len(splits) == 5
    for split in splits:
        classes, counts = np.unique(labels[split.train], return_counts=True)
        assert (len(classes), set(counts)) == (n_classes, {30})
        assert len(split.test) == n_test
    assert len({tuple(split.train) for split in splits}) == 5


@pytest.mark.usefixtures("quiet")
def test_sizes_can_be_given_and_a_split_alone_has_its_own_seed():
    labels, paths, names, usable = listing(caltech101_counts())
    zf = PROTOCOLS["caltech101-zf"]
    small = splits_of(
        zf, labels, paths, names, usable, train_per_class=15, n_splits=2, seed=3
    )
    (other,) = splits_of(
        zf,
        labels,
        paths,
        names,
        usable,
        train_per_class=15,
        n_splits=1,
        seed=split_seed(3, 1),
    )
    assert len(small) == 2
    np.testing.assert_array_equal(small[1].train, other.train)
    assert len(other.train) == 15 * 102


def test_a_missing_background_class_is_said():
    labels, paths, names, usable = listing(caltech101_counts(background=False))
    with pytest.warns(CnnfeatWarning) as warned:
        splits_of(
            PROTOCOLS["caltech101-decaf"], labels, paths, names, usable, n_splits=1
        )
    messages = [str(warning.message) for warning in warned]
    assert len(messages) == 3
    assert f"the class {BACKGROUND}, which is missing" in messages[0]
    assert "has 102 classes; here are 101" in messages[1]
    assert "has 9,144 images; here are 8,677" in messages[2]


def test_other_image_counts_are_said():
    labels, paths, names, usable = listing(caltech101_counts())
    usable[5000] = False
    with pytest.warns(CnnfeatWarning, match=r"9,144 images; here are 9,143"):
        splits_of(PROTOCOLS["caltech101-zf"], labels, paths, names, usable, n_splits=1)


def test_another_data_set_is_refused():
    labels, paths, names, usable = listing({"ant": 40, "bee": 40, "cat": 40})
    with pytest.raises(SplitError, match=r"has 101 classes, and here are 3.*folder"):
        splits_of(PROTOCOLS["caltech101"], labels, paths, names, usable)


@pytest.mark.filterwarnings("ignore::cnnfeat.errors.CnnfeatWarning")
def test_too_few_images_in_a_class_are_named():
    counts = caltech101_counts()
    counts["inline_skate"] = 30
    labels, paths, names, usable = listing(counts)
    with pytest.raises(SplitError, match=r"inline_skate \(30\)"):
        splits_of(PROTOCOLS["caltech101"], labels, paths, names, usable)


@pytest.mark.usefixtures("quiet")
def test_any_folder_with_the_sizes_given():
    labels, paths, names, usable = listing({"ant": 10, "bee": 12})
    folder = PROTOCOLS["folder"]
    splits = splits_of(
        folder, labels, paths, names, usable, train_per_class=4, test_per_class=3
    )
    assert [len(split.test) for split in splits] == [6] * 5
    splits = splits_of(folder, labels, paths, names, usable)  # a fifth of each class
    assert [len(split.test) for split in splits] == [4] * 5
    folds = splits_of(folder, labels, paths, names, usable, n_folds=4)
    assert [len(fold.train) + len(fold.test) for fold in folds] == [22] * 4
    caltech = PROTOCOLS["caltech101"]
    for own in ({"test_share": 0.3}, {"n_folds": 3}):
        with pytest.raises(OptionError, match="goes with `protocol=folder`"):
            splits_of(caltech, labels, paths, names, usable, **own)
    with pytest.raises(OptionError, match="at least 1 split"):
        splits_of(folder, labels, paths, names, usable, train_per_class=4, n_splits=0)


# -- published lists -------------------------------------------------------------------

SMALL = {"abbey": 6, "alley": 6, "attic": 6}


def small(name, **changes):
    """The protocol on three classes of six."""
    return dataclasses.replace(PROTOCOLS[name], n_classes=3, n_images=18, **changes)


def write_sun397(folder, paths, partitions=10):
    for index in range(1, partitions + 1):
        lines = [f"/{path[0]}/{path}" for path in np.roll(paths, index)]
        (folder / f"Training_{index:02}.txt").write_text("\n".join(lines[:9]) + "\n")
        (folder / f"Testing_{index:02}.txt").write_text("\r\n".join(lines[9:]) + "\r\n")


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("root", ["", "a/", "/SUN397/a/"])
def test_sun397_partitions_from_any_folder(tmp_path, root):
    labels, paths, names, usable = listing(SMALL)
    write_sun397(tmp_path, paths)
    stored = [f"{root}{path}".lstrip("/") for path in paths]
    splits = splits_of(
        small("sun397"), labels, stored, names, usable, lists_dir=tmp_path
    )
    assert len(splits) == 10
    for index, split in enumerate(splits, 1):
        rolled = np.roll(np.arange(18), index)
        assert split.train.tolist() == sorted(rolled[:9])
        assert split.test.tolist() == sorted(rolled[9:])


@pytest.mark.usefixtures("quiet")
def test_sun397_without_lists_is_drawn_five_times_as_in_decaf():
    labels, paths, names, usable = listing(SMALL)
    protocol = small("sun397", train_sizes=(3,), test_per_class=2)
    splits = splits_of(protocol, labels, paths, names, usable)
    assert [(len(split.train), len(split.test)) for split in splits] == [(9, 6)] * 5


def test_fewer_partitions_than_published_are_said(tmp_path):
    labels, paths, names, usable = listing(SMALL)
    write_sun397(tmp_path, paths, partitions=2)
    with pytest.warns(CnnfeatWarning, match="10 published splits .* here are 2"):
        splits = splits_of(
            small("sun397"), labels, paths, names, usable, lists_dir=tmp_path
        )
    assert len(splits) == 2


@pytest.mark.parametrize("root", ["", "Images/"])
def test_mit67_lists_and_a_listed_image_without_features(tmp_path, root):
    labels, paths, names, usable = listing(SMALL)
    (tmp_path / "TrainImages.txt").write_text("\n".join(paths[::2]))
    (tmp_path / "TestImages.txt").write_text("\n".join(paths[1::2]))
    usable[[0, 1, 3]] = False
    stored = [root + path for path in paths]
    with pytest.warns(CnnfeatWarning) as warned:
        (split,) = splits_of(
            small("mit67"), labels, stored, names, usable, lists_dir=tmp_path
        )
    assert "3 images of the published list are left out" in str(warned[-1].message)
    assert split.train.tolist() == list(range(2, 18, 2))
    assert split.test.tolist() == list(range(5, 18, 2))


@pytest.mark.usefixtures("quiet")
def test_cub200_list(tmp_path):
    labels, paths, names, usable = listing(SMALL)
    numbers = range(1, 19)
    (tmp_path / "images.txt").write_text(
        "".join(f"{n} {path}\n" for n, path in zip(numbers, paths, strict=True))
    )
    (tmp_path / "train_test_split.txt").write_text(
        "".join(f"{n} {int(n % 3 == 0)}\n" for n in reversed(numbers))
    )
    order = np.random.default_rng(0).permutation(18)
    (split,) = splits_of(
        small("cub200"),
        labels[order],
        [paths[k] for k in order],
        names,
        usable,
        lists_dir=tmp_path,
    )
    assert sorted(order[split.train]) == [2, 5, 8, 11, 14, 17]
    assert len(split.test) == 12


def test_lists_that_are_needed_and_not_given(tmp_path):
    labels, paths, names, usable = listing(SMALL)
    with pytest.raises(OptionError, match=r"mit67 needs the published .*`lists_dir`"):
        splits_of(small("mit67"), labels, paths, names, usable)
    with pytest.raises(SplitError, match=r"TrainImages.txt: .* there is no such file"):
        splits_of(small("mit67"), labels, paths, names, usable, lists_dir=tmp_path)
    with pytest.raises(OptionError, match=r"do not go with `lists_dir`"):
        splits_of(
            small("mit67"),
            labels,
            paths,
            names,
            usable,
            lists_dir=tmp_path,
            train_per_class=3,
        )


@pytest.mark.parametrize(
    ("train", "test", "match"),
    [
        ("a/1.jpg\n", "a/1.jpg\n", "a/1.jpg is both in training and in test"),
        ("a/1.jpg\na/1.jpg\n", "b/1.jpg\n", "listed twice|two rows"),
        ("a/1.jpg\n", "\n", "TestImages.txt is empty"),
        (
            "a/1.jpg\n" + "".join(f"c/{k}.jpg\n" for k in range(7)),
            "b/1.jpg\n",
            r"7 of 9 .*: c/0.jpg, c/1.jpg, c/2.jpg, c/3.jpg, c/4.jpg, …$",
        ),
    ],
)
def test_lists_that_do_not_fit(tmp_path, train, test, match):
    (tmp_path / "TrainImages.txt").write_text(train)
    (tmp_path / "TestImages.txt").write_text(test)
    with pytest.raises(SplitError, match=match):
        read_published_splits("mit67", tmp_path, ["a/1.jpg", "b/1.jpg"])


@pytest.mark.parametrize(
    ("images", "sides", "match"),
    [
        ("1 a.jpg\n", "2 1\n", "image 1 is only in one"),
        ("1 a.jpg\n", "1 2\n", "image 1 has '2', not 0 or 1"),
        ("a.jpg\n", "1 1\n", "expected a number and a value, found 'a.jpg'"),
    ],
)
def test_cub200_lists_that_are_damaged(tmp_path, images, sides, match):
    (tmp_path / "images.txt").write_text(images)
    (tmp_path / "train_test_split.txt").write_text(sides)
    with pytest.raises(SplitError, match=match):
        read_published_splits("cub200", tmp_path, ["a.jpg"])


def test_names_that_repeat_in_every_class_are_not_mixed_up(tmp_path):
    """`1.jpg` stands in both folders: the file name alone decides nothing."""
    (tmp_path / "TrainImages.txt").write_text("a/1.jpg\n")
    (tmp_path / "TestImages.txt").write_text("b/1.jpg\n")
    (split,) = read_published_splits("mit67", tmp_path, ["x/b/1.jpg", "x/a/1.jpg"])
    assert (split.train.tolist(), split.test.tolist()) == ([1], [0])
    with pytest.raises(SplitError, match="2 of 2"):
        read_published_splits("mit67", tmp_path, ["c/1.jpg", "d/1.jpg"])


# -- the real thing --------------------------------------------------------------------


@pytest.mark.images
@pytest.mark.usefixtures("quiet")
def test_the_official_caltech101_meets_its_protocols_without_a_warning(caltech101_dir):
    folders = sorted(path for path in caltech101_dir.iterdir() if path.is_dir())
    counts = {path.name: len(list(path.glob("*.jpg"))) for path in folders}
    labels, paths, names, usable = listing(counts)
    for name, n_classes in (
        ("caltech101-decaf", 102),
        ("caltech101-zf", 102),
        ("caltech101", 101),
    ):
        splits = splits_of(PROTOCOLS[name], labels, paths, names, usable)
        assert {len(split.train) for split in splits} == {30 * n_classes}
    decaf, *_ = splits_of(PROTOCOLS["caltech101-decaf"], labels, paths, names, usable)
    # With background, five classes make up 46 % of the test images: why plain and
    # mean per-class accuracy are different numbers.
    largest = np.sort(np.bincount(labels[decaf.test]))[-5:]
    assert largest.sum() / len(decaf.test) == pytest.approx(0.46, abs=0.02)
