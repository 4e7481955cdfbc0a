r"""Where the images of a table lie: the column that says so, and what is printed of it.

File names are bytes, paths of a table are text. Most are the same; where they are not,
the table gets a column `.file` with the names as the operating system spells them. A
table of a tar has a column `.span`.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from cnnfeat.errors import ImageError
from cnnfeat.image_table import ImageTable
from cnnfeat.images._reading import Location, content_digest

SPAN = ".span"  # int64 (n_images, 2): offset and length in bytes inside the tar
_PAGE = re.compile(r"#page=([1-9]\d{0,8})$")
FILE = ".file"  # str (n_images,): the file, or the tar, undecodable bytes as surrogates


def build_table(
    location: str,
    images: Sequence[tuple[str | None, str]],
    spans: Sequence[tuple[int, int]] | None = None,
) -> ImageTable:
    """Return the table of (class name or None, name under `location`) pairs.

    Parameters
    ----------
    location : str
        The folder, or the tar, as the operating system spells it.
    images : sequence of (str or None, str)
        Each image's class and name. Classes are sorted by code point, as folders are;
        so "10" comes before "2".
    spans : sequence of (int, int), optional
        Offset and length in bytes of each image inside the tar.
    """
    class_names = sorted({printable(c) for c, _ in images if c is not None})
    index = {name: label for label, name in enumerate(class_names)}
    labels = [-1 if c is None else index[printable(c)] for c, _ in images]
    table = ImageTable(
        root=printable(location),
        paths=tuple(printable(name) for _, name in images),
        labels=np.asarray(labels, dtype=np.int32),
        class_names=tuple(class_names),
    )
    return with_places(table, location, [name for _, name in images], spans)


def with_places(
    table: ImageTable,
    location: str,
    names: Sequence[str],
    spans: Sequence[tuple[int, int]] | None = None,
) -> ImageTable:
    """Return `table` with the columns that `locate` reads; see `build_table`."""
    columns: dict[str, np.ndarray] = {}
    files = [location] * len(names)
    if spans is not None:
        columns[SPAN] = np.asarray(spans, dtype=np.int64)
    else:
        files = [os.path.join(location, name) for name in names]
    if location != table.root or tuple(names) != table.paths:
        columns[FILE] = np.array(files, dtype=object)
    return replace(table, columns={**table.columns, **columns})


def locate(table: ImageTable, row: int) -> Location:
    """Return where the bytes of one row lie, and which page of them it is.

    Parameters
    ----------
    table : ImageTable
        From `list_images` or `relist_images`.
    row : int
    """
    columns = table.columns
    file = columns[FILE][row] if FILE in columns else None
    page = split_page(table.paths[row])[1]
    if SPAN in columns:
        offset, n_bytes = columns[SPAN][row].tolist()
        return Location(file or table.root, offset, n_bytes, page)
    whole = file or os.path.join(table.root, table.paths[row])
    if not page or os.path.lexists(whole):  # the file itself may have such a name
        return Location(whole, page=page if file else 0)
    return Location(split_page(whole)[0], page=page)


def split_page(name: str) -> tuple[str, int]:
    """Return a name without `#page=N`, and N; 0 where there is none."""
    match = _PAGE.search(name)
    return (name[: match.start()], int(match[1])) if match else (name, 0)


def page_name(name: str, page: int) -> str:
    """Return the name of a page of a file."""
    return f"{name}#page={page}"


def image_files(table: ImageTable) -> set[str]:
    """Return the files that hold a table's images: one an image, or the tar."""
    return {locate(table, row).path for row in range(len(table))}


def fingerprint_images(table: ImageTable) -> str:
    """Return the table's fingerprint with the sizes of its files.

    A file that is missing counts as one of size -1. Contents are not read.
    """
    return table.fingerprint(locate(table, row).size() for row in range(len(table)))


def stamp_images(table: ImageTable) -> np.ndarray:
    """Return what tells each row's file from another, or from its later self.

    A hash of path, class, size and time of change; contents are not read.

    Returns
    -------
    ndarray of shape (n_images,), dtype=uint64
    """
    stamps = bytearray()
    for row, (path, label) in enumerate(zip(table.paths, table.labels, strict=True)):
        name = table.class_names[label] if label >= 0 else ""
        told = path, name, *map(str, locate(table, row).stat())
        text = "\0".join(told).encode()
        stamps += hashlib.blake2b(text, digest_size=8).digest()
    return np.frombuffer(bytes(stamps), dtype="<u8")


def digest_images(table: ImageTable, max_bytes: int) -> Iterator[str]:
    """Yield the digest of each image's bytes; "" where they cannot be read.

    Parameters
    ----------
    table : ImageTable
    max_bytes : int
        Files that are larger are not read.
    """
    for row in range(len(table)):
        location = locate(table, row)
        try:
            yield content_digest(location.read(max_bytes), location.page)
        except ImageError:
            yield ""


def printable(name: str) -> str:
    r"""Return a file name as valid UTF-8: bytes that are none become `\xNN`."""
    if name.isascii():
        return name
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def spelled(path: str, folder: str = "") -> str:
    r"""Return a printable path as the operating system spells it: `\xNN` as a byte."""
    if "\\x" not in path or os.path.lexists(os.path.join(folder, path)):
        return path
    parts = re.split(r"\\x([0-9a-f]{2})", path)
    raw = [
        bytes.fromhex(part) if k % 2 else part.encode() for k, part in enumerate(parts)
    ]
    return os.fsdecode(b"".join(raw))
