"""Dividing training rows once more, to choose C without a look at the test rows.

The folds are stratified: each class's rows are held out in turn, about a fifth at a
time. A class is never held out whole, so the heads of all folds know all classes; one
with a single row is trained on and not scored.
"""

import math
from collections.abc import Iterator

import numpy as np

from cnnfeat.errors import SplitError
from cnnfeat.image_table import ImageTable
from cnnfeat.splits._draw import (
    Split,
    rounded,
    shuffle_key,
    shuffled_classes,
    sorted_split,
)
from cnnfeat.splits._groups import Groups

N_FOLDS = 5
# One sixth alone, as in DeCAF, where it holds so many rows: see docs/measurements.md.
ENOUGH_HELD_OUT = 500
SIXTH = 1 / 6
# Fewer training rows are divided again, in other ways, until so many have been scored:
# what the draw of the folds costs is then under 0.2 points; see docs/measurements.md.
SCORED = 1500
MOST_REPEATS = 10


def inner_split(
    table: ImageTable,
    rows: np.ndarray,
    *,
    held_out: int | float = SIXTH,
    seed: int = 0,
) -> Split:
    """Divide training rows once, into some to fit to and some to choose on.

    Parameters
    ----------
    table : ImageTable
        All rows. Where there are only labels, `ImageTable.from_labels` makes one.
    rows : ndarray of shape (n_rows,), dtype=int
        The training rows of an outer split.
    held_out : int or float, default=1/6
        Rows of each class to choose on, or their fraction (half a row is rounded up,
        at least one). 1/6 is DeCAF's 25/5 of 30. Every class keeps at least one row to
        train on.
    seed : int, default=0
        The outer split's serves: the draws differ.

    Returns
    -------
    Split
        `test` are the rows to choose on.

    Raises
    ------
    SplitError
        If every class has a single row, so that there is nothing to choose on.
    """
    if table.groups is not None:
        return _inner_of_groups(table, np.asarray(rows), held_out, seed)
    train, test = [], []
    # Another stream than the outer split's: otherwise its last training rows, in the
    # order of that draw, would always be those held out.
    for _, drawn in _drawn_classes(table, rows, f"inner {seed}"):
        n = held_out if isinstance(held_out, int) else rounded(len(drawn) * held_out)
        cut = min(max(n, 1), len(drawn) - 1)
        test.append(drawn[:cut])
        train.append(drawn[cut:])
    return _checked([sorted_split(train, test)])[0]


def _inner_of_groups(
    table: ImageTable, rows: np.ndarray, held_out: int | float, seed: int
) -> Split:
    """Return whole groups of training rows held out, about as many of each class."""
    assert table.groups is not None
    labels = table.labels[rows]
    share = held_out
    if isinstance(held_out, int):
        share = held_out * len(np.unique(labels)) / len(rows)
    groups = Groups.of(labels, table.groups[rows], f"inner {seed}")
    is_out = groups.hold_out_share(share)
    held = Split(np.sort(rows[~is_out]), np.sort(rows[is_out]))
    return _checked([held])[0]


def inner_folds(
    table: ImageTable,
    rows: np.ndarray,
    *,
    held_out: int | float | None = None,
    seed: int = 0,
    groups: np.ndarray | None = None,
) -> tuple[Split, ...]:
    """Divide training rows into folds, to choose C on all of them in turn.

    Five folds; fewer than 1,500 rows are divided several times, ten at most. Where one
    sixth of the rows is 500 or more it is held out once, as `inner_split` does: so many
    rows choose as well, at a fifth of the cost.

    Parameters
    ----------
    table : ImageTable
    rows : ndarray of shape (n_rows,), dtype=int
        The training rows of an outer split.
    held_out : int or float, optional
        As for `inner_split`: hold out so many of each class, once.
    seed : int, default=0
        The outer split's serves: the draws differ.
    groups : ndarray of shape (n_images,), optional
        What each row belongs to (a patient, a plate), by default the table's groups;
        a group is held out whole.

    Returns
    -------
    tuple of Split
        `test` are the rows held out, `train` the other training rows.

    Raises
    ------
    SplitError
        If nothing can be held out: every class has a single row, or a single group.
    """
    rows = np.asarray(rows)
    groups = table.groups if groups is None else groups
    if held_out is None and len(rows) * SIXTH >= ENOUGH_HELD_OUT:
        held_out = SIXTH
    once = held_out is not None
    if groups is None and held_out is not None:
        return (inner_split(table, rows, held_out=held_out, seed=seed),)
    folds: list[Split] = []
    for repeat in range(1 if once else _n_repeats(len(rows))):
        stream = f"folds {repeat} of {seed}"
        if groups is None:
            held = _held_of_classes(table, rows, stream)
        else:
            n_folds = round(1 / SIXTH) if once else N_FOLDS
            held = _held_of_groups(table.labels[rows], groups[rows], n_folds, stream)
            held = [rows[at] for at in held]
        folds += [Split(np.setdiff1d(rows, test), test) for test in held if len(test)]
    return _checked(folds[:1] if once else folds)


