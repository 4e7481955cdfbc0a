"""Which images are trained on, chosen on and tested on, and their pixels.

The rows are drawn as the heads' rows are, so that frozen and fine-tuned networks are
scored on the same ones. Decoded images stay in memory as uint8 where they fit.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from cnnfeat.errors import SplitError
from cnnfeat.finetune._options import FinetuneOptions
from cnnfeat.image_table import ImageTable
from cnnfeat.images import Preprocessing, load_batches
from cnnfeat.outputs import MIB
from cnnfeat.splits import Split, draw_split, inner_split, read_splits, usable_rows

_DECODED_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of an image list, no row in two parts.

    `train` are trained on, `validation` choose the epoch (out of the training rows),
    `test` are held out; all int64, sorted. `failures` maps rows to reasons.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    failures: dict[int, str]

    @property
    def training(self) -> np.ndarray:
        """What the outer split calls training rows: trained and chosen on."""
        return np.sort(np.concatenate([self.train, self.validation]))


class PixelStore:
    """uint8 pixels of rows: from memory, or decoded again whenever asked for."""

    def __init__(
        self,
        image_list: ImageTable,
        preprocessing: Preprocessing,
        workers: int,
        *,
        keep: bool,
    ) -> None:
        self._image_list = image_list
        self._preprocessing = preprocessing
        self._workers = workers
        self._keep = keep
        self._pixels: dict[int, np.ndarray] = {}  # (h, w, 3)
        self._failures: dict[int, str] = {}
        self._seen: set[int] = set()

    @property
    def row_bytes(self) -> int:
        """Bytes of one image."""
        height, width = self._preprocessing.crop_size
        return 3 * height * width

    def check(self, rows: np.ndarray) -> dict[int, str]:
        """Decode rows for the first time; return why some cannot be, by row."""
        new = np.array([row for row in rows.tolist() if row not in self._seen], int)
        for part, images, errors in self._decode(new, _DECODED_AT_ONCE):
            self._seen.update(part)
            for row, image, error in zip(part, images, errors, strict=True):
                if error:
                    self._failures[row] = error
                elif self._keep:
                    self._pixels[row] = image.copy()
        return {row: self._failures[row] for row in rows.tolist() if self.failed(row)}

    def failed(self, row: int) -> bool:
        """Return whether the row turned out to be unreadable."""
        return row in self._failures

    def batches(self, batches: Sequence[np.ndarray]) -> Iterator[torch.Tensor]:
        """Yield each batch of rows as uint8 (m, 3, h, w), channels last in memory."""
        if self._keep:
            for batch in batches:
                yield _to_tensor([self._pixels[row] for row in batch.tolist()])
            return
        yield from self._decoded_batches(batches)

    def _decoded_batches(self, batches: Sequence[np.ndarray]) -> Iterator[torch.Tensor]:
        """Decode in one stream, whatever the batches' sizes."""
        sizes = iter([len(batch) for batch in batches])
        size = next(sizes, 0)
        held: list[np.ndarray] = []
        flat = np.concatenate(batches) if len(batches) else np.array([], int)
        for _, images, _ in self._decode(flat, max(map(len, batches), default=1)):
            held.extend(images)
            while size and len(held) >= size:
                yield _to_tensor(held[:size])
                del held[:size]
                size = next(sizes, 0)

    def _decode(
        self, rows: np.ndarray, batch_size: int
    ) -> Iterator[tuple[list[int], np.ndarray, tuple[str, ...]]]:
        if not len(rows):
            return
        for batch in load_batches(
            self._image_list.take(rows),
            self._preprocessing,
            batch_size=batch_size,
            workers=self._workers,
        ):
            part = rows[batch.start : batch.start + len(batch.ok)].tolist()
            yield part, batch.images[:, 0], batch.errors


def _to_tensor(images: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)  # (m, 3, h, w)


def canvas(preprocessing: Preprocessing) -> Preprocessing:
    """Return the preprocessing of images that are yet to be augmented.

    The centre of the resized image as large as its short side: wider than the crop, of
    one size for all images.
    """
    resize = preprocessing.resize_size
    sides = (resize, resize) if isinstance(resize, int) else resize
    height, width = (
        max(a, b) for a, b in zip(sides, preprocessing.crop_size, strict=True)
    )
    return replace(preprocessing, crop_size=(height, width))


