"""Labels that come later, or change: a table of them, matched to images by path."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cnnfeat.errors import CnnfeatWarning, InputError
from cnnfeat.image_table import ImageTable, absolute_path
from cnnfeat.images._manifest import Manifest, name_under, read_manifest
from cnnfeat.images._options import LabelOptions, ManifestOptions
from cnnfeat.images._places import printable

_NAMED = 3  # how many paths a message lists


def relabel(table: ImageTable, options: LabelOptions) -> ImageTable:
    """Return the images with the labels that the options name.

    Paths of the table of labels are matched as they are stored with the images, or by
    the place that they lie at. Images that it does not list have no label. Its other
    columns join those of the images.

    Parameters
    ----------
    table : ImageTable
    options : LabelOptions
        Where they name neither a file nor a column, `table` is returned as it is.

    Raises
    ------
    InputError
        If the table of labels cannot be read, has no labels, names an image twice, or
        none of its paths is one of the images.
    DataError
        If the images have no such column.

    Warns
    -----
    CnnfeatWarning
        If some images have no label there, or some paths are none of the images.
    """
    if options.labels_file is not None:
        return _from_file(table, options.labels_file, options)
    if options.label_column is not None:
        values = table.column(options.label_column).tolist()
        return _labelled(table, [str(value) or None for value in values])
    return table


def _from_file(table: ImageTable, path: str, options: ManifestOptions) -> ImageTable:
    manifest = read_manifest(path, options)
    if not any(manifest.labels):
        raise InputError(
            f"{manifest.where}: there are no labels in it; `label_column` names their "
            f"column: {', '.join(manifest.columns) or 'there is no other'}"
        )
    line_of = _match(table, manifest)
    rows = list(line_of)
    labels: list[str | None] = [None] * len(table)
    for row, line in line_of.items():
        labels[row] = manifest.labels[line]
    columns = {}
    for name, values in manifest.columns.items():
        columns[name] = np.full(len(table), "", dtype=object)
        columns[name][rows] = [values[line] for line in line_of.values()]
    n_without = sum(label is None for label in labels)
    if n_without:
        first = table.paths[labels.index(None)]
        _warn(
            f"{manifest.where}: {n_without} of {len(table)} images have no label "
            f"there, {first} first"
        )
    return _labelled(replace(table, columns={**table.columns, **columns}), labels)


def _match(table: ImageTable, manifest: Manifest) -> dict[int, int]:
    """Return the row of the manifest for each row of the table that it lists."""
    row_of = {table.absolute_path(row): row for row in range(len(table))}
    row_of |= {path: row for row, path in enumerate(table.paths)}
    folder = printable(manifest.folder)
    found: dict[int, int] = {}
    strange: list[str] = []
    for line, path in enumerate(map(printable, manifest.paths)):
        row = row_of.get(os.path.normpath(absolute_path(folder, path)))
        if row is None:
            row = row_of.get(name_under(table.root, path))
        if row is None:
            strange.append(path)
        elif row in found:
            raise InputError(
                f"{manifest.where}: line {manifest.lines[line]}: {path} stands on line "
                f"{manifest.lines[found[row]]} already; name each image once"
            )
        else:
            found[row] = line
    listed = ", ".join(strange[:_NAMED]) + ", …" * (len(strange) > _NAMED)
    if not found:
        raise InputError(
            f"{manifest.where}: none of its {len(strange)} paths is one of the images: "
            f"{listed or 'it is empty'}; expected such as {table.paths[0]}; `root` "
            "names the folder that they start from"
        )
    if strange:
        _warn(
            f"{manifest.where}: {len(strange)} of {len(manifest.paths)} paths are none "
            f"of the images: {listed}"
        )
    return found


def _labelled(table: ImageTable, labels: Sequence[str | None]) -> ImageTable:
    names = sorted({printable(label) for label in labels if label is not None})
    index = {name: k for k, name in enumerate(names)}
    numbers = [-1 if label is None else index[printable(label)] for label in labels]
    return replace(
        table, labels=np.array(numbers, dtype=np.int32), class_names=tuple(names)
    )


def _warn(message: str) -> None:
    warnings.warn(message, CnnfeatWarning, stacklevel=5)
