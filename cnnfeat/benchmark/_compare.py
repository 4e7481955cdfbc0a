"""Two rows of the table against each other, split by split.

Rows are paired by the seed of their splits: at one training size the pairs share their
training and test rows. Across sizes the smaller training rows are among the larger
(`cnnfeat.splits.draw_split`), and the test rows may differ; each result says so.
P-values are adjusted for the family of comparisons that stand together: all pairs in
the JSON, the best row against the others in the table.
"""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from cnnfeat.benchmark._results import Cell, TableRow
from cnnfeat.errors import InputError
from cnnfeat.report import Column, Table
from cnnfeat.significance import (
    Difference,
    holm,
    image_difference,
    split_difference,
)

_NAMED = 6  # how many rows an error lists

Pair = tuple[TableRow, TableRow]


@dataclass(frozen=True)
class Comparison:
    """The mean difference of two rows over splits, as a fraction.

    `standard_error`, the 95 % interval (`low`, `high`), `p_value` and `test` are those
    of `cnnfeat.significance`, NaN and "" where nothing can be said. `p_holm` is the
    p-value adjusted for the `n_family` comparisons made together.
    """

    better: str
    than: str
    difference: float
    standard_error: float
    low: float
    high: float
    p_value: float
    p_holm: float
    n_family: int
    test: str
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
                f"`compare` {first!r} {second!r}: both name the row {pair[0].name!r}"
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
            f"`compare` {text!r} fits {len(found)} rows: add a word that only one of "
            f"them has: {listed}"
        )
    raise InputError(f"`compare` {text!r} fits no row; there are: {listed}")


def _words(text: str) -> set[str]:
    return set(re.split(r"[\s,]+", text)) - {""}


def compare_all(
    cells: Sequence[Cell], metric: str, test_rows: dict[int | None, list[bytes]]
) -> list[Comparison]:
    """Return every two cells whose splits match, the better one of each named first.

    Those between the same two training sizes are one family.

    Parameters
    ----------
    cells : sequence of Cell
    metric : str
        One of `METRICS`.
    test_rows : dict
        For each training size, what tells one split's test rows from another's.
    """
    families = defaultdict(list)
    for a, b in combinations(cells, 2):
        if a.seeds == b.seeds:
            sizes = a.train_per_class, b.train_per_class
            families[sizes].append((a, b))
    return [
        one
        for pairs in families.values()
        for one in compare_family(pairs, metric, test_rows)
    ]


def compare_family(
    pairs: Sequence[tuple[Cell, Cell]],
    metric: str,
    test_rows: dict[int | None, list[bytes]],
) -> list[Comparison]:
    """Return the comparisons of pairs of cells, as one family of tests."""
    found = [_compare_cells(a, b, metric, test_rows) for a, b in pairs]
    adjusted = holm([one.p_value for one in found])
    return [
        replace(one, p_holm=p, n_family=len(found))
        for one, p in zip(found, adjusted, strict=True)
    ]


def _compare_cells(
    a: Cell, b: Cell, metric: str, test_rows: dict[int | None, list[bytes]]
) -> Comparison:
    if b.mean_std(metric).mean > a.mean_std(metric).mean:
        a, b = b, a
    same = test_rows[a.train_per_class] == test_rows[b.train_per_class]
    found = _difference(a, b, metric, same)
    return Comparison(
        better=a.name,
        than=b.name,
        difference=found.mean,
        standard_error=found.standard_error,
        low=found.low,
        high=found.high,
        p_value=found.p_value,
        p_holm=found.p_value,
        n_family=1,
        test=found.test,
        n_splits=len(a.splits),
        same_test_rows=same,
    )


def _difference(a: Cell, b: Cell, metric: str, same_test_rows: bool) -> Difference:
    values = a.values(metric), b.values(metric)
    if len(a.splits) > 1:
        shares = [split.n_test / split.n_train for split in (*a.splits, *b.splits)]
        return split_difference(*values, max(shares))
    drawn = a.initialisations or b.initialisations  # no one prediction of an image
    if not same_test_rows or metric == "top_5_accuracy" or drawn:
        return Difference.untested(values[0][0] - values[1][0])
    wrong_a, wrong_b = set(a.mistakes), set(b.mistakes)
    rows_a, rows_b = ({row for row, _, _ in wrong} for wrong in (wrong_a, wrong_b))
    n_classes = len(a.confusion)
    only_a = [true for row, true, _ in wrong_b if row not in rows_a]
    only_b = [true for row, true, _ in wrong_a if row not in rows_b]
    return image_difference(
        a.confusion.sum(axis=1),
        *(np.bincount(true, minlength=n_classes) for true in (only_a, only_b)),
        per_class=metric == "mean_per_class_accuracy",
    )


def comparison_table(comparisons: Sequence[Comparison], caption: str) -> Table:
    """Return comparisons for people, in percentage points.

    `p (Holm)` is a dash where the splits cannot tell.
    """
    rows: list[dict[str, Any]] = [
        {
            "better": one.better,
            "than": one.than,
            "difference": one.difference,
            "interval": _interval(one),
            "p_holm": one.p_holm,
            "n_splits": one.n_splits,
            "test": "the same" if one.same_test_rows else "not the same",
        }
        for one in comparisons
    ]
    columns = [
        Column("better", "row"),
        Column("than", "against"),
        Column("difference", "difference", percent=True),
        Column("interval", "95 % interval"),
        Column("p_holm", "p (Holm)", digits=2),
    ]
    if not all(one.same_test_rows for one in comparisons):
        columns.append(Column("test", "test images"))
    n_splits = {one.n_splits for one in comparisons}
    tests = {one.test for one in comparisons if one.test}
    how = [f"{n} splits" if n > 1 else "1 split" for n in sorted(n_splits)]
    families = {one.n_family for one in comparisons}
    over = f"p over {' and '.join(map(str, sorted(families)))} comparison"
    over += "s" * (families != {1})
    return Table(
        rows, columns, f"{caption} ({'; '.join([*how, *sorted(tests), over])})"
    )


def _interval(one: Comparison) -> str:
    if math.isnan(one.low):
        return "–"
    return f"{100 * one.low:.1f} to {100 * one.high:.1f}"
