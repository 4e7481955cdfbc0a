"""Who has seen this image: heads and weights remember what they were trained on.

Both keep a root and paths below it. The same image may be listed from another folder,
or by its absolute path in a manifest, so absolute paths are what is compared. Contents
are not: an image that was copied or moved counts as another one.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from cnnfeat.image_table import ImageTable, absolute_path


class SeenImages:
    """The images that something was trained on.

    Parameters
    ----------
    root : str
        Folder (or tar) that the paths are relative to.
    paths : iterable of str
        Relative, or absolute.
    """

    def __init__(self, root: str, paths: Iterable[str]) -> None:
        self._paths = frozenset(absolute_path(root, path) for path in paths)

    @classmethod
    def of_weights(cls, metadata: Mapping[str, Any]) -> "SeenImages":
        """Return what fine-tuned weights were trained on, by their own metadata.

        None of it, where cnnfeat did not fine-tune them.
        """
        return cls(str(metadata.get("root", "")), metadata.get("training_paths", ()))

    def __len__(self) -> int:
        return len(self._paths)

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
        asked = range(len(table)) if rows is None else np.asarray(rows).tolist()
        if not self._paths:
            return np.empty(0, np.int64)
        seen = (row for row in asked if table.absolute_path(row) in self._paths)
        return np.fromiter(seen, dtype=np.int64)
