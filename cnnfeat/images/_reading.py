"""Where the bytes of one image lie, reading them, and telling them from others.

The bytes are a file, or a span of a tar.

A `Location` is small and knows nothing of the list it came from, so that a worker
process can be told of one image at a time.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from dataclasses import dataclass

from cnnfeat.errors import ImageError


@dataclass(frozen=True, slots=True)
class Location:
    """The bytes of one image.

    Parameters
    ----------
    path : str
        The file, or the tar that holds it, as the operating system spells it
        (`os.fsdecode`: undecodable bytes are surrogates).
    offset, n_bytes : int
        The span inside a tar; `n_bytes` is -1 for a whole file.
    page : int
        Of a file with several, from 1; 0 where none is named.
    """

    path: str
    offset: int = 0
    n_bytes: int = -1
    page: int = 0

    def size(self) -> int:
        """Return the image's length in bytes, or -1 where the file is not there."""
        if self.n_bytes >= 0:
            return self.n_bytes
        try:
            return os.stat(self.path).st_size
        except (OSError, ValueError):
            return -1

    def stat(self) -> tuple[int, int]:
        """Return length in bytes, and when the file was last changed, in ns.

        Of an image in a tar the time is the tar's; -1 and -1 where no file is there.
        """
        try:
            status = os.stat(self.path)
        except (OSError, ValueError):
            return -1, -1
        n_bytes = self.n_bytes if self.n_bytes >= 0 else status.st_size
        return n_bytes, status.st_mtime_ns

    def read(self, max_bytes: int | None = None) -> bytes:
        """Return the bytes of the image.

        Raises
        ------
        ImageError
            If they cannot be read, are cut short, do not belong to a regular file, or
            are more than `max_bytes`.
        """
        try:
            # O_NONBLOCK: a pipe named x.jpg must not hold us for ever.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            raise ImageError(f"cannot be opened: {_why(error)}") from error
        with os.fdopen(descriptor, "rb", buffering=0, closefd=True) as file:
            return self._read_from(file.fileno(), max_bytes)

    def _read_from(self, descriptor: int, max_bytes: int | None) -> bytes:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("not a regular file")
        expected = self.n_bytes if self.n_bytes >= 0 else status.st_size
        if max_bytes is not None and expected > max_bytes:
            raise ImageError(f"{expected:,} bytes is over the limit of {max_bytes:,}")
        parts, position, left = [], self.offset, expected
        while left:
            try:
                part = os.pread(descriptor, min(left, 2**30), position)
            except OSError as error:
                raise ImageError(f"cannot be read: {_why(error)}") from error
            if not part:
                raise ImageError(
                    f"cut short: {expected - left:,} of {expected:,} bytes are there"
                )
            parts.append(part)
            position, left = position + len(part), left - len(part)
        return b"".join(parts)


def content_digest(data: bytes, page: int = 0) -> str:
    """Return 32 hexadecimal digits (BLAKE2b) that stand for the bytes of an image.

    A copy has the same ones whatever it is called; an image saved anew has not. The
    pages of one file differ, and the first is what stands for the file.
    """
    salt = page.to_bytes(8) if page > 1 else b""
    return hashlib.blake2b(data, digest_size=16, salt=salt).hexdigest()


def _why(error: OSError | ValueError) -> str:
    """Return the system's words for an error, in English and without the path."""
    if isinstance(error, ValueError):
        return "the file name holds a zero byte"
    if error.errno == errno.ENOENT:
        return "no such file"
    return (error.strerror or type(error).__name__).lower()
