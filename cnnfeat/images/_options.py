"""What images are named by, and how tables of images and of labels are read."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

Sources = str | Path | Sequence[str | Path]


def sources_of(source: Sources) -> tuple[str, ...]:
    """Return what `list_images` takes as a tuple of names."""
    one = isinstance(source, str | Path)
    return tuple(map(os.fspath, (source,) if one else source))  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class ManifestOptions:
    """How a table of images is read.

    Parameters
    ----------
    path_column, label_column : str or None
        Names in the header; None: `path` and `label`, in any case.
    root : str or None
        The folder that relative paths start from; None: the table's own, or for
        standard input the current one.
    sep : str or None
        What stands between two fields; None: found out by the header, among comma,
        tab, semicolon and bar.
    """

    path_column: str | None = None
    label_column: str | None = None
    root: str | None = None
    sep: str | None = None


@dataclass(frozen=True, kw_only=True)
class LabelOptions(ManifestOptions):
    """Where the labels come from, if not from the images' own table.

    `labels_file` is a table with a column of paths and one of labels; the other fields
    say how it is read. Without it, `label_column` is a column that was kept with the
    images.
    """

    labels_file: str | None = None
