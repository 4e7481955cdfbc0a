"""Which rows a head is trained on and which it is scored on.

A class's draw depends on the seed, the class's name and its paths alone. Leaving a
class out, adding one, or listing the images in another order changes nothing for
the others, so two experiments on overlapping sets of classes share their rows.
"""

import csv
import difflib
import hashlib
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnnfeat.errors import CnnfeatWarning, SplitError

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
    labels: np.ndarray,
    paths: Sequence[str],
    class_names: Sequence[str],
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
    labels : ndarray of shape (n_images,), dtype=int
        Indices into `class_names`; -1 where there is none.
    paths : sequence of n_images str
        Any order.
    class_names : sequence of str
        Their names decide the draw, not their indices.
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
    labels, usable = np.asarray(labels), np.asarray(usable, dtype=bool)
    drawn = [
        (class_names[label], rows[usable[rows]])
        for label, rows in _shuffled_classes(labels, paths, class_names, usable, seed)
    ]
    _refuse_small({name: len(rows) for name, rows in drawn}, train_per_class + 1)
    stop = None if test_per_class is None else train_per_class + test_per_class
    return _split(
        [rows[:train_per_class] for _, rows in drawn],
        [rows[train_per_class:stop] for _, rows in drawn],
    )


def inner_split(
    rows: np.ndarray,
    labels: np.ndarray,
    paths: Sequence[str],
    class_names: Sequence[str],
    *,
    held_out: int | float = 1 / 6,
    seed: int = 0,
) -> Split:
    """Divide training rows once more, to choose C without a look at the test rows.

    Parameters
    ----------
    rows : ndarray of shape (n_rows,), dtype=int
        The training rows of an outer split.
    labels, paths, class_names
        As for `draw_split`, of all rows.
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
    usable = np.zeros(len(labels), dtype=bool)
    usable[rows] = True
    train, test = [], []
    # Another stream than the outer split's: otherwise its last training rows, in the
    # order of that draw, would always be those held out.
    for _, order in _shuffled_classes(
        np.asarray(labels), paths, class_names, usable, f"inner {seed}"
    ):
        drawn = order[usable[order]]
        n = held_out if isinstance(held_out, int) else round(len(drawn) * held_out)
        cut = min(max(n, 1), len(drawn) - 1)
        test.append(drawn[:cut])
        train.append(drawn[cut:])
    split = _split(train, test)
    if not len(split.test):
        raise SplitError(
            "C cannot be chosen inside the training rows: no class has two of them; "
            "give one value of --C, or more training images a class"
        )
    return split


def inner_positions(
    split: Split,
    labels: np.ndarray,
    paths: Sequence[str],
    class_names: Sequence[str],
    *,
    held_out: int | float = 1 / 6,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return `inner_split` of a split's training rows as positions among them.

    Returns
    -------
    ndarray, ndarray of dtype=int64
        Positions in `split.train` to fit on, and to choose C on.
    """
    inner = inner_split(
        split.train, labels, paths, class_names, held_out=held_out, seed=seed
    )
    fitted, chosen_on = (
        np.searchsorted(split.train, rows) for rows in (inner.train, inner.test)
    )
    return fitted, chosen_on


