"""The noun that rooms pass on: which images, in which order, of which class.

A table says nothing of how images were listed or what was computed from them. Paths are
text; where the bytes lie is `cnnfeat.images`' affair.
"""

import difflib
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cnnfeat.errors import DataError
from cnnfeat.value_range import read_range

DIGEST = ".digest"  # str (n_images,): of each image's bytes; empty where not known
TUNED_ON = ".tuned_on"  # bool (n_images,): the network was fine-tuned on the image

# Columns with a leading dot are of the rooms: where an image lies, which ones belong
# together. All others are of the user's table, and are kept with the features.
_OURS = "."
_GROUP = ".group"


@dataclass(frozen=True, eq=False)
class ImageTable:
    r"""Images of one source: one row each, in an order that is kept everywhere.

    Parameters
    ----------
    root : str
        Folder (or tar) that `paths` are relative to.
    paths : tuple of str
        One a row, with `/` between folders; a path that is not below the root is
        absolute. Bytes that are no UTF-8 stand as `\xNN`.
    labels : array_like of shape (n_images,), int
        Indices into `class_names`; -1 where there is none. Kept as int32.
    class_names : tuple of str
    ok : array_like of shape (n_images,), bool, optional
        False where an image is known to be unreadable; default: True everywhere.
    columns : mapping of str to ndarray of shape (n_images, ...), optional
        Whatever else is known of each row: what a user's table says of it, such as the
        patient or the plate. Names that begin with a dot are reserved.
    value_range : str
        Which values of images with more than 8 bits are black and white: what
        `cnnfeat.value_range.read_range` reads.

    Raises
    ------
    DataError
        If lengths differ, a label has no class name, or the range is none.
    """

    root: str
    paths: tuple[str, ...] = field(repr=False)
    labels: np.ndarray = field(repr=False)
    class_names: tuple[str, ...] = field(repr=False)
    # Always an array once the table is made.
    ok: np.ndarray = field(default=None, repr=False)  # type: ignore[arg-type]
    columns: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)
    value_range: str = "full"

    def __post_init__(self) -> None:
        n = len(self.paths)
        ok = np.ones(n, dtype=bool) if self.ok is None else self.ok
        for name, value in (
            ("paths", tuple(self.paths)),
            ("labels", np.asarray(self.labels, dtype=np.int32)),
            ("class_names", tuple(self.class_names)),
            ("ok", np.asarray(ok, dtype=bool)),
        ):
            object.__setattr__(self, name, value)
        read_range(self.value_range)  # refuses what is none
        columns = {"labels": self.labels, "ok": self.ok, **self.columns}
        for name, column in columns.items():
            if len(column) != n:
                raise DataError(f"{n} paths, {len(column)} {name}")
        lowest, highest = self.labels.min(initial=-1), self.labels.max(initial=-1)
        if lowest < -1 or highest >= len(self.class_names):
            raise DataError(
                f"labels go from {self.labels.min()} to {highest}, but there are "
                f"{len(self.class_names)} class names"
            )

    @classmethod
    def from_labels(cls, y: Iterable[object]) -> "ImageTable":
        """Return a table of nameless images: paths are the row numbers.

        Parameters
        ----------
        y : array_like of shape (n_images,)
            Any labels; each distinct value is a class, named by its text.
        """
        classes, labels = np.unique(np.asarray(y), return_inverse=True)
        names = tuple(str(value) for value in classes.tolist())
        return cls("", tuple(map(str, range(len(labels)))), labels, names)

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: np.ndarray) -> "ImageTable":
        """Return the table of some rows, in the order of `rows`.

        Parameters
        ----------
        rows : ndarray of shape (m,), dtype=int, or of shape (n_images,), dtype=bool
        """
        rows = np.arange(len(self))[rows]
        return replace(
            self,
            paths=tuple(self.paths[row] for row in rows),
            labels=self.labels[rows],
            ok=self.ok[rows],
            columns={name: column[rows] for name, column in self.columns.items()},
        )

    def class_counts(self) -> dict[str, int]:
        """Return the number of images of each class, in the order of the classes."""
        counts = np.bincount(
            self.labels[self.labels >= 0], minlength=len(self.class_names)
        )
        return dict(zip(self.class_names, counts.tolist(), strict=True))

    @property
    def own_columns(self) -> dict[str, np.ndarray]:
        """The columns of the user's own table."""
        return {k: v for k, v in self.columns.items() if not k.startswith(_OURS)}

    @property
    def groups(self) -> np.ndarray | None:
        """Which images belong together, as `grouped_by` says; None where nothing does.

        Group numbers of shape (n_images,), dtype=int64, digests of the groups' names.
        Images of one group never stand on both sides of a split.
        """
        return self.columns.get(_GROUP)

    def grouped_by(self, column: str | None) -> "ImageTable":
        """Return the table with the images that share a value of `column` as groups.

        An image without a value is a group of its own. None groups nothing.

        Raises
        ------
        DataError
            If there is no such column; the nearest names, or all, are offered.
        """
        if column is None:
            return self
        values = self.column(column)
        names = [
            (bool(text), text or path)
            for text, path in zip(map(str, values), self.paths, strict=True)
        ]
        groups = np.array([_number(*name) for name in names], dtype=np.int64)
        return replace(self, columns={**self.columns, _GROUP: groups})

    def column(self, name: str) -> np.ndarray:
        """Return a column of the user's own table, by its name.

        Raises
        ------
        DataError
            If there is none; the nearest names, or all, are offered.
        """
        own = self.own_columns
        if name not in own:
            near = difflib.get_close_matches(name, own, 3, 0.5) or list(own)
            there = f"there are {', '.join(near)}" if near else "there are none"
            raise DataError(
                f"the images have no column {name!r}: {there}; columns come from a CSV "
                "or TSV table of images"
            )
        return own[name]

    def absolute_path(self, row: int) -> str:
        """Return where an image lies, without `//`, `.` and `..`; nothing is looked up.

        Inside a tar: the tar's path, and the member's below it.
        """
        return absolute_path(self.root, self.paths[row])

    def with_digests(self, digests: Sequence[str]) -> "ImageTable":
        """Return the table with the digest of each image's bytes, "" where unknown."""
        column = np.array(digests, dtype=object)
        return replace(self, columns={**self.columns, DIGEST: column})

    def with_tuned_on(self, rows: np.ndarray) -> "ImageTable":
        """Return the table with the rows that its features' network was tuned on."""
        column = np.zeros(len(self), dtype=bool)
        column[rows] = True
        return replace(self, columns={**self.columns, TUNED_ON: column})

    def digests(self, rows: np.ndarray) -> tuple[str, ...]:
        """Return what is known of the digests of some rows; "" for the others."""
        known = self.columns.get(DIGEST)
        return ("",) * len(rows) if known is None else tuple(known[rows].tolist())

    def fingerprint(self, n_bytes: Iterable[int] = ()) -> str:
        """Return a SHA-256 (64 hex digits) over paths, labels and classes.

        Parameters
        ----------
        n_bytes : iterable of int, optional
            Each file's length, to tell whether they are still the same; see
            `cnnfeat.images.fingerprint_images`.
        """
        digest = hashlib.sha256()
        for name in (*self.class_names, "", *self.paths):
            digest.update(name.encode() + b"\0")
        digest.update(self.labels.astype("<i4").tobytes())
        digest.update(np.fromiter(n_bytes, dtype="<i8").tobytes())
        return digest.hexdigest()


def are_others(digest: str, other: str) -> bool:
    """Tell whether two digests are known and stand for different images."""
    return "" not in (digest, other) and digest != other


def _number(is_named: bool, name: str) -> int:
    """Return a group's number: 63 bits of a digest, whatever other groups there are."""
    digest = hashlib.sha256(f"{is_named}\0{name}".encode()).digest()
    return int.from_bytes(digest[:8]) >> 1


def absolute_path(root: str, path: str) -> str:
    """Return `path` below `root`, or itself where it is absolute; normalised."""
    return os.path.normpath(os.path.join(root, path))
