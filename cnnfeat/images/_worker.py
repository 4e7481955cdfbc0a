"""One image from its location to uint8 pixels, in this process or as a worker process.

A worker is started by `cnnfeat.images._pool` as `python -c`, not by multiprocessing, so
it runs none of the user's script, and imports only NumPy, PIL and this room. It gets
its work over a socket and leaves the pixels in memory shared with the parent. It ends
when the socket closes, and with its parent.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np

from cnnfeat.errors import ImageError
from cnnfeat.images._decode import DecodeLimits, Reading, decode_with_notes
from cnnfeat.images._preprocessing import N_CROPS, Preprocessing
from cnnfeat.images._reading import Location, content_digest
from cnnfeat.interrupts import SIGNALS
from cnnfeat.value_range import FULL, ValueRange

try:
    import resource
except ImportError:  # pragma: no cover - no such limits on Windows
    resource = None  # type: ignore[assignment]

_PR_SET_PDEATHSIG = 1  # prctl(2)
_FULL = ValueRange(FULL)


@dataclass(frozen=True)
class DecodingJob:
    """What is done to every image of a run.

    Parameters
    ----------
    preprocessing : Preprocessing
    crops : {"center", "ten", "ten-stacked"}
    limits : DecodeLimits
    decoder : {"pil", "fast", "nvjpeg"}
        A worker decodes by PIL what is left to it for "nvjpeg".
    value_range : ValueRange
        Of images with more than 8 bits.
    """

    preprocessing: Preprocessing
    crops: str
    limits: DecodeLimits
    decoder: str
    value_range: ValueRange = _FULL

    @property
    def image_shape(self) -> tuple[int, int, int, int]:
        """Return (n_crops, crop_h, crop_w, 3): one image as it lies in memory."""
        height, width = self.preprocessing.crop_size
        return N_CROPS[self.crops], height, width, 3

    def load(self, location: Location) -> tuple[np.ndarray, str, tuple[str, ...]]:
        """Return the pixels of one image, its digest, and notes.

        Returns
        -------
        pixels : ndarray of shape (n_crops, crop_h, crop_w, 3), dtype=uint8
        digest : str
            See `content_digest`.
        notes : tuple of str
            See `decode_with_notes`.

        Raises
        ------
        ImageError
            If the image cannot be read.
        """
        data, page = location.read(self.limits.file_bytes), location.page
        pixels, notes = self.decode(data, page)
        return pixels, content_digest(data, page), notes

    def decode(self, data: bytes, page: int = 0) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return pixels and notes, as `load`, of the image in the bytes of a file."""
        draft = self.preprocessing.shortest_side if self.decoder == "fast" else None
        reading = Reading(page, self.value_range, draft)
        image, notes = decode_with_notes(data, self.limits, reading)
        try:
            return self.preprocessing.apply(image, self.crops), notes
        except MemoryError as error:
            raise ImageError("not enough memory to resize it") from error


class Loaded(NamedTuple):
    """What became of an image.

    Why it failed or "", its digest or "", the seconds it took, and notes as
    `decode_with_notes` gives them.
    """

    reason: str = ""
    digest: str = ""
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


def load_into(job: DecodingJob, location: Location, pixels: np.ndarray) -> Loaded:
    """Write one image into `pixels` and say what became of it.

    Parameters
    ----------
    job : DecodingJob
        What to do to it.
    location : Location
        Where it lies.
    pixels : ndarray of shape (n_crops, crop_h, crop_w, 3), dtype=uint8
        Left as it was where the image fails.
    """
    start, reason, digest, notes = time.perf_counter(), "", "", tuple[str, ...]()
    try:
        pixels[...], digest, notes = job.load(location)
    except ImageError as error:
        reason = str(error)
    return Loaded(reason, digest, time.perf_counter() - start, notes)


def main(socket_fd: int, memory_fd: int, parent_pid: int) -> None:
    """Run a worker: receive its job, then (slot, Location) until the socket closes."""
    for number in SIGNALS:  # the parent decides when to stop
        signal.signal(number, signal.SIG_IGN)
    _die_with_parent(parent_pid)
    with Connection(socket_fd) as connection:
        try:
            job: DecodingJob = connection.recv()
            _limit_memory(job.limits.memory_bytes)
            slots = np.frombuffer(mmap.mmap(memory_fd, 0), dtype=np.uint8)
            slots = slots.reshape(-1, *job.image_shape)
            connection.send("ready")
            while True:
                slot, location = connection.recv()
                connection.send(load_into(job, location, slots[slot]))
        except (EOFError, ConnectionError):
            return  # the parent is done with us, or gone


def _limit_memory(n_bytes: int) -> None:
    if resource is None:
        return
    try:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        if hard != resource.RLIM_INFINITY:
            n_bytes = min(n_bytes, hard)
        resource.setrlimit(resource.RLIMIT_AS, (n_bytes, hard))
    except (OSError, ValueError):
        return  # no such limit on this system: the pixel limit still holds


def _die_with_parent(parent_pid: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent_pid:  # it died before the call
            os._exit(1)
