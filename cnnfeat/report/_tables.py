"""Tables as plain text, Markdown and CSV, from rows of mappings or dataclasses.

Fractions stay fractions in the rows and in CSV; a column becomes a percentage only
where people read it. A mean with its spread is a `MeanStd`.
"""

from __future__ import annotations

import dataclasses
import re
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from cnnfeat.report._numbers import format_amount, format_number, format_percent
from cnnfeat.shown import csv_text, visible_text

_NARROWEST = 8  # columns that a text is cut to
_MARKS = re.compile(r"[\\|`*<>\[\]&]")


@dataclasses.dataclass(frozen=True)
class MeanStd:
    """A mean and its standard deviation over splits, as fractions."""

    mean: float
    std: float | None = None

    def percent(self, digits: int = 1) -> str:
        """Return "92.3 ± 0.4", in per cent; without a spread "92.3"."""
        return format_percent(self.mean, self.std, digits=digits)


@dataclasses.dataclass(frozen=True)
class Column:
    """How a key of the rows is shown.

    Parameters
    ----------
    key : str
        The mapping's key or the dataclass's field.
    title : str, optional
        The heading; the key without it. "(%)" is added to a percentage's.
    percent : bool
        Floats are fractions, shown times 100.
    digits : int
        Digits after the point of percentages and significant digits of other floats.
    amount : bool
        Counts get a unit: 10.8 M.
    whole : bool
        Never cut where the terminal is narrow: a name that is typed.
    spare : bool
        Left out where the table would not fit otherwise, the last one first.
    """

    key: str
    title: str | None = None
    percent: bool = False
    digits: int | None = None
    amount: bool = False
    whole: bool = False
    spare: bool = False

    @property
    def heading(self) -> str:
        """The heading that people read."""
        title = self.key if self.title is None else self.title
        return f"{title} (%)" if self.percent else title

    def show(self, value: Any) -> str:
        """Return the value as people read it; a missing one as an empty string."""
        if value is None:
            return ""
        if isinstance(value, MeanStd):
            return value.percent(1 if self.digits is None else self.digits)
        if isinstance(value, int) and not isinstance(value, bool):
            return format_amount(value) if self.amount else f"{value:,}"
        if not isinstance(value, float):
            return str(value)
        if self.percent:
            return format_percent(
                value, digits=1 if self.digits is None else self.digits
            )
        return format_number(value, 4 if self.digits is None else self.digits)


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows under columns.

    Parameters
    ----------
    rows : sequence of mappings or dataclass instances
    columns : sequence of Column or str, optional
        All keys, in the order in which they first occur, without it.
    caption : str
    """

    rows: Sequence[Any]
    columns: Sequence[Column | str] = ()
    caption: str = ""

    def resolved_columns(self) -> list[Column]:
        """Return the columns asked for, or one a key."""
        keys: Sequence[Column | str] = self.columns or list(
            dict.fromkeys(key for row in self.rows for key in _as_mapping(row))
        )
        return [one if isinstance(one, Column) else Column(one) for one in keys]

    def cells(self) -> tuple[list[str], list[list[str]], list[bool]]:
        """Return headings, shown rows, and which columns hold numbers alone."""
        columns = self.resolved_columns()
        mappings = [_as_mapping(row) for row in self.rows]
        shown = [[one.show(row.get(one.key)) for one in columns] for row in mappings]
        numeric = [
            all(_is_number(row.get(one.key)) for row in mappings) for one in columns
        ]
        return [one.heading for one in columns], shown, numeric

    def without_constants(self) -> Table:
        """Return the table without columns that say one thing or nothing.

        What the rows have in common stands in the caption; a table of one row, or
        whose rows are all alike, stays as it is.
        """
        headings, rows, _ = self.cells()
        if len(rows) < 2:
            return self
        kept, told = [], []
        for column, heading, shown in zip(
            self.resolved_columns(), headings, zip(*rows, strict=True), strict=True
        ):
            if len(set(shown)) > 1:
                kept.append(column)
            elif shown[0]:
                told.append(f"{heading} {shown[0]}")
        if not kept:
            return self
        caption = "; ".join([*([self.caption] if self.caption else []), *told])
        return dataclasses.replace(self, columns=kept, caption=caption)

    def to_text(self, width: int | None = None) -> str:
        """Return aligned columns under a rule, for a terminal; numbers right.

        Parameters
        ----------
        width : int, optional
            Columns of the terminal. Where the table would be wider, texts are cut in
            the middle, the widest first, and then spare columns are left out; the
            caption is wrapped.
        """
        headings, rows, numeric = self.cells()
        lines = [headings, *rows]
        columns = self.resolved_columns()
        flat = [[_one_line(cell) for cell in line] for line in lines]
        if width is not None:
            cuttable = [
                k for k, one in enumerate(columns) if not (numeric[k] or one.whole)
            ]
            flat = _narrowed(flat, cuttable, width)
        widths = [max(map(_width, column)) for column in zip(*flat, strict=True)]
        spare = [one for one in columns if one.spare]
        if width and spare and _total(widths) > width:
            kept = [one for one in columns if one is not spare[-1]]
            return dataclasses.replace(self, columns=kept).to_text(width)
        padded = [
            "  ".join(
                _pad(cell, width, right)
                for cell, width, right in zip(line, widths, numeric, strict=True)
            ).rstrip()
            for line in flat
        ]
        rule = "  ".join("─" * width for width in widths)
        body = "\n".join([padded[0], rule, *padded[1:]])
        caption = visible_text(self.caption)
        caption = textwrap.fill(caption, width) if width else caption
        return f"{caption}\n{body}" if caption else body

    def to_markdown(self) -> str:
        """Return a GitHub table; bars, markup and line ends in cells are escaped."""
        headings, rows, numeric = self.cells()
        marks = ["--:" if right else "---" for right in numeric]
        escaped = [[_escape(cell) for cell in line] for line in (headings, *rows)]
        lines = [escaped[0], marks, *escaped[1:]]
        body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"{_escape(self.caption)}\n\n{body}" if self.caption else body

    def to_csv(self) -> str:
        """Return CSV for programs: keys as headings, fractions at full precision.

        A `MeanStd` becomes two columns, `<key>` and `<key>_std`.
        """
        columns = self.resolved_columns()
        mappings = [_as_mapping(row) for row in self.rows]
        spread = {
            one.key
            for one in columns
            if any(isinstance(row.get(one.key), MeanStd) for row in mappings)
        }
        heads = (
            [c.key, f"{c.key}_std"] if c.key in spread else [c.key] for c in columns
        )
        lines = [[key for group in heads for key in group]]
        for row in mappings:
            cells = [_csv_cells(row.get(one.key), one.key in spread) for one in columns]
            lines.append([cell for group in cells for cell in group])
        return csv_text(lines)


def _csv_cells(value: Any, spread: bool) -> list[Any]:
    """Return one cell, or the mean and the spread."""
    if not spread:
        return [value]
    if isinstance(value, MeanStd):
        return [value.mean, value.std]
    return [value, None]


def _as_mapping(row: Any) -> Mapping[str, Any]:
    """Return a row as a mapping; dataclasses are not copied deeply."""
    if isinstance(row, Mapping):
        return row
    if dataclasses.is_dataclass(row) and not isinstance(row, type):
        return {
            field.name: getattr(row, field.name) for field in dataclasses.fields(row)
        }
    raise TypeError(f"a row is a mapping or a dataclass instance, not {type(row)}")


def _is_number(value: Any) -> bool:
    """Say whether a cell is aligned right; an empty one goes with its column."""
    return value is None or (
        isinstance(value, int | float | MeanStd) and not isinstance(value, bool)
    )


def _narrowed(lines: list[list[str]], texts: list[int], width: int) -> list[list[str]]:
    """Return the cells, those of the columns `texts` cut so that lines fit `width`."""
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    while texts and _total(widths) > width:
        widest = max(texts, key=lambda k: widths[k])
        if widths[widest] <= _NARROWEST:
            break
        widths[widest] -= 1
    return [
        [_cut(cell, widths[k]) if k in texts else cell for k, cell in enumerate(line)]
        for line in lines
    ]


def _total(widths: Sequence[int]) -> int:
    """Return the columns that a line takes."""
    return sum(widths) + 2 * (len(widths) - 1)


def _cut(cell: str, width: int) -> str:
    """Return a cell of at most `width` columns: both its ends, and … between."""
    if _width(cell) <= width:
        return cell
    head = (width - 1) // 2
    tail = width - 1 - head
    while _width(cell[:head]) + _width(cell[len(cell) - tail :]) > width - 1:
        head, tail = max(0, head - 1), max(1, tail - 1)
    return f"{cell[:head]}…{cell[len(cell) - tail :]}"


def _one_line(cell: str) -> str:
    return visible_text(" ".join(cell.split()))


def _escape(cell: str) -> str:
    """Return a cell of Markdown: names stay text, whatever marks are in them."""
    return _MARKS.sub(r"\\\g<0>", _one_line(cell))


def _width(cell: str) -> int:
    """Return the columns that a terminal uses: two for wide, none for combining."""
    return sum(0 if unicodedata.combining(c) else 2 if _is_wide(c) else 1 for c in cell)


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"


def _pad(cell: str, width: int, right: bool) -> str:
    space = " " * (width - _width(cell))
    return space + cell if right else cell + space
