"""What was read of another tool's file: layers, block by block, and what is beside."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cnnfeat.errors import InputError

# Columns that name the images, and their classes, the first that is there.
PATHS = (
    *("path", "paths", "image_path", "image_paths", "filename", "filenames"),
    *("file_name", "file_names", "__index_level_0__"),
)
LABELS = ("class", "classes", "label_name", "label", "labels")
_AT_ONCE = 16 * 1024 * 1024  # bytes

Take = Callable[[int, int], np.ndarray]


@dataclass(frozen=True, eq=False)
class Foreign:
    """Features of another tool, opened.

    Attributes
    ----------
    layers : dict of str to (shape, dtype)
        Of one row.
    columns : dict of str to sequence of n_images values
        Whatever else is there, row by row.
    take : dict of str to callable
        Returns rows [start, stop) of a layer; `take[layer](start, stop)`.
    told : dict
        What `cnnfeat export` said of them; empty for other tools.
    """

    where: str
    n_images: int
    layers: Mapping[str, tuple[tuple[int, ...], np.dtype]]
    columns: Mapping[str, Sequence[Any]]
    take: Mapping[str, Take]
    told: Mapping[str, Any] = field(default_factory=dict)

    def blocks(self) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """Yield the first row and a block (m, *shape), floating, of each layer."""
        row = sum(4 * int(np.prod(shape)) for shape, _ in self.layers.values())
        step = max(1, _AT_ONCE // max(1, row))
        for start in range(0, self.n_images, step):
            stop = min(start + step, self.n_images)
            yield start, {name: self.take[name](start, stop) for name in self.layers}


def floating(rows: np.ndarray) -> np.ndarray:
    """Return rows as float16 or float32, in this machine's order of bytes."""
    return np.asarray(rows, np.float16 if rows.dtype.itemsize == 2 else np.float32)


def no_layer(names: Sequence[str]) -> str:
    """Return the words for a file that has other things than features."""
    listed = ", ".join(names[:10]) or "nothing"
    return f"expected an array of numbers, a row an image, found {listed}"


def origin_of(source: str, text: str) -> dict[str, Any]:
    """Return what `cnnfeat export` has said of its rows; InputError if it is none."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise damaged(source, error) from error
    if not isinstance(told, dict):
        raise InputError(f"{source}: what it says of itself is no object")
    return told


def damaged(source: str | Path, error: BaseException) -> InputError:
    """Return the one-line error for a file that cannot be read."""
    reason = getattr(error, "strerror", None) or next(iter(str(error).splitlines()), "")
    return InputError(f"{source}: cannot be read: {reason or type(error).__name__}")
