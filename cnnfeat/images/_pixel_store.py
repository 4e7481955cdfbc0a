"""Decoded pixels of an image list's rows, asked for again and again."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from cnnfeat.image_table import ImageTable
from cnnfeat.images._loading import Batch, load_batches
from cnnfeat.images._preprocessing import Preprocessing

_DECODED_AT_ONCE = 64


class PixelStore:
    """uint8 pixels of rows: from memory where all fit, else decoded at each request.

    Parameters
    ----------
    image_list : ImageTable
    preprocessing : Preprocessing
        Resize and centre crop.
    workers : int
        See `load_batches`.
    memory_bytes : int
        What the pixels of all rows may take.
    """

    def __init__(
        self,
        image_list: ImageTable,
        preprocessing: Preprocessing,
        *,
        workers: int,
        memory_bytes: int,
    ) -> None:
        self._image_list = image_list
        self._preprocessing = preprocessing
        self._workers = workers
        height, width = preprocessing.crop_size
        self._keep = len(image_list) * 3 * height * width <= memory_bytes
        self._pixels: dict[int, np.ndarray] = {}  # (1, h, w, 3)
        self._failures: dict[int, str] = {}
        self._digests: dict[int, str] = {}
        self._seen: set[int] = set()

    def failures(self, rows: np.ndarray) -> dict[int, str]:
        """Return why some of the rows cannot be decoded, by row; each is tried once."""
        new = [row for row in rows.tolist() if row not in self._seen]
        self._seen.update(new)
        for row, pixels, error, digest in self._decode(
            new, _DECODED_AT_ONCE, warns=True
        ):
            if error:
                self._failures[row] = error
                continue
            self._digests[row] = digest
            if self._keep:
                self._pixels[row] = pixels.copy()
        return {r: self._failures[r] for r in rows.tolist() if r in self._failures}

    @property
    def digests(self) -> dict[int, str]:
        """The digests of the images' bytes, by row: of those that were asked for."""
        return dict(self._digests)

    def batches(
        self,
        batches: Sequence[np.ndarray],
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> Generator[np.ndarray, None, None]:
        """Yield the pixels of each batch of rows.

        Parameters
        ----------
        batches : sequence of ndarray of shape (m,), dtype=int
            Rows that can be decoded: see `failures`.
        is_wanted : callable () -> bool
            Looked at now and then while workers decode; false ends the batches.

        Yields
        ------
        ndarray of shape (m, 1, h, w, 3), dtype=uint8
        """
        if self._keep:
            for batch in batches:
                self.failures(batch)  # decodes those that are new
                yield np.stack([self._pixels[row] for row in batch.tolist()])
            return
        rows = [row for batch in batches for row in batch.tolist()]
        decoded = self._decode(rows, max(map(len, batches), default=1), is_wanted)
        for batch in batches:
            yield np.stack([pixels for _, pixels, *_ in islice(decoded, len(batch))])

    def _decode(
        self,
        rows: Sequence[int],
        batch_size: int,
        is_wanted: Callable[[], bool] = lambda: True,
        warns: bool = False,
    ) -> Iterator[tuple[int, np.ndarray, str, str]]:
        """Yield each row, its pixels (1, h, w, 3), why there are none, and digest."""
        if not rows:
            return
        for batch in load_batches(
            self._image_list.take(np.asarray(rows)),
            self._preprocessing,
            batch_size=batch_size,
            workers=self._workers,
            is_wanted=is_wanted,
            warns=warns,
        ):
            part = rows[batch.start : batch.start + len(batch.ok)]
            yield from zip(
                part, batch.images_nhwc, batch.errors, batch.digests, strict=True
            )


@dataclass(frozen=True, eq=False)
class StoredImages:
    """Rows of a PixelStore, which can all be decoded, for an extractor."""

    store: PixelStore
    rows: np.ndarray

    @property
    def n_images(self) -> int:
        """Rows in all."""
        return len(self.rows)

    def batches(
        self,
        batch_size: int,
        first_row: int = 0,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> Generator[Batch, None, None]:
        """Yield batches of nearly equal sizes from `first_row` on."""
        rows = self.rows[first_row:]
        parts = np.array_split(rows, max(1, -(-len(rows) // batch_size)))
        for part, pixels in zip(
            parts, self.store.batches(parts, is_wanted), strict=True
        ):
            m = len(part)
            yield Batch(first_row, pixels, np.ones(m, dtype=bool), ("",) * m)
            first_row += m
