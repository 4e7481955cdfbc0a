"""Drawing the rows to train on and to test on: counted, by share, or fold by fold.

All three take a class's images in the order that `shuffled_classes` gives them, and all
keep groups whole where the table has them.
"""

import warnings
from dataclasses import dataclass

import numpy as np

from cnnfeat.errors import CnnfeatWarning, SplitError
from cnnfeat.image_table import ImageTable
from cnnfeat.splits._draw import (
    NAMED,
    Split,
    refuse_single,
    rounded,
    shuffle_key,
    shuffled_classes,
    sorted_split,
)
from cnnfeat.splits._groups import Groups


def draw_split(
    table: ImageTable,
    *,
    usable: np.ndarray,
    train_per_class: int,
    test_per_class: int | None = None,
    seed: int = 0,
    skip_small: bool = False,
) -> Split:
    """Draw training and test rows at random within each class.

    A class's images are ordered by the SHA-256 of seed, class name and path, and the
    usable ones taken in that order: training rows first. One unreadable image so moves
    one row, and the training rows at 15 a class are among those at 30.

    Where the table has groups, a group gives training rows or test rows, never both;
    training images of a group that are more than asked for stay out.

    Parameters
    ----------
    table : ImageTable
        In any order; its classes' names decide the draw, not their indices.
    usable : ndarray of shape (n_images,), dtype=bool
        False for rows never to be drawn. See `usable_rows`.
    train_per_class : int
        Exactly so many of each class.
    test_per_class : int or None, default=None
        At most so many of each class, and at least one; None for all the rest.
    seed : int, default=0
        Another seed, another split.
    skip_small : bool, default=False
        Leave out classes that have too few images, with a warning that names them.

    Raises
    ------
    SplitError
        If a class has fewer usable images than training and one test row need (the
        classes are named with their counts), or there are fewer than two classes.

    Warns
    -----
    CnnfeatWarning
        With `skip_small`, if classes are left out.
    """
    if train_per_class < 1 or (test_per_class is not None and test_per_class < 1):
        raise SplitError(
            f"at least 1 training and 1 test image a class are needed, not "
            f"{train_per_class} and {test_per_class}"
        )
    way = _Counted(train_per_class, test_per_class)
    return _divide(table, usable, way, seed, skip_small=skip_small)


def smaller_split(
    table: ImageTable, split: Split, train_per_class: int, seed: int
) -> Split:
    """Return a drawn split with fewer training rows, and the same test rows.

    The training rows are those that `draw_split` gives at this size, so those of
    several sizes contain each other.

    Parameters
    ----------
    table : ImageTable
    split : Split
        Of `draw_split`, with at least `train_per_class` training rows of each class.
    train_per_class : int
        At least 1.
    seed : int
        The one that drew the split.

    Raises
    ------
    SplitError
        If the size is below 1.
    """
    if train_per_class < 1:
        raise SplitError(
            f"at least 1 training image a class is needed, not {train_per_class}"
        )
    usable = np.zeros(len(table), dtype=bool)
    usable[split.train] = True
    train = first_of_classes(table, usable=usable, n=train_per_class, seed=seed)
    return Split(train, split.test)


def first_of_classes(
    table: ImageTable, *, usable: np.ndarray, n: int, seed: int
) -> np.ndarray:
    """Return at most `n` usable rows of each class, the first of its shuffled order.

    Returns
    -------
    ndarray of shape (m,), dtype=int64
        Ascending.
    """
    orders = _drawn_classes(table, usable, seed).values()
    return np.sort(np.concatenate([rows[:n] for rows in orders])).astype(np.int64)


def draw_share(
    table: ImageTable,
    *,
    usable: np.ndarray,
    share: float,
    seed: int = 0,
    skip_small: bool = False,
) -> Split:
    """Draw a share of each class to test on, at random, and train on the rest.

    Parameters
    ----------
    table, usable, seed, skip_small
        As for `draw_split`, whose order of images this shares.
    share : float
        Between 0 and 1. Rounded for each class: at least one image, and not all. Where
        the table has groups, as near as whole groups allow.

    Raises
    ------
    SplitError
        If the share is out of range, a class has a single usable image (or all of them
        in one group), or there are fewer than two classes.

    Warns
    -----
    CnnfeatWarning
        With `skip_small`, if classes are left out.
    """
    if not 0 < share < 1:
        raise SplitError(
            f"`test_share` must be above 0 and below 1 here, not {share:g}"
        )
    return _divide(table, usable, _Shared(share), seed, skip_small=skip_small)


