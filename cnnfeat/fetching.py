"""Fetching one file over http(s): resumed, bounded in retries, checked, whole or not.

Bytes go to `<file>.part`; only a file of the right size and digest gets its name.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from cnnfeat.errors import DownloadError
from cnnfeat.outputs import open_own, system_reason

Progress = Callable[[str, int, int | None], None]
"""Called with a file name, the bytes so far, and all bytes where known."""

_BLOCK = 1 << 20
_MAX_ATTEMPTS = 100
"""Connections of one run, however far each moved the download."""
_BROKEN = (OSError, http.client.HTTPException)
"""What a broken connection raises; urllib.error.URLError is an OSError."""


class Remote(Protocol):
    """What is known of a file that is somewhere else; see `RemoteFile`."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    @property
    def url(self) -> str:
        """Http or https."""
        ...

    @property
    def size(self) -> int | None:
        """Bytes, where they are known."""
        ...

    @property
    def digest(self) -> tuple[str, str] | None:
        """Algorithm and hexadecimal digest, where they are known."""
        ...


@dataclass(frozen=True)
class RemoteFile:
    """One file to fetch.

    Parameters
    ----------
    name : str
        For messages.
    url : str
        http or https.
    size : int, optional
        Bytes; None where none is published.
    digest : tuple of (str, str), optional
        Algorithm, and the hexadecimal digest or its first digits.
    """

    name: str
    url: str
    size: int | None = None
    digest: tuple[str, str] | None = None


def fetch_file(
    file: Remote,
    path: Path,
    *,
    progress: Progress | None = None,
    retries: int = 5,
    timeout: float = 30.0,
    backoff: float = 1.0,
) -> None:
    """Fetch a file to `path`; a file that is there already is only checked.

    Parameters
    ----------
    file : RemoteFile, or a data set's FileRecipe
        Address, and size and digest where published.
    path : Path
        The file's final place; its folder exists.
    progress : callable, optional
        Called after each block with (name, bytes so far, all bytes or None).
    retries : int
        Attempts in a row without a new byte before giving up.
    timeout : float
        Seconds without an answer that count as a broken connection.
    backoff : float
        Seconds before the second attempt, doubled after each further one.

    Raises
    ------
    DownloadError
        If the server cannot be reached, refuses, breaks off too often; if the disk is
        full; or if what arrived (or was there) has another size or digest than
        published.
    """
    part = path.with_name(path.name + ".part")
    if path.exists():
        _check(file, path, path)
        return
    failures = 0
    for attempt in range(_MAX_ATTEMPTS):
        before = _size(part)
        try:
            _fetch_once(file, part, progress, timeout)
            break
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500 and error.code not in (408, 429):
                raise DownloadError(
                    f"{file.url}: the server answered {error.code} {error.reason}; "
                    f"{_by_hand(path)}"
                ) from error
            cause: Exception = error
        except _BROKEN as error:
            cause = error
        # Whatever moved forward is not counted: a slow line may break off often.
        failures = 1 if _size(part) > before else failures + 1
        if failures >= retries or attempt == _MAX_ATTEMPTS - 1:
            raise DownloadError(
                f"{file.url}: cannot be fetched ({_reason(cause)}), {_size(part)} "
                f"bytes kept to resume; {_by_hand(path)}"
            ) from cause
        time.sleep(min(backoff * 2 ** (failures - 1), 60.0))
    _check(file, part, path)
    part.replace(path)


def _fetch_once(
    file: Remote, part: Path, progress: Progress | None, timeout: float
) -> None:
    """Fetch the missing bytes in one connection; raise when it breaks off."""
    start = _size(part)
    if file.size is not None and start >= file.size:
        return  # complete, or too long: the check says which
    headers = {"User-Agent": "cnnfeat", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(file.url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not start:
            raise
        error.close()
        if error.headers.get("Content-Range") == f"bytes */{start}":
            return  # nothing is missing
        part.unlink()  # the kept bytes are of another file: start over
        raise ConnectionError("the kept part does not fit the file") from error
    with response:
        resumed = response.status == 206 and _starts_at(response, start)
        if start and response.status == 206 and not resumed:
            part.unlink()
            raise ConnectionError("the server sent another range than asked for")
        done = start if resumed else 0
        total = _total(response, done)
        if file.size is not None and total not in (None, file.size):
            raise DownloadError(
                f"{file.url}: expected {file.size} bytes, the server announces "
                f"{total}; the file may have changed, see its official page"
            )
        with _open(part, resumed) as out:
            while block := response.read(_BLOCK):
                _write(out, block, part)
                done += len(block)
                if file.size is not None and done > file.size:
                    break  # a server that never ends may not fill the disk
                if progress is not None:
                    progress(file.name, done, file.size or total)
    if total is not None and done < total:
        raise ConnectionError(f"broke off after {done} of {total} bytes")
    if total is None and file.size is not None and done < file.size:
        raise ConnectionError(f"broke off after {done} of {file.size} bytes")


def _open(part: Path, resumed: bool) -> IO[bytes]:
    try:
        return open_own(part, "ab" if resumed else "wb", buffering=0)
    except OSError as error:
        raise _unwritten(part, error) from error


def _write(out: IO[bytes], block: bytes, part: Path) -> None:
    """Write all of a block; a full disk is no broken connection."""
    left = memoryview(block)
    try:
        while left:
            left = left[out.write(left) :]
    except OSError as error:
        raise _unwritten(part, error) from error


def _unwritten(part: Path, error: OSError) -> DownloadError:
    return DownloadError(
        f"{part}: cannot be written: {system_reason(error)}; {_size(part)} bytes are "
        "kept, and the same command goes on from there"
    )


def _starts_at(response: http.client.HTTPResponse, start: int) -> bool:
    """Say whether a 206 answer begins at the byte asked for."""
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return found is not None and int(found.group(1)) == start


def _total(response: http.client.HTTPResponse, done: int) -> int | None:
    """Return the whole file's size as the server announces it."""
    length = response.headers.get("Content-Length", "")
    return done + int(length) if length.isdecimal() else None


def _check(file: Remote, found: Path, path: Path) -> None:
    """Compare size and digest with those published; wrong bytes are set aside."""
    size = found.stat().st_size
    wrong = None
    if file.size is not None and size != file.size:
        wrong = f"expected {file.size} bytes, found {size}"
    elif file.digest is not None:
        algorithm, expected = file.digest
        with found.open("rb") as stream:
            digest = hashlib.file_digest(stream, algorithm).hexdigest()
        if not digest.startswith(expected):
            wrong = f"expected {algorithm} {expected}, found {digest}"
    if wrong:
        aside = path.with_name(path.name + ".wrong")
        found.replace(aside)
        raise DownloadError(
            f"{path.name}: {wrong}; set aside as {aside}, run the same command again "
            f"to fetch it again from {file.url}"
        )


def _by_hand(path: Path) -> str:
    return f"fetch it by hand, put it at {path}, and run the same command again"


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    return " ".join(
        str(getattr(error, "reason", error) or type(error).__name__).split()
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
