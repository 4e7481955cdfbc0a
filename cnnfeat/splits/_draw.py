"""Drawing the rows that a head is trained on and those that it is scored on.

A class's draw depends on the seed, the class's name and its paths alone. Leaving a
class out, adding one, or listing the images in another order changes nothing for
the others, so two experiments on overlapping sets of classes share their rows.
"""

import difflib
import hashlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cnnfeat.errors import CnnfeatWarning, SplitError
from cnnfeat.image_table import ImageTable

_NAMED = 5  # how many offending names an error lists


@dataclass(frozen=True, eq=False)
class Split:
    """Rows of a feature file, sorted, no row in both.

    Parameters
    ----------
    train, test : ndarray of shape (n_rows,), dtype=int64
    """

    train: np.ndarray
    test: np.ndarray


def draw_split(
    table: ImageTable,
    *,
    usable: np.ndarray,
    train_per_class: int,
    test_per_class: int | None = None,
    seed: int = 0,
) -> Split:
    """Draw training and test rows at random within each class.

    A class's images are ordered by the SHA-256 of seed, class name and path, and the
    usable ones taken in that order: training rows first. One unreadable image so moves
    one row, and the training rows at 15 a class are among those at 30.

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

    Raises
    ------
    SplitError
        If a class has fewer usable images than training and one test row need (the
        classes are named with their counts), or there are fewer than two classes.
    """
    if train_per_class < 1 or (test_per_class is not None and test_per_class < 1):
        raise SplitError(
            f"at least 1 training and 1 test image a class are needed, not "
            f"{train_per_class} and {test_per_class}"
        )
    usable = np.asarray(usable, dtype=bool)
    drawn = [
        (table.class_names[label], rows[usable[rows]])
        for label, rows in _shuffled_classes(table, usable, seed)
    ]
    _refuse_small({name: len(rows) for name, rows in drawn}, train_per_class + 1)
    stop = None if test_per_class is None else train_per_class + test_per_class
    return _split(
        [rows[:train_per_class] for _, rows in drawn],
        [rows[train_per_class:stop] for _, rows in drawn],
    )


def inner_split(
    table: ImageTable,
    rows: np.ndarray,
    *,
    held_out: int | float = 1 / 6,
    seed: int = 0,
) -> Split:
    """Divide training rows once more, to choose C without a look at the test rows.

    Parameters
    ----------
    table : ImageTable
        All rows. Where there are only labels, `ImageTable.from_labels` makes one.
    rows : ndarray of shape (n_rows,), dtype=int
        The training rows of an outer split.
    held_out : int or float, default=1/6
        Rows of each class to choose on, or their fraction (rounded, at least one).
        1/6 is DeCAF's 25/5 of 30. Every class keeps at least one row to train on.
    seed : int, default=0
        The outer split's serves: the draws differ.

    Returns
    -------
    Split
        `test` are the rows to choose C on.

    Raises
    ------
    SplitError
        If every class has a single row, so that there is nothing to choose on.
    """
    usable = np.zeros(len(table), dtype=bool)
    usable[rows] = True
    train, test = [], []
    # Another stream than the outer split's: otherwise its last training rows, in the
    # order of that draw, would always be those held out.
    for _, order in _shuffled_classes(table, usable, f"inner {seed}"):
        drawn = order[usable[order]]
        n = held_out if isinstance(held_out, int) else round(len(drawn) * held_out)
        cut = min(max(n, 1), len(drawn) - 1)
        test.append(drawn[:cut])
        train.append(drawn[cut:])
    split = _split(train, test)
    if not len(split.test):
        raise SplitError(
            "C cannot be chosen inside the training rows: no class has two of them; "
            "give one value of `C`, or more training images a class"
        )
    return split


def inner_positions(
    table: ImageTable,
    rows: np.ndarray,
    *,
    held_out: int | float = 1 / 6,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return `inner_split` of training rows as positions among them.

    Parameters
    ----------
    table, held_out, seed
        As for `inner_split`.
    rows : ndarray of shape (n_rows,), dtype=int
        Ascending, as in a `Split`.

    Returns
    -------
    ndarray, ndarray of dtype=int64
        Positions in `rows` to fit on, and to choose C on; ascending.
    """
    inner = inner_split(table, rows, held_out=held_out, seed=seed)
    return np.searchsorted(rows, inner.train), np.searchsorted(rows, inner.test)


def _shuffled_classes(
    table: ImageTable, usable: np.ndarray, seed: int | str
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each labelled class that is not left out whole, and its rows shuffled."""
    labels, names, paths = table.labels, table.class_names, table.paths
    if not (labels >= 0).any():
        raise SplitError(
            "no image has a label: give class folders or a manifest with a label column"
        )
    present = np.unique(labels[(labels >= 0) & usable])
    if len(present) < 2:
        found = ", ".join(names[label] for label in present) or "none"
        raise SplitError(f"at least two classes with usable images are needed: {found}")
    for label in present.tolist():
        rows = np.flatnonzero(labels == label).tolist()
        keys = [_shuffle_key(seed, names[label], paths[row]) for row in rows]
        yield label, np.array([row for _, row in sorted(zip(keys, rows, strict=True))])


def _shuffle_key(seed: int | str, class_name: str, path: str) -> bytes:
    """Return the key that sorting an image's class by shuffles it.

    A digest rather than a random generator: NumPy does not promise that a seed's
    permutation stays the same, and here an image's place does not depend on the others.
    """
    return hashlib.sha256(f"{seed}\0{class_name}\0{path}".encode()).digest()


def _split(train: list[np.ndarray], test: list[np.ndarray]) -> Split:
    return Split(
        *(np.sort(np.concatenate(rows)).astype(np.int64) for rows in (train, test))
    )


def _refuse_small(counts: dict[str, int], needed: int) -> None:
    small = [f"{name} ({n})" for name, n in counts.items() if n < needed]
    if small:
        more = f" and {len(small) - _NAMED} more" if len(small) > _NAMED else ""
        raise SplitError(
            f"{len(small)} of {len(counts)} classes have fewer than {needed} usable "
            f"images ({needed - 1} to train on and one to test on): "
            f"{', '.join(small[:_NAMED])}{more}; lower `train_per_class` or leave "
            "these classes out"
        )


def usable_rows(table: ImageTable, exclude: Sequence[str] = ()) -> np.ndarray:
    """Return which rows may be drawn: readable, labelled, of no excluded class.

    Returns
    -------
    ndarray of shape (n_images,), dtype=bool

    Raises
    ------
    SplitError
        If an excluded class does not exist; the nearest names are offered.

    Warns
    -----
    CnnfeatWarning
        If no image of a class could be read: it is left out.
    """
    labels, names = table.labels, table.class_names
    usable = table.ok & (labels >= 0)
    for name in exclude:
        if name not in names:
            near = difflib.get_close_matches(name, names, 3, 0.4)
            hint = f"; nearest: {', '.join(near)}" if near else ""
            raise SplitError(f"there is no class {name!r} to leave out{hint}")
        usable &= labels != names.index(name)
    unreadable = set(labels[labels >= 0]) - set(labels[usable])
    lost = [names[k] for k in sorted(unreadable) if names[k] not in exclude]
    if lost:
        warnings.warn(
            f"{len(lost)} classes are left out, because no image of theirs could be "
            f"read: {', '.join(lost[:_NAMED])}",
            CnnfeatWarning,
            stacklevel=2,
        )
    return usable
