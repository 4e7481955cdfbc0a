"""Tables as plain text, Markdown and CSV, from rows of mappings or dataclasses.

Fractions stay fractions in the rows and in CSV; a column becomes a percentage only
where people read it. A mean with its spread is a `MeanStd`.
"""

from __future__ import annotations

import dataclasses
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from cnnfeat.shown import csv_text, visible_text

_MARKS = re.compile(r"[\\|`*<>\[\]&]")


@dataclasses.dataclass(frozen=True)
class MeanStd:
    """A mean and its standard deviation over splits, as fractions."""

    mean: float
    std: float | None = None

    def percent(self, digits: int = 1) -> str:
        """Return "92.3 ± 0.4", in per cent; without a spread "92.3"."""
        return format_percent(self.mean, self.std, digits=digits)


def format_percent(mean: float, std: float | None = None, *, digits: int = 1) -> str:
    """Return a fraction as a percentage without its sign, "92.3 ± 0.4".

    NaN is a dash; a NaN or missing spread is left out.
    """
    if math.isnan(mean):
        return "–"
    text = f"{100 * mean:.{digits}f}"
    if std is None or math.isnan(std):
        return text
    return f"{text} ± {100 * std:.{digits}f}"


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
    """

    key: str
    title: str | None = None
    percent: bool = False
    digits: int | None = None

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
        if isinstance(value, bool) or not isinstance(value, float):
            return str(value)
        if self.percent:
            return format_percent(
                value, digits=1 if self.digits is None else self.digits
            )
        if math.isnan(value):
            return "–"
        return f"{value:.{4 if self.digits is None else self.digits}g}"


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

    def to_text(self) -> str:
        """Return aligned columns under a rule, for a terminal; numbers right."""
        headings, rows, numeric = self.cells()
        lines = [headings, *rows]
        flat = [[_one_line(cell) for cell in line] for line in lines]
        widths = [max(map(_width, column)) for column in zip(*flat, strict=True)]
        padded = [
            "  ".join(
                _pad(cell, width, right)
                for cell, width, right in zip(line, widths, numeric, strict=True)
            ).rstrip()
            for line in flat
        ]
        rule = "  ".join("─" * width for width in widths)
        body = "\n".join([padded[0], rule, *padded[1:]])
        return f"{visible_text(self.caption)}\n{body}" if self.caption else body

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
