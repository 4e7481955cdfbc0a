"""The verb that makes a feature file of what another tool has extracted.

Heads, protocols and everything else then work on it. What the other tool did not write
down is not made up: the file says where its rows come from, and no more.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnfeat import exchange
from cnnfeat._version import __version__
from cnnfeat.errors import InputError, LayerError
from cnnfeat.image_table import ImageTable
from cnnfeat.images import ManifestOptions, printable
from cnnfeat.layer_spec import LayerSpec
from cnnfeat.outputs import check_outputs, check_suffix
from cnnfeat.store import Contents, FeatureWriter
from cnnfeat.suffixes import FEATURES

_NOT_OURS = ("label", "class", "ok", "error", "split", "digest")


@dataclass(frozen=True)
class ImportOptions(ManifestOptions):
    """How another tool's features are read; the defaults are those of `cnnfeat import`.

    `layers=()` are all arrays of the file. `paths_file` names the images of a `.npy`: a
    table that is read as `ManifestOptions` says, or text with a path a line. `model` is
    what computed the features, if the file does not say so.
    """

    layers: tuple[str, ...] = ()
    paths_file: str | None = None
    model: str | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class ImportReport:
    """What is in the feature file now."""

    output: str
    n_images: int
    n_failed: int
    n_classes: int
    layers: dict[str, list[int]]
    classes: dict[str, int]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return asdict(self)


def import_features(
    source: str,
    output_path: str,
    options: ImportOptions | None = None,
    *,
    command: str = "",
) -> ImportReport:
    """Write the features that another tool has extracted into a feature file.

    Parameters
    ----------
    source : str
        What `exchange.read_foreign` reads: `.npz`, `.npy`, `.parquet`, or a folder of
        clip-retrieval's or thingsvision's. A `.npz` is read whole, the others in
        blocks.
    output_path : str
        The feature file to write.
    options : ImportOptions, optional
    command : str
        The command line, kept in the file.

    Returns
    -------
    ImportReport

    Raises
    ------
    InputError
        If the source cannot be read, has no features, or does not name its images.
    LayerError
        If it has no array of a name that is asked for.
    ExtraError
        If it is Parquet and pyarrow is not installed.
    OutputError
        If `output_path` exists already or cannot be written.
    OptionError
        If it does not end as feature files do.

    Notes
    -----
    Rows keep their order. Classes are those of a column `class` or `label`; without
    one, the folders that the images lie in, where there are several. What `cnnfeat
    export` wrote comes back with its provenance.
    """
    options = options or ImportOptions()
    started = time.monotonic()
    check_suffix(output_path, FEATURES)
    read = [source, *([options.paths_file] if options.paths_file else [])]
    check_outputs([output_path], read, overwrite=options.overwrite)
    found = exchange.read_foreign(source, options.paths_file, options)
    table, ok, errors = _table(found, options)
    specs = _specs(found, options.layers)
    contents = Contents(
        table=table,
        layers=list(specs.values()),
        provenance=_provenance(found, source, options),
        command=command or str(found.told.get("command", "")),
    )
    with FeatureWriter(
        output_path, contents, fingerprint={}, overwrite=options.overwrite
    ) as writer:
        for start, blocks in found.blocks():
            rows = {
                spec.name: blocks[column].reshape(-1, *spec.shape)
                for column, spec in specs.items()
            }
            stop = start + len(next(iter(rows.values())))
            writer.write(start, rows, ok[start:stop], errors[start:stop])
        writer.finish()
        n_failed = len(writer.failures)
    return ImportReport(
        output=output_path,
        n_images=len(table),
        n_failed=n_failed,
        n_classes=len(table.class_names),
        layers={spec.name: list(spec.shape) for spec in specs.values()},
        classes=table.class_counts(),
        seconds=round(time.monotonic() - started, 3),
    )


def _table(
    found: exchange.Foreign, options: ImportOptions
) -> tuple[ImageTable, np.ndarray, list[str]]:
    """Return the images, which of them are ok, and why the others are not."""
    columns = dict(found.columns)
    path_column = _column(columns, options.path_column, exchange.PATHS)
    if path_column is None:
        listed = ", ".join(columns) or "none"
        raise InputError(
            f"{found.where}: does not name its images: expected a column or array of "
            f"paths, found {listed}; `path_column` names it, or give `paths_file`"
        )
    paths = [printable(str(path)) for path in columns.pop(path_column)]
    _refuse_repeats(found.where, paths)
    label_column = _column(columns, options.label_column, exchange.LABELS)
    labels = _folders(paths)
    if label_column is not None:
        labels = [_name(value) for value in columns.pop(label_column)]
    given = found.told.get("classes", [])
    names = given if _are_names(given, labels) else sorted({*labels} - {""})
    index = {name: k for k, name in enumerate(names)}
    ok = np.ones(len(paths), dtype=bool)
    if found.told and "ok" in columns:
        ok = np.array([one in (True, "True") for one in columns["ok"]])
    errors = [str(one) for one in columns.get("error", [""] * len(paths))]
    errors = ["" if good else error for good, error in zip(ok, errors, strict=True)]
    root = options.root or str(found.told.get("root", ""))
    table = ImageTable(
        root=root or os.path.abspath(os.path.dirname(found.where)),
        paths=tuple(paths),
        labels=np.array([index.get(label, -1) for label in labels], np.int32),
        class_names=tuple(names),
        columns={
            name: np.array([_name(value) for value in values], dtype=object)
            for name, values in columns.items()
            if name not in _NOT_OURS and name not in exchange.PATHS and name[:1] != "."
        },
    )
    return table, ok, errors


def _are_names(given: Any, labels: Sequence[str]) -> bool:
    """Return whether a file's own list of classes has every class of its rows."""
    are_texts = isinstance(given, list) and all(isinstance(one, str) for one in given)
    return are_texts and len(set(given)) == len(given) and {*labels} - {""} <= {*given}


