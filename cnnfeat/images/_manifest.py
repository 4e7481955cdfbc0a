"""Images named one by one: in a table (CSV, TSV), or as lines on standard input.

A table has a header with a column of paths and maybe one of labels; all other columns
are kept as text. Paths are relative to the table's folder (on standard input: to the
current folder), or to a folder that the caller names. The order is kept. A label is a
class name; an empty one is none.
"""

import csv
import difflib
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cnnfeat.errors import InputError
from cnnfeat.image_table import ImageTable
from cnnfeat.images._options import ManifestOptions
from cnnfeat.images._places import build_table, printable

_SEPARATORS = (",", "\t", ";", "|")


@dataclass(frozen=True)
class Manifest:
    """What a table of images says, row by row.

    Parameters
    ----------
    where : str
        The file, as messages name it.
    folder : str
        Absolute; relative paths start there.
    lines : list of int
        The line of each row.
    paths : list of str
    labels : list of str or None
        None where there is no label.
    columns : dict of str to list of str
        All other columns.
    """

    where: str
    folder: str
    lines: list[int]
    paths: list[str]
    labels: list[str | None]
    columns: dict[str, list[str]]


def list_manifest(path: str, options: ManifestOptions) -> ImageTable:
    """Return the images that a table names.

    Raises
    ------
    InputError
        As `read_manifest`, and if a path is empty, a folder or appears twice, or no row
        is there; the message gives the line number.
    """
    return _build(read_manifest(path, options))


def read_manifest(path: str, options: ManifestOptions) -> Manifest:
    """Read a table of images.

    Raises
    ------
    InputError
        If the file cannot be read, a column asked for is not there, or a row is of
        another length than the header.
    """
    where = printable(path)
    folder = os.path.abspath(options.root or os.path.dirname(os.path.abspath(path)))
    if options.sep is None and path.lower().endswith(".tsv"):
        options = replace(options, sep="\t")
    try:
        # surrogateescape: names that are not UTF-8 are found all the same.
        with open(
            path, encoding="utf-8-sig", errors="surrogateescape", newline=""
        ) as file:
            return _read(where, folder, file.read(), options)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise InputError(f"{where}: the manifest cannot be read: {reason}") from error


def list_stdin(lines: Iterable[str], options: ManifestOptions) -> ImageTable:
    """Return the images named on standard input.

    They are paths that end in NUL, where there is one (`find -print0`); a table, where
    the first line is a header with the column of paths; or one path a line, blank lines
    being ignored.

    Raises
    ------
    InputError
        If there is no path, or one is a folder or appears twice; as `read_manifest`
        for a table.
    """
    where, folder = "standard input", os.path.abspath(options.root or os.getcwd())
    text = "".join(line if line[-1:] in "\n\0" else f"{line}\n" for line in lines)
    if "\0" in text:
        names = text.removesuffix("\n").split("\0")
    elif _is_table(text, options):
        return _build(_read(where, folder, text.removeprefix("\ufeff"), options))
    else:
        names = [line.strip("\r") for line in text.split("\n")]
    numbered = [(n, name) for n, name in enumerate(names, 1) if name.strip()]
    paths = [name for _, name in numbered]
    lines_of = [n for n, _ in numbered]
    return _build(Manifest(where, folder, lines_of, paths, [None] * len(paths), {}))


def _is_table(text: str, options: ManifestOptions) -> bool:
    if options.path_column is not None or options.label_column is not None:
        return True
    header = text.removeprefix("\ufeff").split("\n", 1)[0].strip("\r")
    return (
        _found(_fields(header, _separator(header, options)), None, "path") is not None
    )


def _separator(header: str, options: ManifestOptions) -> str:
    """Return what parts a header into most fields with the column of paths in it."""
    if options.sep is not None:
        return options.sep

    def rank(sep: str) -> tuple[bool, int]:
        fields = _fields(header, sep)
        return _found(fields, options.path_column, "path") is not None, len(fields)

    return max(_SEPARATORS, key=rank)