def inner_positions(
    table: ImageTable,
    rows: np.ndarray,
    *,
    held_out: int | float | None = None,
    seed: int = 0,
    groups: np.ndarray | None = None,
) -> tuple[Split, ...]:
    """Return `inner_folds` of training rows as positions among them.

    Parameters
    ----------
    table, held_out, seed, groups
        As for `inner_folds`.
    rows : ndarray of shape (n_rows,), dtype=int
        Ascending, as in a `Split`.

    Returns
    -------
    tuple of Split
        Positions in `rows`; ascending.
    """
    folds = inner_folds(table, rows, held_out=held_out, seed=seed, groups=groups)
    return positions_in(rows, folds)


def positions_in(rows: np.ndarray, folds: tuple[Split, ...]) -> tuple[Split, ...]:
    """Return folds of ascending rows (n,) as positions among them."""
    return tuple(
        Split(np.searchsorted(rows, fold.train), np.searchsorted(rows, fold.test))
        for fold in folds
    )


def _n_repeats(n_rows: int) -> int:
    return max(1, min(MOST_REPEATS, math.ceil(SCORED / max(1, n_rows))))


def _drawn_classes(
    table: ImageTable, rows: np.ndarray, stream: str
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each class's name and its training rows, shuffled."""
    usable = np.zeros(len(table), dtype=bool)
    usable[rows] = True
    for label, order in shuffled_classes(table, usable, stream):
        yield table.class_names[label], order[usable[order]]


def _held_of_classes(
    table: ImageTable, rows: np.ndarray, stream: str
) -> list[np.ndarray]:
    """Return the rows that each of the folds holds out, sorted."""
    held: list[list[int]] = [[] for _ in range(N_FOLDS)]
    for name, drawn in _drawn_classes(table, rows, stream):
        if len(drawn) < 2:
            continue
        # Each class begins at a fold of its own, so that small ones fill them all.
        first = shuffle_key(stream, name, "")[0]
        for fold in range(N_FOLDS):
            held[(first + fold) % N_FOLDS] += drawn[fold::N_FOLDS].tolist()
    return [np.array(sorted(test), dtype=np.int64) for test in held]


def _held_of_groups(
    labels: np.ndarray, groups: np.ndarray, n_folds: int, stream: str
) -> list[np.ndarray]:
    """Return which places of labels and groups (n,) each fold holds out, sorted."""
    fold_of = Groups.of(labels, groups, stream).folds(n_folds)
    held = []
    for fold in range(n_folds):
        # Groups of a class that would have nothing left to train on stay there.
        lost = np.setdiff1d(labels, labels[fold_of != fold])
        needed = groups[np.isin(labels, lost)]
        inside = (fold_of == fold) & ~np.isin(groups, needed)
        held.append(np.flatnonzero(inside))
    return held


def _checked(folds: list[Split]) -> tuple[Split, ...]:
    if not any(len(fold.test) for fold in folds):
        raise SplitError(
            "C cannot be chosen inside the training rows: no class has two of them "
            "(with groups: in two groups); give one value of `C`, a head that needs no "
            "such choice (ncm), or more training images a class"
        )
    return tuple(folds)
