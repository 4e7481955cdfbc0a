"""Images in a tar, read in place: nothing is ever extracted.

Labels follow webdataset: `key.jpg` has its class name in `key.cls`, `key.txt` or
`key.json` (a string, a number, or an object with `label`, `cls` or `class`), the key
ending at the first dot of the file name. Without such a member the class is the folder
that the image lies in; without a folder there is none. Rows are sorted by class, then
path, as in a folder. Only regular members count. A compressed tar gives no way to reach
one image without reading all before it, and is refused. So is a damaged or a cut one:
headers must follow each other up to the two blocks of zeros that end an archive. After
them only zeros may come, or another whole archive, whose members count as well.
"""

import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO

from cnnfeat.errors import ImageError, InputError
from cnnfeat.image_table import ImageTable
from cnnfeat.images._places import build_table, printable
from cnnfeat.images._reading import Location
from cnnfeat.suffixes import is_image_name

# In the order in which they are asked.
_LABEL_SUFFIXES = ("cls", "txt", "json")
_MAX_LABEL_BYTES = 2**16
_COMPRESSED = {
    b"\x1f\x8b": "gunzip",
    b"BZh": "bunzip2",
    b"\xfd7zXZ": "unxz",
    b"\x28\xb5\x2f\xfd": "unzstd",
}
# What tarfile raises at headers that make no sense.
_DAMAGE = (
    *(tarfile.TarError, OSError, EOFError, ValueError, OverflowError),
    *(MemoryError, RecursionError),
)
_END_BYTES = 2 * tarfile.BLOCKSIZE  # of the zeros that end an archive
_Span = tuple[int, int]  # offset and length in bytes


def list_tar(path: str) -> ImageTable:
    """Return the images of an uncompressed tar.

    Raises
    ------
    InputError
        If the file is compressed, no tar, damaged, cut, holds no images, names one
        twice, or a label in it cannot be understood.
    """
    where, location = printable(path), os.path.abspath(path)
    _refuse_compressed(path)
    members = _regular_members(path)
    images = [name for name in members if _is_visible_image(name)]
    if not images:
        raise InputError(
            f"{where}: no images in this tar; expected members with an image suffix "
            f"(.jpg, .png, ...), found {len(members)} other files"
        )
    labelled = [(_class_name(where, location, name, members), name) for name in images]
    # No class sorts before any; it may stand beside classes only in a mixed tar.
    labelled.sort(key=lambda image: (image[0] is not None, image[0] or "", image[1]))
    return build_table(location, labelled, [members[name] for _, name in labelled])


def _refuse_compressed(path: str) -> None:
    try:
        with open(path, "rb") as file:
            start = file.read(8)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise InputError(f"{printable(path)}: cannot be read: {reason}") from error
    for magic, cure in _COMPRESSED.items():
        if start.startswith(magic):
            raise InputError(
                f"{printable(path)}: compressed; images are read in place, which needs "
                f"a plain tar: {cure} it first"
            )


def _regular_members(path: str) -> dict[str, _Span]:
    """Return offset and length of each regular member, by its name without `./`."""
    members: dict[str, _Span] = {}
    for member in _members(path):
        # A sparse member does not lie in one piece.
        if not member.isreg() or member.issparse():
            continue
        name = member.name.removeprefix("./")
        if name in members:
            raise InputError(
                f"{printable(path)}: {printable(name)} is in this tar twice"
            )
        members[name] = (member.offset_data, member.size)
    return members


def _members(path: str) -> Iterator[tarfile.TarInfo]:
    """Yield every member, also those of whole archives that follow the first one."""
    start: int | None = 0
    position, size = 0, 0  # position: of the header that comes next
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            while start is not None:
                position = file.seek(start)
                with tarfile.open(
                    fileobj=file, mode="r:", errors="surrogateescape"
                ) as archive:
                    for member in archive:
                        if archive.offset <= position:
                            raise tarfile.ReadError("a member of negative size")
                        position = archive.offset
                        yield member
                start = _next_archive(file, position)
    except _DAMAGE as error:
        raise InputError(
            f"{printable(path)}: neither a folder, a .csv or .tsv manifest, an image "
            f"nor a whole tar: {error} at byte {min(position, size):,}; copy or make "
            "it again"
        ) from error


def _next_archive(file: IO[bytes], end: int) -> int | None:
    """Return where another archive begins after the members that end at `end`.

    tarfile stops without a word at a damaged header, and at the end of the file.
    """
    file.seek(end)
    marker = file.read(_END_BYTES)
    if marker != bytes(_END_BYTES):
        raise tarfile.ReadError("damaged or cut")
    while chunk := file.read(2**20):
        if rest := chunk.lstrip(b"\0"):
            position = file.tell() - len(rest)
            return position - position % tarfile.BLOCKSIZE
    return None


def _is_visible_image(name: str) -> bool:
    parts = name.split("/")
    return is_image_name(parts[-1]) and not any(p.startswith(".") for p in parts)


def _class_name(
    where: str, location: str, name: str, members: dict[str, _Span]
) -> str | None:
    folder, _, base = name.rpartition("/")
    key = f"{folder}/{base.split('.')[0]}" if folder else base.split(".")[0]
    for suffix in _LABEL_SUFFIXES:
        span = members.get(f"{key}.{suffix}")
        if span is not None:
            return _read_label(f"{where}: {printable(key)}.{suffix}", location, span)
    return PurePosixPath(folder).name or None


def _read_label(where: str, location: str, span: _Span) -> str:
    try:
        text = Location(location, *span).read(_MAX_LABEL_BYTES).decode("utf-8").strip()
        if where.endswith(".json"):
            text = _label_in_json(json.loads(text))
    except (ImageError, ValueError, RecursionError) as error:
        raise InputError(f"{where}: no label can be read from it: {error}") from error
    if not text or "\n" in text or "\0" in text:
        raise InputError(f"{where}: expected a class name on one line, found {text!a}")
    return text


def _label_in_json(value: object) -> str:
    if isinstance(value, dict):
        found = [value[key] for key in ("label", "cls", "class") if key in value]
        value = found[0] if found else None
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("expected a string or a whole number, or one under 'label'")
    return str(value)