def _fields(header: str, sep: str) -> list[str]:
    try:
        rows = csv.reader([header], delimiter=sep, skipinitialspace=True)
        return [name.strip() for name in next(rows, [])]
    except csv.Error:
        return []


def _read(where: str, folder: str, text: str, options: ManifestOptions) -> Manifest:
    first = next((line for line in text.splitlines() if line.strip()), "")
    rows = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=_separator(first, options),
        strict=True,
        skipinitialspace=True,
    )
    try:
        numbered = [(rows.line_num, row) for row in rows if row]
    except csv.Error as error:
        raise InputError(f"{where}: line {rows.line_num}: {error}") from error
    line, header = numbered[0] if numbered else (1, [])
    names = [name.strip() for name in header]
    path_at = _column(where, line, names, options.path_column, "path")
    label_at = None
    if options.label_column is not None or _found(names, None, "label") is not None:
        label_at = _column(where, line, names, options.label_column, "label")
    for line, row in numbered[1:]:
        if len(row) != len(header):
            raise InputError(
                f"{where}: line {line}: expected {len(header)} fields as in the "
                f"header, found {len(row)}"
            )
    body = [row for _, row in numbered[1:]]
    others = [k for k in range(len(names)) if k not in (path_at, label_at)]
    return Manifest(
        where,
        folder,
        lines=[line for line, _ in numbered[1:]],
        paths=[row[path_at] for row in body],
        labels=[
            None if label_at is None else row[label_at].strip() or None for row in body
        ],
        columns={
            name: [printable(row[k].strip()) for row in body]
            for k, name in zip(others, _own_names(names, others), strict=True)
        },
    )


def _found(names: Sequence[str], asked: str | None, default: str) -> int | None:
    """Return where the one column of a name stands; None for none, or several."""
    wanted, there = asked or default, list(names)
    if asked is None or asked not in there:
        wanted, there = wanted.lower(), [name.lower() for name in there]
    return there.index(wanted) if there.count(wanted) == 1 else None


def _column(
    where: str, line: int, names: list[str], asked: str | None, default: str
) -> int:
    at = _found(names, asked, default)
    if at is not None:
        return at
    listed = printable(", ".join(names)) or "none"
    if asked is None:
        raise InputError(
            f"{where}: line {line}: expected a header with one column named path and "
            f"at most one named label, found {listed}; `path_column` and "
            "`label_column` name others"
        )
    near = difflib.get_close_matches(asked, names, 3, 0.5)
    hint = f"nearest: {', '.join(map(printable, near))}" if near else f"found {listed}"
    raise InputError(
        f"{where}: line {line}: expected one column named {asked!r}; {hint}"
    )


def _own_names(names: list[str], others: list[int]) -> list[str]:
    """Return a name for each other column: its own, none twice, none that is ours."""
    taken: list[str] = []
    for k in others:
        name = printable(names[k]).lstrip(".") or f"column {k + 1}"
        taken.append(name if name not in taken else f"{name} ({k + 1})")
    return taken


def _build(manifest: Manifest) -> ImageTable:
    where = manifest.where
    if not manifest.paths:
        raise InputError(f"{where}: names no images; expected one path a line")
    seen: dict[str, int] = {}
    for line, path in zip(manifest.lines, manifest.paths, strict=True):
        name = name_under(manifest.folder, path)
        if not name.strip() or "\0" in name:
            raise InputError(f"{where}: line {line}: {path!a} is not a path")
        if os.path.isdir(os.path.join(manifest.folder, name)):
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
    table = build_table(manifest.folder, list(zip(manifest.labels, seen, strict=True)))
    own = {
        name: np.array(values, dtype=object)
        for name, values in manifest.columns.items()
    }
    return replace(table, columns={**table.columns, **own})


def name_under(folder: str, path: str) -> str:
    """Return a path relative to the folder where it lies under it, else as it is."""
    name = path
    if os.path.isabs(name) and name.startswith(folder.rstrip("/") + "/"):
        name = name[len(folder.rstrip("/")) + 1 :]
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return name
