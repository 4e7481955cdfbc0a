"""Which images, in which order, of which class.

`list_images` takes what a user calls IMAGES and returns an `ImageList`; `folder`,
`manifest` and `tar` hold one way of listing each. Images are listed by suffix, without
being opened; whether a file is an image at all is decided by its bytes, at decode.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cnnfeat import suffixes
from cnnfeat.errors import InputError
from cnnfeat.images._reading import Location


@dataclass(frozen=True, eq=False)
class ImageList:
    r"""The images of one source: one row each, in an order that is kept everywhere.

    Parameters
    ----------
    root : str
        Absolute folder (or tar) that `paths` are relative to; valid UTF-8.
    paths : tuple of str
        One a row, with `/` between folders; valid UTF-8, other bytes as `\xNN`.
    labels : ndarray of shape (n_images,), dtype=int32
        Index into `class_names`; -1 where there is none.
    class_names : tuple of str
        Sorted by code point, as folders are; so "10" comes before "2".
    location : str
        `root` as the operating system spells it.
    names : tuple of str
        `paths` as the operating system spells them.
    spans : ndarray of shape (n_images, 2), dtype=int64, optional
        Offset and length in bytes of each image inside a tar.
    """

    root: str
    paths: tuple[str, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]
    location: str = field(repr=False)
    names: tuple[str, ...] = field(repr=False)
    spans: np.ndarray | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.paths)

    def locate(self, row: int) -> Location:
        """Return where the bytes of one row lie."""
        if self.spans is None:
            return Location(os.path.join(self.location, self.names[row]))
        offset, n_bytes = self.spans[row]
        return Location(self.location, int(offset), int(n_bytes))

    def read_bytes(self, row: int, max_bytes: int | None = None) -> bytes:
        """Return the file of one row.

        Raises
        ------
        ImageError
            If it cannot be read, or is longer than `max_bytes`.
        """
        return self.locate(row).read(max_bytes)

    def fingerprint(self) -> str:
        """Return a SHA-256 (64 hex digits) over paths, labels, classes and file sizes.

        A file that is missing counts as one of size -1. Contents are not read.
        """
        digest = hashlib.sha256()
        for name in (*self.class_names, "", *self.paths):
            digest.update(name.encode() + b"\0")
        digest.update(self.labels.astype("<i4").tobytes())
        sizes = [self.locate(row).size() for row in range(len(self))]
        digest.update(np.asarray(sizes, dtype="<i8").tobytes())
        return digest.hexdigest()


def list_images(source: str | Path, *, stdin: Iterable[str] | None = None) -> ImageList:
    """Return the images that a source names.

    Parameters
    ----------
    source : str or Path
        A folder of class folders, a folder of images, a CSV or TSV manifest, an
        uncompressed tar, one image file, or `-` for paths on standard input.
    stdin : iterable of str, optional
        The lines that `-` reads; default: those of standard input, in any encoding.

    Returns
    -------
    ImageList
        At least one row. Folders and tars are sorted by class, then path; manifests
        and standard input keep their order.

    Raises
    ------
    InputError
        If the source is missing, cannot be read, is malformed or names no image.
    """
    # Late, because each of them builds ImageLists.
    from cnnfeat.images._folder import list_folder
    from cnnfeat.images._manifest import list_lines, list_manifest
    from cnnfeat.images._tar import list_tar

    if str(source) == "-":
        return list_lines(_stdin_lines() if stdin is None else stdin)
    path = os.fspath(source)
    shown = printable(path)
    if not path or not os.path.lexists(path):
        raise InputError(f"{shown or repr(path)}: no such file or folder")
    if os.path.isdir(path):
        return list_folder(path)
    if not os.path.isfile(path):
        raise InputError(
            f"{shown}: neither a folder nor a regular file (a pipe, a device or a "
            "broken link); give paths on standard input with -"
        )
    suffix = suffixes.suffix_of(path)
    if suffix in (".csv", ".tsv"):
        return list_manifest(path)
    if suffix in suffixes.IMAGES:
        folder, name = os.path.split(os.path.abspath(path))
        return build_image_list(folder, [(None, name)])
    return list_tar(path)


def relist_images(
    root: str, paths: Sequence[str], labels: np.ndarray, class_names: Sequence[str]
) -> ImageList:
    r"""Return the `ImageList` that was written down as these, ready to be read again.

    No folder is walked, so that a list from a manifest or from standard input comes
    back as it was. Whether the files are still the same, `fingerprint` tells.

    Parameters
    ----------
    root : str
        A folder, or a tar, whose members are looked up.
    paths, labels, class_names
        As in `ImageList`. A path with `\xNN` is also found as the bytes it stands for.

    Raises
    ------
    InputError
        If the tar cannot be read or lists other images.
    """
    from cnnfeat.images._tar import list_tar

    location = _spelled(root)
    if not os.path.isfile(location):
        names = tuple(_spelled(path, location) for path in paths)
        return ImageList(
            root, tuple(paths), labels, tuple(class_names), location, names
        )
    found = list_tar(location)
    if found.paths != tuple(paths):
        raise InputError(f"{root}: this tar does not hold the images that it held")
    return found


def _spelled(path: str, folder: str = "") -> str:
    r"""Return a printable path as the operating system spells it: `\xNN` as a byte."""
    if "\\x" not in path or os.path.lexists(os.path.join(folder, path)):
        return path
    parts = re.split(r"\\x([0-9a-f]{2})", path)
    raw = [
        bytes.fromhex(part) if k % 2 else part.encode() for k, part in enumerate(parts)
    ]
    return os.fsdecode(b"".join(raw))


def build_image_list(
    location: str,
    images: Sequence[tuple[str | None, str]],
    spans: Sequence[tuple[int, int]] | None = None,
) -> ImageList:
    """Return the `ImageList` of (class name or None, name under `location`) pairs."""
    class_names = sorted({printable(c) for c, _ in images if c is not None})
    index = {name: label for label, name in enumerate(class_names)}
    labels = [-1 if c is None else index[printable(c)] for c, _ in images]
    names = tuple(name for _, name in images)
    return ImageList(
        root=printable(location),
        paths=tuple(map(printable, names)),
        labels=np.asarray(labels, dtype=np.int32),
        class_names=tuple(class_names),
        location=location,
        names=names,
        spans=None if spans is None else np.asarray(spans, dtype=np.int64),
    )


def printable(name: str) -> str:
    r"""Return a file name as valid UTF-8: bytes that are none become `\xNN`."""
    if name.isascii():
        return name
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _stdin_lines() -> Iterable[str]:
    return map(os.fsdecode, sys.stdin.buffer)
