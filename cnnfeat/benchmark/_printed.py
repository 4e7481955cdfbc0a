"""A benchmark as a terminal shows it: layers × heads, nothing said twice.

What all rows have in common stands in the caption. `BenchmarkReport.table` has every
number in one wide table, for pages and files.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from cnnfeat.benchmark._published import AsPrinted, published_beside
from cnnfeat.benchmark._results import METRICS, Cell
from cnnfeat.benchmark._summary import (
    BenchmarkReport,
    chosen_of,
    over_initialisations,
    span,
)
from cnnfeat.report import Column, MeanStd, Table

_TITLES = {
    "mean_per_class_accuracy": "mean per class",
    "accuracy": "accuracy",
    "top_5_accuracy": "top-5",
}
_KEYS = (
    Column("features"),
    Column("layer", whole=True),
    Column("size", "train a class"),
)

Row = dict[str, Any]


def printed_tables(report: BenchmarkReport) -> list[Table]:
    """Return the tables that a terminal shows, the results first."""
    heads = list(dict.fromkeys(cell.head for cell in report.cells))
    found = _of_one_head(report) if len(heads) == 1 else _pivots(report, heads)
    if published_beside(report.protocol, report.cells):
        found.append(_published(report))
    names = {cell.name: _short_name(cell, report.cells) for cell in report.cells}
    for table in (report.best_table(), report.asked_table()):
        if table.rows:
            found.append(_renamed(table, names).without_constants())
    return found


def _of_one_head(report: BenchmarkReport) -> list[Table]:
    """Return one table with all metrics side by side."""
    rows = [
        {
            **_key(cell),
            **{metric: cell.mean_std(metric) for metric in METRICS},
            "C": cell.chosen,
        }
        for cell in report.cells
    ]
    best = rows[report.cells.index(report.best)]
    best[report.protocol.metric] = _marked(best[report.protocol.metric])
    columns = [
        *_KEYS,
        *(Column(m, _TITLES[m], True, spare=m == METRICS[-1]) for m in METRICS),
        Column("C", chosen_of(report.cells), whole=True),
    ]
    return [_tidy(Table(rows, columns, f"{_caption(report)}; {report.cells[0].head}"))]


def _pivots(report: BenchmarkReport, heads: Sequence[str]) -> list[Table]:
    """Return a table of layers × heads for each metric, and one of C."""
    headline = report.protocol.metric
    other = next(m for m in METRICS if m != headline)

    def accuracy(metric: str) -> Callable[[Cell], Any]:
        return lambda cell: (
            _marked(cell.mean_std(metric))
            if cell is report.best and metric == headline
            else cell.mean_std(metric)
        )

    first = f"{_caption(report)}; {_TITLES[headline]} (%)"
    below = {
        f"{_TITLES[other]} (%)": accuracy(other),
        f"{chosen_of(report.cells)}, median over the splits (range)": _chosen,
    }
    return [
        _pivot(report.cells, heads, accuracy(headline), first),
        # What all rows have in common has been told.
        *(
            dataclasses.replace(_pivot(report.cells, heads, value, ""), caption=title)
            for title, value in below.items()
        ),
    ]


def _chosen(cell: Cell) -> str:
    return cell.chosen


def _pivot(
    cells: Sequence[Cell],
    heads: Sequence[str],
    value: Callable[[Cell], Any],
    caption: str,
) -> Table:
    rows: dict[tuple[Any, ...], Row] = {}
    for cell in cells:
        key = _key(cell)
        rows.setdefault(tuple(key.values()), key)[cell.head] = value(cell)
    columns = [*_KEYS, *map(Column, heads)]
    return _tidy(Table([*rows.values()], columns, caption))


def _published(report: BenchmarkReport) -> Table:
    """Return the papers' numbers, layers × heads."""
    found: dict[tuple[Any, ...], Row] = {}
    results = published_beside(report.protocol, report.cells)
    for one in results:
        key = {
            "features": one.source,
            "layer": one.layer,
            "size": one.train_per_class,
        }
        row = found.setdefault(tuple(key.values()), key)
        row[one.head] = AsPrinted(one.accuracy, one.std, one.percent)
    heads = dict.fromkeys(one.head for one in results)
    columns = [Column("features", "paper"), *_KEYS[1:], *map(Column, heads)]
    caption = f"as printed: {_TITLES[report.protocol.metric]} (%)"
    return _tidy(Table([*found.values()], columns, caption))


def _key(cell: Cell) -> Row:
    """Return what names a row of the table beside its head."""
    layer = "" if cell.is_its_own_layer else cell.layer
    return {
        "features": cell.features,
        "layer": layer,
        "size": cell.train_per_class,
    }


def _tidy(table: Table) -> Table:
    """Return the table without constants, each origin named on its first row alone."""
    table = table.without_constants()
    if len(table.rows) == 1:  # its layer alone tells which row it is
        (row,) = table.rows
        told = [f"{one.heading} {row[one.key]}" for one in _KEYS if one.key != "layer"]
        others = [one for one in table.columns if one not in (_KEYS[0], _KEYS[2])]
        caption = "; ".join([table.caption, *told])
        return dataclasses.replace(table, columns=others, caption=caption)
    rows, before = [], None
    for row in table.rows:
        rows.append({**row, "features": ""} if row["features"] == before else row)
        before = row["features"]
    return dataclasses.replace(table, rows=rows)


def _caption(report: BenchmarkReport) -> str:
    splits = [split for cell in report.cells for split in cell.splits]
    n_splits = len(report.cells[0].splits)
    over = f"mean ± std over {n_splits} splits" if n_splits > 1 else "one split"
    over += over_initialisations(report.cells)
    n_train, n_test = (
        span([s.n_train for s in splits]),
        span([s.n_test for s in splits]),
    )
    n_classes = span([s.n_classes for s in splits])
    least = min(s.least_n_test for s in splits)
    return (
        f"{report.title}: {over}; {n_train} training and {n_test} test "
        f"images of {n_classes} classes, at least {least:,} of each; * the best"
    )


def _marked(value: MeanStd) -> AsPrinted:
    return AsPrinted(value.mean, value.std, f"* {value.percent()}")


def _short_name(cell: Cell, cells: Sequence[Cell]) -> str:
    """Return a row's name without the words that all rows have."""
    keys = [{**_key(one), "head": one.head} for one in cells]
    own = {**_key(cell), "head": cell.head}
    varies = {key for key in own if len({str(one[key]) for one in keys}) > 1}
    size = f"{cell.train_per_class} a class" if "size" in varies else ""
    origin = " ".join(
        str(own[key]) for key in ("features", "layer") if key in varies and own[key]
    )
    parts = [origin, cell.head if "head" in varies else "", size]
    return ", ".join(part for part in parts if part) or cell.name


def _renamed(table: Table, names: dict[str, str]) -> Table:
    """Return the table with short names in place of rows' whole ones."""
    rows = [
        {
            key: names.get(value, value) if isinstance(value, str) else value
            for key, value in row.items()
        }
        for row in table.rows
    ]
    return dataclasses.replace(table, rows=rows)
