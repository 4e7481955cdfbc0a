"""Drawing the rows that a head is trained on and those that it is scored on.

A class's draw depends on the seed, the class's name and its paths alone. Leaving a
class out, adding one, or listing the images in another order changes nothing for
the others, so two experiments on overlapping sets of classes share their rows.

A path counts from the folder that has the class's name: `faces/01.jpg`, whichever
folder above it was listed, and whether by its folder or in a table. Where a class has
no such folder, or several with images of one name, its paths count from the folder that
holds all images of the table.
"""

import difflib
import hashlib
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from cnnfeat.errors import CnnfeatWarning, SplitError
from cnnfeat.image_table import ImageTable

NAMED = 5  # how many offending names an error lists
NO_LABELS = "no image has a label: give class folders or a manifest with a label column"


@dataclass(frozen=True, eq=False)
class Split:
    """Rows of a feature file, sorted, no row in both.

    Parameters
    ----------
    train, test : ndarray of shape (n_rows,), dtype=int64
    """

    train: np.ndarray
    test: np.ndarray

    def usable_part(
        self, usable: np.ndarray, what: str = "rows of the given splits"
    ) -> "Split":
        """Return the split without rows that are not `usable`, bool (n_images,).

        Warns
        -----
        CnnfeatWarning
            If there are such rows.
        """
        lost = int(np.count_nonzero(~usable[np.concatenate([self.train, self.test])]))
        if lost:
            warnings.warn(
                f"{lost} {what} are left out: unreadable, without label, or of a class "
                "that is left out",
                CnnfeatWarning,
                stacklevel=4,
            )
        return Split(self.train[usable[self.train]], self.test[usable[self.test]])


def split_seed(seed: int, index: int) -> int:
    """Return the seed of split `index` of a series: `seed` itself for the first.

    The others are a digest of both, so that no split of one seed is one of another's.
    Drawn alone with its own seed, a split is the same.
    """
    if index == 0:
        return seed
    digest = hashlib.sha256(f"split {index} of {seed}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1  # what every generator takes


def shuffled_classes(
    table: ImageTable, usable: np.ndarray, seed: int | str
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each labelled class that is not left out whole, and its rows shuffled."""
    labels, names = table.labels, table.class_names
    if not (labels >= 0).any():
        raise SplitError(NO_LABELS)
    present = np.unique(labels[(labels >= 0) & usable]).tolist()
    refuse_single(table, present)
    shared = _shared_folder(table.paths)
    for label in present:
        rows = np.flatnonzero(labels == label).tolist()
        paths = _paths_below(names[label], [table.paths[row] for row in rows], shared)
        keys = [shuffle_key(seed, names[label], path) for path in paths]
        yield label, np.array([row for _, row in sorted(zip(keys, rows, strict=True))])


def _shared_folder(paths: Sequence[str]) -> str:
    """Return the folder that holds all paths, with its last `/`; "" for none."""
    # What the first and the last in alphabetical order share all between them share.
    ends = [path.split("/")[:-1] for path in (min(paths), max(paths))]
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(*ends, strict=False))
    return "".join(f"{folder}/" for folder, _ in pairs)


def _paths_below(class_name: str, paths: list[str], shared: str) -> list[str]:
    """Return the paths of a class without the folders above its own.

    Without those above all images where some are in no folder of the class's name, or
    where the class has such folders in several places, with images of one name.
    """
    starts = [f"/{path}".find(f"/{class_name}/") for path in paths]
    below = [path[start:] for path, start in zip(paths, starts, strict=True)]
    if min(starts, default=-1) >= 0 and len(set(below)) == len(below):
        return below
    return [path.removeprefix(shared) for path in paths]


def refuse_single(table: ImageTable, present: list[int]) -> None:
    """Raise SplitError unless there are two classes, of the labels `present`."""
    if len(present) < 2:
        found = ", ".join(table.class_names[label] for label in present) or "none"
        raise SplitError(f"at least two classes with usable images are needed: {found}")


def shuffle_key(seed: int | str, class_name: str, path: str) -> bytes:
    """Return the key that sorting an image's class by shuffles it.

    A digest rather than a random generator: NumPy does not promise that a seed's
    permutation stays the same, and here an image's place does not depend on the others.
    """
    return hashlib.sha256(f"{seed}\0{class_name}\0{path}".encode()).digest()


def rounded(value: float) -> int:
    """Return the nearest whole number; a half goes up, whatever its last digit."""
    return math.floor(value + 0.5 + 1e-9)


def sorted_split(train: Sequence[np.ndarray], test: Sequence[np.ndarray]) -> Split:
    """Return the split of rows (n,) drawn class by class."""
    return Split(
        *(np.sort(np.concatenate(rows)).astype(np.int64) for rows in (train, test))
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
            f"read: {', '.join(lost[:NAMED])}",
            CnnfeatWarning,
            stacklevel=2,
        )
    return usable
