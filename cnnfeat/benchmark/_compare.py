"""Two rows of the table against each other, split by split.

Rows are paired by the seed of their splits: at one training size the pairs share their
training and test rows. Across sizes the smaller training rows are among the larger
(`cnnfeat.splits.draw_split`), and the test rows may differ; each result says so.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from cnnfeat.benchmark._results import Cell, TableRow
from cnnfeat.errors import InputError
from cnnfeat.metrics import paired_difference
from cnnfeat.report import Column, MeanStd, Table

_NAMED = 6  # how many rows an error lists

Pair = tuple[TableRow, TableRow]


@dataclass(frozen=True)
class Comparison:
    """The mean difference of two rows over splits, as a fraction.

    `standard_error` is that of the mean, NaN for a single split.
    """

    better: str
    than: str
    difference: float
    standard_error: float
    n_splits: int
    same_test_rows: bool


def find_pairs(
    asked: Sequence[tuple[str, str]], rows: Sequence[TableRow]
) -> list[Pair]:
    """Return the rows that pairs of texts name, each by some of its words.

    Parameters
    ----------
    asked : sequence of (str, str)
        A row's name, or words of it that no other row has all of.
    rows : sequence of TableRow

    Raises
    ------
    InputError
        If a text fits no row, several, or both of a pair the same one.
    """
    pairs = []
    for first, second in asked:
        pair = _find_row(first, rows), _find_row(second, rows)
        if pair[0] == pair[1]:
            raise InputError(
                f"--compare {first!r} {second!r}: both name the row {pair[0].name!r}"
            )
        pairs.append(pair)
    return pairs


def _find_row(text: str, rows: Sequence[TableRow]) -> TableRow:
    wanted = _words(text)
    named = [row for row in rows if row.name == text]
    found = named or [row for row in rows if wanted and wanted <= _words(row.name)]
    if len(found) == 1:
        return found[0]
    near = found or rows
    more = f" and {len(near) - _NAMED} more" if len(near) > _NAMED else ""
    listed = "; ".join(row.name for row in near[:_NAMED]) + more
    if found:
        raise InputError(
            f"--compare {text!r} fits {len(found)} rows: add a word that only one of "
            f"them has: {listed}"
        )
    raise InputError(f"--compare {text!r} fits no row; there are: {listed}")


def _words(text: str) -> set[str]:
    return set(re.split(r"[\s,]+", text)) - {""}


def compare_all(
    cells: Sequence[Cell], metric: str, test_rows: dict[int | None, list[bytes]]
) -> list[Comparison]:
    """Return every two cells whose splits match, the better one of each named first.

    Parameters
    ----------
    cells : sequence of Cell
    metric : str
        One of `METRICS`.
    test_rows : dict
        For each training size, what tells one split's test rows from another's.
    """
    return [
        compare_cells(a, b, metric, test_rows)
        for a, b in combinations(cells, 2)
        if a.seeds == b.seeds
    ]


def compare_cells(
    a: Cell, b: Cell, metric: str, test_rows: dict[int | None, list[bytes]]
) -> Comparison:
    """Return the comparison of two cells on the same splits."""
    if b.mean_std(metric).mean > a.mean_std(metric).mean:
        a, b = b, a
    pairs = paired_difference(a.values(metric), b.values(metric))
    same = test_rows[a.train_per_class] == test_rows[b.train_per_class]
    return Comparison(
        a.name, b.name, pairs.mean, pairs.standard_error, pairs.n_splits, same
    )


def comparison_table(comparisons: Sequence[Comparison], caption: str) -> Table:
    """Return comparisons for people: percentage points ± standard error."""
    rows: list[dict[str, Any]] = [
        {
            "better": one.better,
            "than": one.than,
            "difference": MeanStd(one.difference, one.standard_error),
            "n_splits": one.n_splits,
            "test": "the same" if one.same_test_rows else "not the same",
        }
        for one in comparisons
    ]
    columns = [
        Column("better", "row"),
        Column("than", "against"),
        Column("difference", "difference ± standard error", percent=True, digits=2),
        Column("n_splits", "splits"),
    ]
    if not all(one.same_test_rows for one in comparisons):
        columns.append(Column("test", "test images"))
    return Table(rows, columns, caption)