def _shuffled_classes(
    labels: np.ndarray,
    paths: Sequence[str],
    class_names: Sequence[str],
    usable: np.ndarray,
    seed: int | str,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each labelled class that is not left out whole, and its rows shuffled."""
    present = np.unique(labels[(labels >= 0)])
    if not len(present):
        raise SplitError(
            "no image has a label: give class folders or a manifest with a label column"
        )
    present = np.unique(labels[(labels >= 0) & usable])
    if len(present) < 2:
        names = ", ".join(class_names[label] for label in present) or "none"
        raise SplitError(f"at least two classes with usable images are needed: {names}")
    for label in present.tolist():
        rows = np.flatnonzero(labels == label).tolist()
        keys = [_shuffle_key(seed, class_names[label], paths[row]) for row in rows]
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
            f"{', '.join(small[:_NAMED])}{more}; lower --train-per-class or leave "
            "these classes out"
        )


# -- which rows ------------------------------------------------------------------------


def usable_rows(
    labels: np.ndarray,
    ok: np.ndarray,
    class_names: Sequence[str],
    exclude: Sequence[str] = (),
) -> np.ndarray:
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
    labels = np.asarray(labels)
    usable = np.asarray(ok, dtype=bool) & (labels >= 0)
    for name in exclude:
        if name not in class_names:
            near = difflib.get_close_matches(name, class_names, 3, 0.4)
            hint = f"; nearest: {', '.join(near)}" if near else ""
            raise SplitError(f"there is no class {name!r} to leave out{hint}")
        usable &= labels != list(class_names).index(name)
    unreadable = set(labels[labels >= 0]) - set(labels[usable])
    lost = [class_names[k] for k in sorted(unreadable) if class_names[k] not in exclude]
    if lost:
        warnings.warn(
            f"{len(lost)} classes are left out, because no image of theirs could be "
            f"read: {', '.join(lost[:_NAMED])}",
            CnnfeatWarning,
            stacklevel=2,
        )
    return usable


def match_paths(wanted: Sequence[str], paths: Sequence[str], source: str) -> np.ndarray:
    """Return the row of each wanted path.

    Raises
    ------
    SplitError
        If some are not there: the first five are named, and the count; `source` says
        who wants them. Or if a wanted path stands in two rows.
    """
    row_of = {path: row for row, path in enumerate(paths)}
    missing = [path for path in wanted if path not in row_of]
    if missing:
        more = ", …" if len(missing) > _NAMED else ""
        raise SplitError(
            f"{source}: {len(missing)} of {len(wanted)} images are not in the "
            f"features: {', '.join(missing[:_NAMED])}{more}"
        )
    if len(row_of) != len(paths):
        seen: set[str] = set()
        twice = {path for path in paths if path in seen or seen.add(path)}  # type: ignore[func-returns-value]
        for path in wanted:
            if path in twice:
                raise SplitError(f"{source}: {path} stands in two rows of the features")
    return np.array([row_of[path] for path in wanted], dtype=np.int64)


# -- the CSV ---------------------------------------------------------------------------


def splits_to_csv(splits: Sequence[Split], paths: Sequence[str]) -> str:
    """Return splits as CSV with the columns path, split and, for several, split_index.

    `split` is "train" or "test"; `split_index` counts from 0.
    """
    several = len(splits) > 1
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "split", *(["split_index"] if several else [])])
    for index, split in enumerate(splits):
        for name, rows in (("train", split.train), ("test", split.test)):
            for row in rows.tolist():
                writer.writerow([paths[row], name, *([index] if several else [])])
    return text.getvalue()


def read_splits(csv_path: str | Path, paths: Sequence[str]) -> list[Split]:
    """Return the splits of a CSV as `splits_to_csv` writes it.

    Parameters
    ----------
    csv_path : path
        UTF-8, with the columns path, split ("train" or "test"), and maybe split_index.
    paths : sequence of str
        The images of the feature file.

    Raises
    ------
    SplitError
        If the file cannot be read, is malformed (the line is named), is empty, names an
        image twice in one split, or names images that are not there.
    """
    chosen: dict[int, dict[str, str]] = {}
    for line, fields in _csv_rows(Path(csv_path)):
        where = f"{csv_path}, line {line}"
        if fields["split"] not in ("train", "test"):
            raise SplitError(
                f"{where}: split is {fields['split']!r}, not train or test"
            )
        try:
            index = int(fields.get("split_index") or 0)
        except ValueError as error:
            raise SplitError(
                f"{where}: split_index {fields['split_index']!r} is not a whole number"
            ) from error
        split = chosen.setdefault(index, {})
        if fields["path"] in split:
            raise SplitError(f"{where}: {fields['path']} is there twice")
        split[fields["path"]] = fields["split"]
    if not chosen:
        raise SplitError(f"{csv_path} names no images")
    return [
        _named_split(chosen[index], paths, str(csv_path)) for index in sorted(chosen)
    ]


def _named_split(parts: dict[str, str], paths: Sequence[str], source: str) -> Split:
    rows = match_paths(list(parts), paths, source)
    is_train = np.array([name == "train" for name in parts.values()])
    return _split([rows[is_train]], [rows[~is_train]])


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            found = reader.fieldnames or []
            for column in ("path", "split"):
                if column not in found:
                    raise SplitError(
                        f"{path} has no column {column!r}: {', '.join(found)}"
                    )
            for fields in reader:
                if None in fields or None in fields.values():
                    raise SplitError(
                        f"{path}, line {reader.line_num}: not {len(found)} fields"
                    )
                yield reader.line_num, fields
    except UnicodeDecodeError as error:
        raise SplitError(f"{path} is not UTF-8 text") from error
    except csv.Error as error:
        raise SplitError(f"{path} is not CSV: {error}") from error
    except OSError as error:
        raise SplitError(f"{path} cannot be read: {error.strerror}") from error
