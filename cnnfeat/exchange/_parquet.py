"""Parquet: a row an image, one list of fixed size a layer, row groups one by one."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnfeat.errors import InputError
from cnnfeat.exchange._columns import ORIGIN, RowColumns
from cnnfeat.exchange._extras import require
from cnnfeat.exchange._foreign import Foreign, damaged, floating, no_layer, origin_of

# Columns of one number each, as other tools name them.
_NUMBERED = re.compile(r"(?:feature_)?(\d+)")


def write_parquet(arrow: Any, path: Path, columns: RowColumns) -> None:
    """Write features as Parquet; no more than a block of rows is in memory.

    Parameters
    ----------
    arrow : module
        pyarrow, with its module `parquet`.
    path : Path
    columns : RowColumns
    """
    told = {name: _as_text(values) for name, values in columns.told().items()}
    names = columns.layer_names()
    schema = _schema(arrow, told, columns)
    # Activations hardly shrink, and a dictionary of them is larger than they are.
    how = dict.fromkeys(told, "snappy") | dict.fromkeys(names.values(), "none")
    lists = [f"{name}.list.element" for name in names.values()]
    compression = how | dict.fromkeys(lists, "none")
    with arrow.parquet.ParquetWriter(
        path, schema, compression=compression, use_dictionary=list(told)
    ) as writer:
        for rows, blocks in columns.blocks(columns.layers):
            arrays = [arrow.array(values[rows]) for values in told.values()]
            arrays += [
                arrow.FixedSizeListArray.from_arrays(
                    arrow.array(block.reshape(-1)), block.shape[1]
                )
                for block in blocks
            ]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))


def _as_text(values: np.ndarray) -> np.ndarray:
    """Return a column that has one type: text is `str`, numbers as they are."""
    return (
        np.array(list(map(str, values)), object) if values.dtype == object else values
    )


def _schema(arrow: Any, told: dict[str, np.ndarray], columns: RowColumns) -> Any:
    fields = [
        arrow.field(
            name,
            arrow.string() if values.dtype == object else arrow.array(values[:0]).type,
        )
        for name, values in told.items()
    ]
    for spec, name in zip(columns.specs, columns.layer_names().values(), strict=True):
        kind = arrow.from_numpy_dtype(np.dtype(spec.dtype))
        shape = "x".join(map(str, spec.shape))
        fields.append(
            arrow.field(
                name, arrow.list_(kind, spec.n_features), metadata={"shape": shape}
            )
        )
    return arrow.schema(fields, metadata={ORIGIN.encode(): columns.to_json().encode()})


def read_parquet(source: str | Path) -> Foreign:
    """Open a Parquet file: a list of numbers a row, or a column a number.

    Raises
    ------
    InputError
        If it cannot be read, or has no features.
    ExtraError
        If pyarrow is not installed.
    """
    arrow = require("pyarrow", "parquet")
    parquet = require("pyarrow.parquet", "parquet")
    try:
        file = parquet.ParquetFile(source)
        schema, n_images = file.schema_arrow, file.metadata.num_rows
        lists = [f.name for f in schema if _is_list(arrow, f.type)]
        flat = _numbered(arrow, schema) if not lists else {}
        if not lists and not flat:
            raise InputError(f"{source}: {no_layer(schema.names)}")
        rest = [name for name in schema.names if name not in (*lists, *flat)]
        columns = file.read(rest).to_pydict() if rest else {}
        readers = {name: _ListReader(file, name) for name in lists}
        takes: dict[str, Any] = dict(readers)
        if flat:
            takes = {"features": _FlatReader(file, list(flat))}
        layers = {name: _of_row(one(0, 1)) for name, one in takes.items()}
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise damaged(source, error) from error
    told = (schema.metadata or {}).get(ORIGIN.encode())
    return Foreign(
        where=str(source),
        n_images=n_images,
        layers=layers,
        columns=columns,
        take=takes,
        told={} if told is None else origin_of(str(source), told.decode()),
    )


def _of_row(rows: np.ndarray) -> tuple[tuple[int, ...], np.dtype]:
    return rows.shape[1:], rows.dtype


def _is_list(arrow: Any, kind: Any) -> bool:
    types = arrow.types
    is_list = types.is_list(kind) or types.is_large_list(kind)
    is_list = is_list or types.is_fixed_size_list(kind)
    return bool(is_list and types.is_floating(kind.value_type))


def _numbered(arrow: Any, schema: Any) -> dict[str, int]:
    """Return the columns `feature_0`, `feature_1` … in the order of their numbers."""
    found = {
        one.name: int(match[1])
        for one in schema
        if (match := _NUMBERED.fullmatch(one.name))
        and arrow.types.is_floating(one.type)
    }
    return dict(sorted(found.items(), key=lambda item: item[1]))


class _RowReader(ABC):
    """Rows of some columns of a Parquet file, one group of rows in memory."""

    def __init__(self, file: Any, columns: Sequence[str]) -> None:
        self._file, self._columns = file, list(columns)
        sizes = [
            file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)
        ]
        self._starts = np.cumsum([0, *sizes]).tolist()
        self._group, self._rows = -1, np.empty((0, 0))

    def __call__(self, start: int, stop: int) -> np.ndarray:
        """Return rows [start, stop)."""
        parts = []
        for group, first in enumerate(self._starts[:-1]):
            low, high = max(start, first), min(stop, self._starts[group + 1])
            if low < high:
                if group != self._group:
                    table = self._file.read_row_group(group, columns=self._columns)
                    self._group, self._rows = group, self._to_array(table)
                parts.append(self._rows[low - first : high - first])
        return floating(np.concatenate(parts))

    @abstractmethod
    def _to_array(self, table: Any) -> np.ndarray:
        """Return a group of rows as (m, d)."""


class _ListReader(_RowReader):
    """Rows of one column of lists."""

    def __init__(self, file: Any, column: str) -> None:
        super().__init__(file, [column])

    def _to_array(self, table: Any) -> np.ndarray:
        column = table.column(0).combine_chunks()
        compute = require("pyarrow.compute", "parquet")
        widths = compute.unique(compute.list_value_length(column)).to_pylist()
        if len(widths) != 1 or not widths[0]:
            raise InputError(f"{self._columns[0]}: its lists differ in length")
        values = column.flatten().to_numpy(zero_copy_only=False)
        rows: np.ndarray = values.reshape(len(column), widths[0])
        return rows


class _FlatReader(_RowReader):
    """Rows of many columns of one number each."""

    def _to_array(self, table: Any) -> np.ndarray:
        return np.stack([column.to_numpy() for column in table.columns], axis=1)


def read_tables(sources: Sequence[Path]) -> dict[str, list[Any]]:
    """Return the columns of several Parquet tables, one below the other.

    Raises
    ------
    InputError
        If one cannot be read.
    """
    arrow = require("pyarrow", "parquet")
    parquet = require("pyarrow.parquet", "parquet")
    try:
        tables = [parquet.read_table(path) for path in sources]
        joined = arrow.concat_tables(tables, promote_options="default")
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise damaged(sources[0], error) from error
    columns: dict[str, list[Any]] = joined.to_pydict()
    return columns
