"""Several sources of images as one table."""

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cnnfeat.errors import InputError
from cnnfeat.image_table import ImageTable
from cnnfeat.images._manifest import name_under
from cnnfeat.images._places import SPAN, build_table, printable, spelled


def join_tables(tables: Sequence[ImageTable], sources: Sequence[str]) -> ImageTable:
    """Return the images of several sources, one source after the other.

    Parameters
    ----------
    tables : sequence of ImageTable
        One a source.
    sources : sequence of str
        What the user called them.

    Returns
    -------
    ImageTable
        Its root is the deepest folder above all of them; classes of one name are one.
        A column that a source does not have is empty there.

    Raises
    ------
    InputError
        If an image is named twice, or one of the sources is a tar.
    """
    root = os.path.commonpath([spelled(table.root) for table in tables])
    images: list[tuple[str | None, str]] = []
    source_of: dict[str, str] = {}
    for table, source in zip(tables, sources, strict=True):
        if SPAN in table.columns:
            raise InputError(
                f"{printable(source)}: a tar is read by itself: give its images in a "
                "command of their own"
            )
        for row, label in enumerate(table.labels.tolist()):
            name = name_under(root, spelled(table.absolute_path(row)))
            if name in source_of:
                raise InputError(
                    f"{printable(source)}: {printable(name)} is named by "
                    f"{printable(source_of[name])} already; name each image once"
                )
            source_of[name] = source
            images.append((table.class_names[label] if label >= 0 else None, name))
    joined = build_table(root, images)
    return replace(joined, columns={**joined.columns, **_own_columns(tables)})


def _own_columns(tables: Sequence[ImageTable]) -> dict[str, np.ndarray]:
    names = dict.fromkeys(name for table in tables for name in table.own_columns)
    return {
        name: np.concatenate(
            [
                table.own_columns.get(name, np.full(len(table), "", dtype=object))
                for table in tables
            ]
        )
        for name in names
    }