def _column(
    columns: dict[str, Any], asked: str | None, known: Sequence[str]
) -> str | None:
    """Return the column asked for, or the first of those known; None without one."""
    if asked is not None:
        if asked not in columns:
            listed = ", ".join(columns) or "none"
            raise InputError(f"there is no column {asked!r}: there are {listed}")
        return asked
    lower = {name.lower(): name for name in reversed(columns)}
    return next((lower[name] for name in known if name in lower), None)


def _refuse_repeats(where: str, paths: Sequence[str]) -> None:
    seen: set[str] = set()
    for row, path in enumerate(paths):
        if not path.strip():
            raise InputError(f"{where}: row {row} has no path")
        if path in seen:
            raise InputError(f"{where}: {path} is there twice; name each image once")
        seen.add(path)


def _folders(paths: Sequence[str]) -> list[str]:
    """Return the folder of each image as its class; none where all lie in one."""
    names = [os.path.basename(os.path.dirname(path)) for path in paths]
    return names if len(set(names)) > 1 else [""] * len(paths)


def _name(value: Any) -> str:
    """Return a cell as text; nothing for nothing."""
    return "" if value is None or value != value else printable(str(value)).strip()


def _specs(found: exchange.Foreign, asked: Sequence[str]) -> dict[str, LayerSpec]:
    """Return the layers by the columns that they are in."""
    for name in asked:
        if name not in found.layers:
            raise LayerError(
                f"{found.where} has no array {name!r}; it has {', '.join(found.layers)}"
            )
    told = _told_specs(found)
    specs = {}
    for column in asked or found.layers:
        shape, dtype = found.layers[column]
        kind = "float16" if dtype.itemsize == 2 else "float32"
        made = LayerSpec(column.replace("/", "_"), column, shape, dtype=kind)
        specs[column] = told.get(column, made)
    return specs


def _told_specs(found: exchange.Foreign) -> dict[str, LayerSpec]:
    """Return the layers that `cnnfeat export` described, by their columns."""
    try:
        specs = {}
        for fields in found.told.get("layers", []):
            others = {key: value for key, value in fields.items() if key != "column"}
            specs[fields["column"]] = LayerSpec.from_dict(others)
    except (TypeError, KeyError, ValueError, AttributeError, LayerError) as error:
        raise InputError(
            f"{found.where}: what it says of its layers is damaged"
        ) from error
    for column, spec in specs.items():
        shape = found.layers.get(column, (spec.shape, None))[0]
        if np.prod(shape) != spec.n_features:
            raise InputError(
                f"{found.where}: {column} has shape {shape} a row, and {spec.shape} "
                "according to itself"
            )
    return specs


def _provenance(
    found: exchange.Foreign, source: str, options: ImportOptions
) -> dict[str, str]:
    told = found.told.get("provenance", {})
    if not isinstance(told, dict) or not all(
        isinstance(value, str) for value in told.values()
    ):
        raise InputError(f"{source}: its provenance is damaged")
    own = {"imported_from": printable(os.path.abspath(source))}
    if not told:
        own["cnnfeat"] = __version__
    if Path(source).is_file():
        own["imported_bytes"] = str(os.path.getsize(source))
    if options.model is not None:
        own["model"] = options.model
    return {**told, **own}
