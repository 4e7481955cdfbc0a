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


def split_seed(seed: int, index: int) -> int:
    """Return the seed of split `index` of a series: `seed` itself for the first.

    The others are a digest of both, so that no split of one seed is one of another's.
    Drawn alone with its own seed, a split is the same.
    """
    if index == 0:
        return seed
    digest = hashlib.sha256(f"split {index} of {seed}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1  # what every generator takes


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
        for label, rows in shuffled_classes(table, usable, seed)
    ]
    _refuse_small({name: len(rows) for name, rows in drawn}, train_per_class + 1)
    stop = None if test_per_class is None else train_per_class + test_per_class
    return sorted_split(
        [rows[:train_per_class] for _, rows in drawn],
        [rows[train_per_class:stop] for _, rows in drawn],
    )


def shuffled_classes(
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
        keys = [shuffle_key(seed, names[label], paths[row]) for row in rows]
        yield label, np.array([row for _, row in sorted(zip(keys, rows, strict=True))])


def shuffle_key(seed: int | str, class_name: str, path: str) -> bytes:
    """Return the key that sorting an image's class by shuffles it.

    A digest rather than a random generator: NumPy does not promise that a seed's
    permutation stays the same, and here an image's place does not depend on the others.
    """
    return hashlib.sha256(f"{seed}\0{class_name}\0{path}".encode()).digest()


def sorted_split(train: Sequence[np.ndarray], test: Sequence[np.ndarray]) -> Split:
    """Return the split of rows (n,) drawn class by class."""
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
