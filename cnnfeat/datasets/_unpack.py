"""Unpacking an archive without leaving its folder, and counting the images inside.

Only plain files and folders come out of an archive: links and devices are left out
with a warning, an absolute path or a `..` refuses the whole archive. The
folder appears whole or not at all.
"""

from __future__ import annotations

import lzma
import os
import secrets
import shutil
import stat
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from cnnfeat.errors import CnnfeatWarning, DownloadError
from cnnfeat.suffixes import is_image_name

MAX_RATIO = 20
"""An archive that grows more than so many times is taken for a bomb (images do not
compress: every official archive grows less than 1.5 times)."""
MIN_LIMIT = 1 << 26
"""Bytes that any archive may grow to, 64 MiB: small text archives compress well."""
MAX_DEPTH = 100
"""Folders inside each other; official archives have four at most."""
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError)


def unpack_archive(
    archive: Path, folder: Path, *, strip: str = "", nested: tuple[str, ...] = ()
) -> None:
    """Unpack a zip, tar, tar.gz or tgz file into `folder`, which must not exist.

    Parameters
    ----------
    archive : Path
        Recognised by its bytes, not by its name.
    folder : Path
        Appears by renaming once everything is in it.
    strip : str
        Leading folder of the members to leave out; members outside it are skipped.
    nested : tuple of str
        Archives inside, relative to `folder`: unpacked beside themselves, removed.

    Raises
    ------
    DownloadError
        If the archive is damaged or of another kind, holds a path that
        leaves the folder or is deeper than `MAX_DEPTH`, grows beyond
        `MAX_RATIO`, or lacks what the recipe names; or if the folder exists or cannot
        be written.

    Warns
    -----
    CnnfeatWarning
        If the archive holds links or devices: they are left out.
    """
    if folder.exists():
        raise DownloadError(f"{folder}: exists already; move it away to unpack again")
    limit = max(MIN_LIMIT, MAX_RATIO * archive.stat().st_size)
    # Named before it is made: a signal in between finds it in the `finally`.
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
    try:
        content = temporary / "content"
        content.mkdir(parents=True)
        written = _unpack(archive, content, strip, limit)
        for name in nested:
            inner = content / name
            if not inner.is_file():
                raise DownloadError(f"{archive}: expected {name} inside, not found")
            _unpack(inner, inner.parent, "", limit - written)
            inner.unlink()
        if not any(content.iterdir()):
            raise DownloadError(f"{archive}: expected a folder {strip!r}, found none")
        content.rename(folder)
    except _DAMAGED as error:
        raise DownloadError(
            f"{archive}: damaged archive ({error}); remove it and run the same "
            "command again"
        ) from error
    except OSError as error:
        raise DownloadError(f"{archive}: cannot be unpacked ({error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unpack(archive: Path, folder: Path, strip: str, limit: int) -> int:
    """Unpack one archive into an existing folder; return the bytes written."""
    if tarfile.is_tarfile(archive):
        return _unpack_tar(archive, folder, strip, limit)
    if zipfile.is_zipfile(archive):
        return _unpack_zip(archive, folder, strip, limit)
    raise DownloadError(
        f"{archive}: neither a zip nor a tar archive; remove it and run the same "
        "command again"
    )


def _unpack_tar(archive: Path, folder: Path, strip: str, limit: int) -> int:
    written = 0
    with tarfile.open(archive) as tar:
        for member in tar:
            target = _target(archive, member.name, strip)
            if target is None:
                continue
            if not (member.isfile() or member.isdir()):
                _warn_of_link(archive, member.name)
                continue
            written = _add_size(archive, written, member.size, limit)
            # Not `tar.extract`: Python before 3.11.4 has no filter for it.
            _put(folder / target, tar.extractfile(member))
    return written


def _unpack_zip(archive: Path, folder: Path, strip: str, limit: int) -> int:
    written = 0
    with zipfile.ZipFile(archive) as bundle:
        for member in bundle.infolist():
            target = _target(archive, member.filename, strip)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if target is None:
                continue
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                _warn_of_link(archive, member.filename)
                continue
            if member.flag_bits & 1:
                raise DownloadError(f"{archive}: refused: it is encrypted")
            written = _add_size(archive, written, member.file_size, limit)
            # zipfile reads no more than file_size bytes and checks the CRC.
            source = None if member.is_dir() else bundle.open(member)
            _put(folder / target, source)
    return written


def _put(place: Path, source: IO[bytes] | None) -> None:
    """Write a member's bytes, or make the folder that it is."""
    if source is None:
        place.mkdir(parents=True, exist_ok=True)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    with source, place.open("wb") as out:
        shutil.copyfileobj(source, out)


def _warn_of_link(archive: Path, name: str) -> None:
    """Say what is left out: a link could lead later members out of the folder."""
    message = f"{archive}: left out {name!r}: a link or a device, not an image"
    warnings.warn(message, CnnfeatWarning, stacklevel=5)


def _target(archive: Path, name: str, strip: str) -> PurePosixPath | None:
    """Return where a member goes, relative to the folder; None where it is left out."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in "".join(path.parts[:1]):
        raise DownloadError(f"{archive}: refused: {name!r} leaves the folder")
    if strip:
        if path == PurePosixPath(strip) or not path.is_relative_to(strip):
            return None
        path = path.relative_to(strip)
    if len(path.parts) > MAX_DEPTH:
        raise DownloadError(
            f"{archive}: refused: {str(path)[:60]!r}... is {len(path.parts)} folders "
            "deep"
        )
    return path if path.parts else None


def _add_size(archive: Path, written: int, size: int, limit: int) -> int:
    written += size
    if written > limit:
        raise DownloadError(
            f"{archive}: refused: it grows beyond {limit} bytes, far more than images "
            "can be compressed"
        )
    return written


def count_images(folder: Path, class_folders: str = "top") -> tuple[int, int]:
    """Return the number of images and of classes below a folder.

    Parameters
    ----------
    folder : Path
        The folder of class folders; a missing one holds nothing.
    class_folders : str
        "top": images stand directly in the folders of `folder`; "leaf": in any
        folder below it.
    """
    counts = [n for n in _counts(folder, class_folders) if n]
    return sum(counts), len(counts)


def _counts(folder: Path, class_folders: str) -> Iterator[int]:
    """Yield the number of images that stand directly in each folder."""
    for where, below, names in os.walk(folder):
        depth = len(Path(where).relative_to(folder).parts)
        if class_folders == "top" and depth == 1:
            below.clear()
        if depth:
            yield sum(map(is_image_name, names))
