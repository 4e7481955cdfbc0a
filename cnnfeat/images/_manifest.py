"""Images named one by one: a CSV or TSV manifest, or lines on standard input.

A manifest has a header with a column `path` and, optionally, one named `label`; other
columns are ignored. Paths are relative to the manifest's folder (on standard input: to
the current folder). The order is kept. A label is a class name; an empty one is none.
"""

import csv
import os
from collections.abc import Iterable, Iterator

from cnnfeat.errors import InputError
from cnnfeat.image_table import ImageTable
from cnnfeat.images._places import build_table, printable


def list_manifest(path: str) -> ImageTable:
    """Return the images that a CSV (`,`) or TSV (tab) file names.

    Raises
    ------
    InputError
        If the file cannot be read, has no `path` column, a row of another length than
        its header, an empty path, one that is a folder or appears twice, or no row at
        all; the message gives the line number.
    """
    where = printable(path)
    folder = os.path.dirname(os.path.abspath(path))
    delimiter = "\t" if path.lower().endswith(".tsv") else ","
    try:
        # surrogateescape: names that are not UTF-8 are found all the same.
        with open(
            path, encoding="utf-8-sig", errors="surrogateescape", newline=""
        ) as f:
            rows = csv.reader(
                f, delimiter=delimiter, strict=True, skipinitialspace=True
            )
            return _from_rows(where, folder, ((rows.line_num, row) for row in rows))
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise InputError(f"{where}: the manifest cannot be read: {reason}") from error
    except csv.Error as error:
        raise InputError(f"{where}: line {rows.line_num}: {error}") from error


def list_lines(lines: Iterable[str]) -> ImageTable:
    """Return the images named by lines, one path each; blank lines are ignored.

    Raises
    ------
    InputError
        If there is no path, or one is a folder or appears twice.
    """
    folder = os.getcwd()
    numbered = ((n, line.strip("\r\n")) for n, line in enumerate(lines, 1))
    paths: list[_Row] = [(n, None, path) for n, path in numbered if path.strip()]
    return _build("standard input", folder, paths)


_Row = tuple[int, str | None, str]  # line number, class name, path


def _from_rows(
    where: str, folder: str, rows: Iterator[tuple[int, list[str]]]
) -> ImageTable:
    line, header = next(((n, row) for n, row in rows if row), (1, []))
    names = [name.strip().lower() for name in header]
    if names.count("path") != 1 or names.count("label") > 1:
        raise InputError(
            f"{where}: line {line}: expected a header with one column named path and "
            f"at most one named label, found {printable(', '.join(header)) or 'none'}"
        )
    path_column = names.index("path")
    label_column = names.index("label") if "label" in names else None
    images: list[_Row] = []
    for line, row in rows:
        if not row:
            continue  # a blank line
        if len(row) != len(header):
            raise InputError(
                f"{where}: line {line}: expected {len(header)} fields as in the "
                f"header, found {len(row)}"
            )
        label = "" if label_column is None else row[label_column].strip()
        images.append((line, label or None, row[path_column]))
    return _build(where, folder, images)


def _build(where: str, folder: str, rows: list[_Row]) -> ImageTable:
    if not rows:
        raise InputError(f"{where}: names no images; expected one path a line")
    seen: dict[str, int] = {}
    images = []
    for line, label, path in rows:
        name = _under(folder, path)
        if not name.strip() or "\0" in name:
            raise InputError(f"{where}: line {line}: {path!a} is not a path")
        if os.path.isdir(os.path.join(folder, name)):
            raise InputError(
                f"{where}: line {line}: {printable(path)} is a folder: name the images "
                "in it, or give the folder itself in place of the list"
            )
        if name in seen:
            raise InputError(
                f"{where}: line {line}: {printable(path)} stands on line {seen[name]} "
                "already; name each image once"
            )
        seen[name] = line
        images.append((label, name))
    return build_table(folder, images)


def _under(folder: str, path: str) -> str:
    """Return a path relative to the folder where it lies under it, else as it is."""
    name = path
    if os.path.isabs(name) and name.startswith(folder.rstrip("/") + "/"):
        name = name[len(folder.rstrip("/")) + 1 :]
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return name
