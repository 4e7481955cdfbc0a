"""Reading the lists of training and test images that data sets publish.

SUN397: `Training_01.txt` to `Training_10.txt` and `Testing_01.txt` …, one path a line,
`/a/abbey/sun_aaalbzqrimafwbiv.jpg`. MIT-67: `TrainImages.txt` and `TestImages.txt`,
`kitchen/int474.jpg`. CUB-200-2011: `images.txt` (number, path) and
`train_test_split.txt` (number, 1 for training). Oxford flowers: `setid.mat`, whose
`trnid`, `valid` and `tstid` number the images `image_00001.jpg` …. Images are listed by
their place in the data set's own folder; features may have been extracted from a folder
above or below it.
"""

import io
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from cnnfeat.errors import SplitError
from cnnfeat.readback import why_unreadable
from cnnfeat.splits import Split, match_paths

N_SUN397_PARTITIONS = 10
_FLOWER_SETS = ("trnid", "valid", "tstid")
# What SciPy raises on bytes that are no such file.
_NO_MAT = (
    *(ArithmeticError, KeyError, IndexError, TypeError, ValueError, OSError),
    *(MatReadError, NotImplementedError, NameError, zlib.error),
)


def read_published_splits(kind: str, folder: Path, paths: Sequence[str]) -> list[Split]:
    """Return the published splits of a data set, as rows of a feature file.

    Parameters
    ----------
    kind : str
        `sun397`, `mit67`, `cub200` or `flowers102`.
    folder : Path
        Where the lists are.
    paths : sequence of str
        The images of the feature file.

    Raises
    ------
    SplitError
        If a list is missing or malformed, names an image as both, or names images
        that are not there (the first five, and the count).
    """
    readers = {
        "sun397": read_sun397,
        "mit67": read_mit67,
        "cub200": read_cub200,
        "flowers102": read_flowers102,
    }
    return readers[kind](folder, paths)


def read_sun397(folder: Path, paths: Sequence[str]) -> list[Split]:
    """Return the partitions that are there, from 01 on: up to ten."""
    found = []
    for index in range(1, N_SUN397_PARTITIONS + 1):
        train, test = (
            folder / f"{name}_{index:02}.txt" for name in ("Training", "Testing")
        )
        # The first must be there; its absence is reported, later ones' is not.
        if index == 1 or os.path.exists(train):
            found.append(
                _split(_lines(train), _lines(test), paths, f"{folder}: {index:02}")
            )
    return found


def read_mit67(folder: Path, paths: Sequence[str]) -> list[Split]:
    """Return the one published split."""
    train, test = _lines(folder / "TrainImages.txt"), _lines(folder / "TestImages.txt")
    return [_split(train, test, paths, str(folder))]


def read_cub200(folder: Path, paths: Sequence[str]) -> list[Split]:
    """Return the one published split."""
    images, is_train = folder / "images.txt", folder / "train_test_split.txt"
    path_of, side_of = _numbered(images), _numbered(is_train)
    if path_of.keys() != side_of.keys():
        number = sorted(path_of.keys() ^ side_of.keys())[0]
        raise SplitError(f"{folder}: image {number} is only in one of the two lists")
    for number, side in side_of.items():
        if side not in ("0", "1"):
            raise SplitError(f"{is_train}: image {number} has {side!r}, not 0 or 1")
    train, test = (
        [path_of[number] for number, side in side_of.items() if side == wanted]
        for wanted in ("1", "0")
    )
    return [_split(train, test, paths, str(folder))]


def read_flowers102(folder: Path, paths: Sequence[str]) -> list[Split]:
    """Return the one published split; its validation images are trained on, too."""
    path = folder / "setid.mat"
    data = _bytes(path)
    try:
        found = loadmat(io.BytesIO(data), variable_names=_FLOWER_SETS)
        numbers = [np.ravel(found[name]).tolist() for name in _FLOWER_SETS]
    except _NO_MAT as error:
        raise SplitError(
            f"{path} is not the flowers' list: expected {', '.join(_FLOWER_SETS)}"
        ) from error
    train, valid, test = (
        [f"image_{number:05.0f}.jpg" for number in some if _is_number(number)]
        for some in numbers
    )
    return [_split(train + valid, test, paths, str(path))]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and 0 < value < 1e5


def _bytes(path: Path) -> bytes:
    try:
        if reason := why_unreadable(path):
            raise OSError(0, reason)
        return path.read_bytes()
    except OSError as error:
        raise SplitError(
            f"{path}: this protocol needs the data set's published list, which cannot "
            f"be read: {error.strerror}"
        ) from error


def _lines(path: Path) -> list[str]:
    try:
        text = _bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SplitError(f"{path} is not UTF-8 text") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise SplitError(f"{path} is empty")
    return lines


def _numbered(path: Path) -> dict[str, str]:
    found = {}
    for line in _lines(path):
        number, _, value = line.partition(" ")
        if not number.isdigit() or not value:
            raise SplitError(f"{path}: expected a number and a value, found {line!r}")
        found[number] = value.strip()
    return found


def _split(
    train: list[str], test: list[str], paths: Sequence[str], source: str
) -> Split:
    both = set(train) & set(test)
    if both:
        raise SplitError(f"{source}: {min(both)} is both in training and in test")
    rows = _match(train + test, paths, source)
    if len(np.unique(rows)) != len(rows):
        raise SplitError(f"{source}: an image is listed twice")
    return Split(np.sort(rows[: len(train)]), np.sort(rows[len(train) :]))


def _match(wanted: list[str], paths: Sequence[str], source: str) -> np.ndarray:
    """Return the rows of listed images, whichever folder the features start from.

    Listed and stored paths are cut to the same number of last components: the largest
    number with which most are found.
    """
    listed = [tuple(path.replace("\\", "/").strip("/").split("/")) for path in wanted]
    stored = [tuple(path.split("/")) for path in paths]
    best, cut, n_best = list(map("/".join, listed)), list(paths), -1
    for depth in range(max(map(len, listed)), 0, -1):
        ends = ["/".join(parts[-depth:]) for parts in stored]
        names = ["/".join(parts[-depth:]) for parts in listed]
        # A file name alone may stand for two images: `bath/1.jpg` and `bed/1.jpg`.
        if len(set(ends)) < len(ends) or len(set(names)) < len(names):
            break
        n_found = len(set(ends).intersection(names))
        if n_found > n_best:
            best, cut, n_best = names, ends, n_found
    return match_paths(best, cut, source)