def draw_folds(
    table: ImageTable,
    *,
    usable: np.ndarray,
    n_folds: int,
    seed: int = 0,
    skip_small: bool = False,
) -> list[Split]:
    """Return the splits of a cross validation: each usable row is tested once.

    Parameters
    ----------
    table, usable, seed, skip_small
        As for `draw_split`.
    n_folds : int
        At least 2. Each class is spread over all folds, with or without groups as
        evenly as can be.

    Raises
    ------
    SplitError
        If a class has fewer usable images, or groups, than there are folds, or there
        are fewer than two classes.

    Warns
    -----
    CnnfeatWarning
        With `skip_small`, if classes are left out.
    """
    if n_folds < 2:
        raise SplitError(f"at least 2 folds are needed, not {n_folds}")
    labels, groups = table.labels, table.groups
    orders = _drawn_classes(table, usable, seed)
    n_units = {
        label: len(rows if groups is None else np.unique(groups[rows]))
        for label, rows in orders.items()
    }
    small = {label for label, n in n_units.items() if n < n_folds}
    if small:
        what = "images" if groups is None else "groups"
        _refuse_small(
            _named_counts(table, {label: n_units[label] for label in small}),
            f"{len(small)} of {len(orders)} classes have fewer than {n_folds} usable "
            f"{what}, one for each fold",
            "lower `n_folds`",
            skip_small=skip_small,
        )
    kept = [label for label in orders if label not in small]
    refuse_single(table, kept)
    rows = np.sort(np.concatenate([orders[label] for label in kept]))
    fold_of = np.empty(len(table), np.int64)
    if groups is not None:
        parted = Groups.of(labels[rows], groups[rows], seed)
        fold_of[rows] = parted.folds(n_folds)
    for label in kept if groups is None else ():
        # Classes begin at folds of their own, lest the first folds be the largest.
        first = shuffle_key(seed, table.class_names[label], "first fold")[0]
        fold_of[orders[label]] = (first + np.arange(len(orders[label]))) % n_folds
    return [
        Split(rows[fold_of[rows] != fold], rows[fold_of[rows] == fold])
        for fold in range(n_folds)
    ]


def refuse_shared_groups(split: Split, table: ImageTable, source: str) -> None:
    """Raise SplitError if a group of the table is on both sides of a given split."""
    groups = table.groups
    if groups is None:
        return
    is_shared = np.isin(groups[split.test], groups[split.train])
    if is_shared.any():
        row = int(split.test[np.flatnonzero(is_shared)[0]])
        raise SplitError(
            f"{source}: {int(is_shared.sum())} of {len(split.test)} test images belong "
            f"to groups that are trained on, {table.paths[row]} first; draw the split "
            "with the same `group`"
        )


@dataclass(frozen=True)
class _Counted:
    """Numbers of images of each class."""

    n_train: int
    n_test: int | None

    cure = "lower `train_per_class`"

    @property
    def needs(self) -> str:
        return (
            f"have fewer than {self.n_train + 1} usable images ({self.n_train} to "
            "train on and one to test on)"
        )

    def hold_out(self, groups: Groups) -> np.ndarray:
        return groups.hold_out_rest(self.n_train)

    def divide(
        self, rows: np.ndarray, is_out: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        if is_out is None:
            return rows[: self.n_train], rows[self.n_train :][: self.n_test]
        return rows[~is_out][: self.n_train], rows[is_out][: self.n_test]


@dataclass(frozen=True)
class _Shared:
    """A share of each class."""

    share: float

    n_train = 1
    needs = "have fewer than 2 usable images (one to train on and one to test on)"
    cure = "`test_share=0` holds none out"

    def hold_out(self, groups: Groups) -> np.ndarray:
        return groups.hold_out_share(self.share)

    def divide(
        self, rows: np.ndarray, is_out: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        if is_out is not None:
            return rows[~is_out], rows[is_out]
        n_test = min(max(rounded(len(rows) * self.share), 1), len(rows) - 1)
        n_train = len(rows) - n_test
        return rows[:n_train], rows[n_train:]


def _divide(
    table: ImageTable,
    usable: np.ndarray,
    way: _Counted | _Shared,
    seed: int,
    *,
    skip_small: bool,
) -> Split:
    """Return the rows of every class divided; classes too small refused or left out."""
    groups = table.groups
    while True:
        orders = _drawn_classes(table, usable, seed)
        is_out = None
        if groups is not None:
            rows = np.concatenate(list(orders.values()))
            is_out = np.zeros(len(table), dtype=bool)
            is_out[rows] = way.hold_out(
                Groups.of(table.labels[rows], groups[rows], seed)
            )
        parts = {
            label: way.divide(rows, None if is_out is None else is_out[rows])
            for label, rows in orders.items()
        }
        small = [
            label
            for label, (train, test) in parts.items()
            if len(train) < way.n_train or not len(test)
        ]
        if not small:
            return sorted_split(*zip(*parts.values(), strict=True))
        needs = way.needs
        if groups is not None:
            needs += " in groups of their own"
        _refuse_small(
            _named_counts(table, {label: len(orders[label]) for label in small}),
            f"{len(small)} of {len(orders)} classes {needs}",
            way.cure,
            skip_small=skip_small,
        )
        usable = np.asarray(usable, dtype=bool) & ~np.isin(table.labels, small)


def _drawn_classes(
    table: ImageTable, usable: np.ndarray, seed: int | str
) -> dict[int, np.ndarray]:
    """Return the usable rows of each labelled class, shuffled."""
    usable = np.asarray(usable, dtype=bool)
    return {
        label: rows[usable[rows]]
        for label, rows in shuffled_classes(table, usable, seed)
    }


def _named_counts(table: ImageTable, counts: dict[int, int]) -> list[str]:
    return [f"{table.class_names[label]} ({n})" for label, n in counts.items()]


def _refuse_small(small: list[str], what: str, cure: str, *, skip_small: bool) -> None:
    """Name the classes that are too small: in an error, or in a warning."""
    more = f" and {len(small) - NAMED} more" if len(small) > NAMED else ""
    named = f"{', '.join(small[:NAMED])}{more}"
    if skip_small:
        warnings.warn(
            f"{what}, and are left out: {named}", CnnfeatWarning, stacklevel=4
        )
        return
    raise SplitError(f"{what}: {named}; {cure}, or leave them out with `skip_small`")
