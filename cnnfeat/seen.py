"""Who has seen this image: heads and weights remember what they were trained on.

Contents are compared where both sides know them: a head, weights and feature files keep
a digest of each image's bytes, so that a copy is known under any name, and another
image of the same name is not. Where a file of an earlier version has none, absolute
paths are compared: the same image may be listed from another folder, or in a manifest.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property, reduce
from operator import or_
from typing import Any

import numpy as np

from cnnfeat.image_table import ImageTable, absolute_path

# What weights say of it, each earlier training once more under "training_before".
TRAINED_ON = ("root", "training_paths", "training_digests")


class SeenImages:
    """The images that something was trained on.

    Parameters
    ----------
    root : str
        Folder (or tar) that the paths are relative to.
    paths : sequence of str
        Relative, or absolute.
    digests : sequence of str, optional
        Of the images' bytes, one a path; empty where not known.
    """

    def __init__(
        self, root: str, paths: Sequence[str], digests: Sequence[str] = ()
    ) -> None:
        known = digests if len(digests) == len(paths) else ("",) * len(paths)
        self._images = frozenset(
            (absolute_path(root, path), digest)
            for path, digest in zip(paths, known, strict=True)
        )

    @classmethod
    def of_weights(cls, metadata: Mapping[str, Any]) -> "SeenImages":
        """Return what fine-tuned weights were trained on, by their own metadata.

        None of it, where cnnfeat did not fine-tune them.
        """
        told = [metadata, *metadata.get("training_before", ())]
        parts = (
            cls(
                str(one.get("root", "")),
                one.get("training_paths", ()),
                one.get("training_digests", ()),
            )
            for one in told
        )
        return reduce(or_, parts)

    def __len__(self) -> int:
        return len(self._images)

    def __or__(self, other: "SeenImages") -> "SeenImages":
        """Return the images that one of the two has seen."""
        both = SeenImages("", ())
        both._images = self._images | other._images
        return both

    @cached_property
    def _digests(self) -> frozenset[str]:
        return frozenset(digest for _, digest in self._images if digest)

    @cached_property
    def _paths(self) -> frozenset[str]:
        return frozenset(path for path, _ in self._images)

    @cached_property
    def _paths_alone(self) -> frozenset[str]:
        """Paths of the images whose contents are not known."""
        return frozenset(path for path, digest in self._images if not digest)

    def among(self, table: ImageTable, rows: np.ndarray | None = None) -> np.ndarray:
        """Return which rows of a table are among the images seen.

        Parameters
        ----------
        table : ImageTable
        rows : ndarray of shape (m,), dtype=int, optional
            The rows to look at; all by default.

        Returns
        -------
        ndarray of dtype=int64
            Those of `rows` that have been seen, in their order.
        """
        asked = np.arange(len(table)) if rows is None else np.asarray(rows)
        if not self._images:
            return np.empty(0, np.int64)
        told = zip(asked.tolist(), table.digests(asked), strict=True)
        seen = (row for row, digest in told if self._has(table, row, digest))
        return np.fromiter(seen, dtype=np.int64)

    def _has(self, table: ImageTable, row: int, digest: str) -> bool:
        if digest in self._digests:
            return True
        by_path = self._paths_alone if digest else self._paths
        return bool(by_path) and table.absolute_path(row) in by_path
