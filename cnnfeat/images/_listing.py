"""Which images, in which order, of which class.

`list_images` takes what a user calls IMAGES and returns an `ImageTable`; `_folder`,
`_manifest` and `_tar` hold one way of listing each, `_joining` puts several together.
Images are listed by suffix, without being opened; whether a file is an image at all is
decided by its bytes, at decode.
"""

import os
import sys
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from cnnfeat import suffixes
from cnnfeat.errors import InputError
from cnnfeat.image_table import ImageTable
from cnnfeat.images._folder import list_folder
from cnnfeat.images._joining import join_tables
from cnnfeat.images._manifest import list_manifest, list_stdin
from cnnfeat.images._options import ManifestOptions, Sources, sources_of
from cnnfeat.images._places import (
    build_table,
    page_name,
    printable,
    spelled,
    split_page,
    with_places,
)
from cnnfeat.images._tar import list_tar


def list_images(
    source: Sources,
    *,
    stdin: Iterable[str] | None = None,
    options: ManifestOptions | None = None,
) -> ImageTable:
    """Return the images that a source names, or several.

    Parameters
    ----------
    source : str or Path, or a sequence of them
        A folder of class folders, a folder of images, a table of images (CSV, TSV), an
        uncompressed tar, one image file, or `-` for standard input: paths, one a line
        or each ended by NUL, or a table. Several are listed one after the other, each
        as it would be by itself; classes of one name are one.
    stdin : iterable of str, optional
        The lines that `-` reads; default: those of standard input, in any encoding.
    options : ManifestOptions, optional
        How a table is read.

    Returns
    -------
    ImageTable
        At least one row, all `ok`: nothing is opened. Folders and tars are sorted by
        class, then path; tables and standard input keep their order. Columns of a table
        other than paths and labels are the table's `own_columns`.

    Raises
    ------
    InputError
        If a source is missing, cannot be read, is malformed or names no image; if
        several name an image twice, or one of several is a tar.
    """
    options = options or ManifestOptions()
    sources = sources_of(source)
    if not sources:
        raise InputError("no images are named")
    tables = [_list_one(one, stdin, options) for one in sources]
    return tables[0] if len(tables) == 1 else join_tables(tables, sources)


def _list_one(
    source: str, stdin: Iterable[str] | None, options: ManifestOptions
) -> ImageTable:
    if source == "-":
        return list_stdin(_stdin_lines() if stdin is None else stdin, options)
    path = source
    shown = printable(path)
    if not path or not os.path.lexists(path):
        file, page = split_page(path)
        if page and os.path.isfile(file):
            folder, name = os.path.split(os.path.abspath(path))
            return build_table(folder, [(None, name)])
        raise InputError(f"{shown or repr(path)}: no such file or folder")
    if os.path.isdir(path):
        return list_folder(path)
    if not os.path.isfile(path):
        raise InputError(
            f"{shown}: neither a folder nor a regular file (a pipe, a device or a "
            "broken link); give paths on standard input with -"
        )
    suffix = suffixes.suffix_of(path)
    if suffix in (".csv", ".tsv"):
        return list_manifest(path, options)
    if suffix in suffixes.IMAGES:
        folder, name = os.path.split(os.path.abspath(path))
        return build_table(folder, [(None, name)])
    return list_tar(path)


def relist_images(table: ImageTable) -> ImageTable:
    r"""Return a table that was written down, with where its images lie.

    No folder is walked, so that a list from a manifest or from standard input comes
    back as it was. Whether the files are still the same, `fingerprint_images` tells.

    Parameters
    ----------
    table : ImageTable
        Its root may be a tar, whose members are looked up. A path with `\xNN` is also
        found as the bytes it stands for.

    Raises
    ------
    InputError
        If the tar cannot be read or lists other images.
    """
    location = spelled(table.root)
    if not os.path.isfile(location):
        names = [_spelled(path, location) for path in table.paths]
        return with_places(table, location, names)
    found = list_tar(location)
    rows = {path: row for row, path in enumerate(found.paths)}
    members = [path if path in rows else split_page(path)[0] for path in table.paths]
    if tuple(dict.fromkeys(members)) != found.paths:
        raise InputError(
            f"{table.root}: this tar does not hold the images that it held"
        )
    places = found.take(np.array([rows[member] for member in members]))
    return replace(
        places, paths=table.paths, ok=table.ok, value_range=table.value_range
    )


def _spelled(path: str, folder: str) -> str:
    """Return a path as the operating system spells it, with its page."""
    file, page = split_page(path)
    if not page or os.path.lexists(os.path.join(folder, path)):
        return spelled(path, folder)
    return page_name(spelled(file, folder), page)


def _stdin_lines() -> Iterable[str]:
    return map(os.fsdecode, sys.stdin.buffer)


def names_to_tell(source: Sources, table: ImageTable) -> tuple[str, ...]:
    """Return the paths to tell: bare file names with the folder that the user named.

    Several folders may hold the same name, so that alone it would not say which. Those
    of several sources are told from the current folder.

    Parameters
    ----------
    source : str or Path, or a sequence of them
        What the table was listed from.
    table : ImageTable
    """
    named = sources_of(source)
    if len(named) > 1:
        rows = range(len(table))
        return tuple(os.path.relpath(table.absolute_path(row)) for row in rows)
    is_image = suffixes.suffix_of(named[0]) in suffixes.IMAGES
    if not (is_image or os.path.isdir(named[0])):
        return table.paths
    if any("/" in path for path in table.paths):
        return table.paths
    folder = os.path.dirname(named[0]) if is_image else named[0]
    return tuple(os.path.join(printable(folder), path) for path in table.paths)
