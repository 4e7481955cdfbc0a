"""Pages of files that hold several: rows of their own, named `file.tif#page=2`.

Pages count from 1, as in the addresses of PDF pages (RFC 8118).
"""

import re
from dataclasses import replace

import numpy as np

from cnnfeat.errors import DataError, ImageError
from cnnfeat.image_table import ImageTable
from cnnfeat.images._decode import DEFAULT_LIMITS, count_pages
from cnnfeat.images._places import locate, page_name

FIRST, ALL = "first", "all"


def take_pages(table: ImageTable, pages: str) -> ImageTable:
    """Return the table with a row for each page that is asked for.

    Parameters
    ----------
    table : ImageTable
        Rows that name a page already stay as they are.
    pages : str
        `first` leaves the table as it is, and reading warns of files with several.
        `all` opens each file and gives those with several a row a page. A number, from
        1, is that page of each file; one that has no such page keeps a failed row.

    Raises
    ------
    DataError
        If `pages` is none of these.
    """
    if pages == FIRST:
        return table
    if pages != ALL and not re.fullmatch(r"[1-9]\d{0,8}", pages):
        raise DataError(f"pages: expected first, all or a number from 1, not {pages!r}")
    rows: list[int] = []
    paths: list[str] = []
    for row, path in enumerate(table.paths):
        names = [path]
        if locate(table, row).page == 0:
            numbers = _all_of(table, row) if pages == ALL else [int(pages)]
            names = [page_name(path, number) for number in numbers] or [path]
        rows += [row] * len(names)
        paths += names
    taken = table.take(np.asarray(rows, dtype=int))
    return replace(taken, paths=tuple(paths))


def _all_of(table: ImageTable, row: int) -> range:
    """Return the pages of a file, none where it has one or cannot be read."""
    try:
        data = locate(table, row).read(DEFAULT_LIMITS.file_bytes)
        n_pages = count_pages(data)
    except ImageError:  # it keeps its row, which will say so
        return range(0)
    return range(1, n_pages + 1) if n_pages > 1 else range(0)