def read_rows(
    image_list: ImageTable,
    training: PixelStore,
    testing: PixelStore,
    options: FinetuneOptions,
) -> Rows:
    """Draw the rows, decode them, and draw again without those that failed.

    An unreadable image moves one row, as it does for heads, whose files know beforehand
    which images can be read.

    Raises
    ------
    SplitError
        If there are no labels, fewer than two classes, or a class has too few images.
    """
    ok = np.ones(len(image_list), dtype=bool)
    while True:
        split = _draw(image_list, ok, options)
        rows = _inner(image_list, split, options)
        evaluated = np.concatenate([rows.validation, rows.test])
        failures = {**training.check(rows.train), **testing.check(evaluated)}
        if not failures:
            break
        ok[list(failures)] = False
    _check_classes(image_list, rows)
    bad = np.flatnonzero(~ok).tolist()
    why = {**training.check(np.array(bad, int)), **testing.check(np.array(bad, int))}
    return replace(rows, failures=why)


def _draw(image_list: ImageTable, ok: np.ndarray, options: FinetuneOptions) -> Split:
    usable = usable_rows(replace(image_list, ok=ok), options.exclude_classes)
    if options.splits_file:
        splits = read_splits(options.splits_file, image_list.paths)
        if options.split_index >= len(splits):
            raise SplitError(
                f"--split-index {options.split_index}: {options.splits_file} has "
                f"{len(splits)} splits, counted from 0"
            )
        split = splits[options.split_index]
        return Split(*(part[usable[part]] for part in (split.train, split.test)))
    if options.train_per_class is None:
        return Split(np.flatnonzero(usable), np.array([], dtype=np.int64))
    return draw_split(
        image_list,
        usable=usable,
        train_per_class=options.train_per_class,
        test_per_class=options.test_per_class,
        seed=options.seed,
    )


def _inner(image_list: ImageTable, split: Split, options: FinetuneOptions) -> Rows:
    labels, names = image_list.labels, image_list.class_names
    counts = Counter(labels[split.train].tolist())
    if len(counts) < 2:
        found = ", ".join(names[k] for k in counts) or "none"
        raise SplitError(
            f"at least two classes with labelled images are needed: {found}"
        )
    if not options.validation:
        return Rows(split.train, np.array([], dtype=np.int64), split.test, {})
    single = [names[k] for k, n in sorted(counts.items()) if n < 2]
    if single:
        raise SplitError(
            f"{len(single)} classes have one training image ({', '.join(single[:5])}), "
            "and one to train on and one to stop by are needed: give more, leave them "
            "out with --exclude, or give --validation 0"
        )
    inner = inner_split(
        image_list,
        split.train,
        held_out=options.validation,
        seed=options.seed,
    )
    return Rows(inner.train, inner.test, split.test, {})


def _check_classes(image_list: ImageTable, rows: Rows) -> None:
    """Refuse test rows of classes that nothing is trained on."""
    known = set(image_list.labels[rows.training].tolist())
    tested = set(image_list.labels[rows.test].tolist())
    strange = [image_list.class_names[k] for k in sorted(tested - known)]
    if strange:
        raise SplitError(
            f"{len(strange)} classes have test images and none to train on: "
            f"{', '.join(strange[:5])}; add some or leave the classes out"
        )


def trained_classes(image_list: ImageTable, rows: Rows) -> tuple[list[str], np.ndarray]:
    """Return the class names in use and each row's class among them, -1 for others."""
    used = np.unique(image_list.labels[rows.training])
    lookup = np.full(len(image_list.class_names) + 1, -1, dtype=np.int64)
    lookup[used] = np.arange(len(used))
    return [image_list.class_names[k] for k in used], lookup[image_list.labels]


def fits(n_rows: int, row_bytes: int, budget_mib: int) -> bool:
    """Return whether so many rows fit the budget."""
    return n_rows * row_bytes <= budget_mib * MIB
