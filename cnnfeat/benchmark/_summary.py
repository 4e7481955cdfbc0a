"""A whole benchmark: all its cells, their comparisons, and all needed to redo one."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cnnfeat.benchmark._compare import (
    Comparison,
    Pair,
    compare_all,
    compare_family,
    comparison_table,
)
from cnnfeat.benchmark._options import DrawOptions
from cnnfeat.benchmark._published import published_beside, published_rows
from cnnfeat.benchmark._results import METRICS, Cell
from cnnfeat.benchmark._rows import SplitSet
from cnnfeat.protocols import Protocol
from cnnfeat.report import Column, Table


@dataclass(frozen=True, eq=False)
class BenchmarkReport:
    """All cells of a benchmark, and what is needed to read them and to redo one.

    `splits_file` is where the splits come from, if the protocol has not drawn them.
    `sources` are the feature files by the name that rows call them; `settings` is
    whatever decides a fit beside its rows; `asked` are the pairs of rows that the user
    wants to see compared. `left_out` says why images stand in no split. `made` are
    command, date and versions; `others` the provenances of all files but the first.
    """

    protocol: Protocol
    cells: tuple[Cell, ...]
    split_sets: tuple[SplitSet, ...]
    class_names: tuple[str, ...]
    left_out: dict[str, int]
    sources: dict[str, str]
    settings: dict[str, Any]
    provenance: dict[str, str]
    asked: tuple[Pair, ...] = ()
    warnings: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    made: dict[str, str] = field(default_factory=dict)
    others: dict[str, dict[str, str]] = field(default_factory=dict)
    splits_file: str | None = None

    @property
    def title(self) -> str:
        """The protocol in a few words, or where the splits come from."""
        if self.splits_file is None:
            return self.protocol.title
        splits = f"the splits of {Path(self.splits_file).name}"
        if self.protocol.name == DrawOptions.protocol:
            return splits
        return f"{self.protocol.name}, {splits}"  # its title tells of its own draw

    @property
    def n_left_out(self) -> int:
        """How many images stand in no split."""
        return sum(self.left_out.values())

    @property
    def best(self) -> Cell:
        """The cell with the highest headline number."""
        return max(
            self.cells, key=lambda cell: cell.mean_std(self.protocol.metric).mean
        )

    def table(self) -> Table:
        """Return layer × head with both accuracies, the papers' numbers below ours."""
        rows = [
            {
                "features": cell.features,
                "layer": cell.layer,
                "head": cell.head,
                "train": cell.train_per_class,
                "n_train": span([split.n_train for split in cell.splits]),
                "n_test": span([split.n_test for split in cell.splits]),
                **{metric: cell.mean_std(metric) for metric in METRICS},
                "C": cell.chosen,
            }
            for cell in self.cells
        ]
        columns = [
            Column("features"),
            Column("layer"),
            Column("head"),
            Column("train", "train a class"),
            Column("n_train", "train images"),
            Column("n_test", "test images"),
            Column("mean_per_class_accuracy", "mean per class", percent=True),
            Column("accuracy", percent=True),
            Column("top_5_accuracy", "top-5", percent=True),
            Column("C", _heading(self.cells)),
        ]
        published = published_rows(self.protocol, self.cells)
        n_splits = len(self.cells[0].splits)
        caption = f"{self.title}: mean ± std over {n_splits} splits"
        caption += over_initialisations(self.cells)
        if published:
            caption += "; below ours the papers' numbers, as printed"
        return Table([*rows, *published], columns, caption)

    def _test_rows(self) -> dict[int | None, list[bytes]]:
        return {
            one.train_per_class: [split.test.tobytes() for split in one.splits]
            for one in self.split_sets
        }

    def comparisons(self) -> list[Comparison]:
        """Return every two rows of the table on the same splits."""
        return compare_all(self.cells, self.protocol.metric, self._test_rows())

    def best_table(self) -> Table:
        """Return the best row against every other of its training size.

        They are a family of their own: that the best one is known from the same results
        needs no more comparisons than that (Hsu, Annals of Statistics 12, 1984).
        """
        best = self.best
        pairs = [
            (best, cell)
            for cell in self.cells
            if cell is not best and cell.train_per_class == best.train_per_class
        ]
        rows = compare_family(pairs, self.protocol.metric, self._test_rows())
        return comparison_table(rows, "The best row against the others")

    def asked_table(self) -> Table:
        """Return the comparisons that were asked for, a family of their own."""
        cell_of = {cell.name: cell for cell in self.cells}
        pairs = [(cell_of[a.name], cell_of[b.name]) for a, b in self.asked]
        rows = compare_family(pairs, self.protocol.metric, self._test_rows())
        return comparison_table(rows, "As asked")

    def tables(self) -> list[Table]:
        """Return the tables that have rows."""
        all_tables = [self.table(), self.best_table(), self.asked_table()]
        return [table for table in all_tables if table.rows]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        published = published_beside(self.protocol, self.cells)
        return {
            "protocol": self.protocol.name,
            "metric": self.protocol.metric,
            "splits_file": self.splits_file,
            "n_splits": len(self.cells[0].splits),
            "n_classes": len(self.class_names),
            "n_left_out": self.n_left_out,
            "left_out": self.left_out,
            "settings": self.settings,
            "sources": self.sources,
            "rows": [cell.to_dict() for cell in self.cells],
            "split_sets": [one.to_dict() for one in self.split_sets],
            "best": self.best.name,
            "comparisons": [asdict(one) for one in self.comparisons()],
            "asked_comparisons": [[a.name, b.name] for a, b in self.asked],
            "published": [asdict(result) for result in published],
            "notes": list(self.protocol.notes),
            "warnings": list(self.warnings),
            "provenance": self.provenance,
            "made": self.made,
            "other_provenances": self.others,
            "files": list(self.files),
        }


def _heading(cells: Sequence[Cell]) -> str:
    """Return what the column of what was chosen is called."""
    return f"{chosen_of(cells)}, median (range)"


def chosen_of(cells: Sequence[Cell]) -> str:
    """Return what is chosen in some cells: C, or k and T, or either."""
    names = {"k and T" if one.splits[0].k else "C" for one in cells if one.chosen}
    return ", or ".join(sorted(names)) or "C"


def over_initialisations(cells: Sequence[Cell]) -> str:
    """Return what a caption says of rows with several initialisations."""
    drawn = {(c.features, len(c.initialisations)) for c in cells if c.initialisations}
    return "".join(f" ({name}: over {n} initialisations)" for name, n in sorted(drawn))


def span(counts: Sequence[int]) -> str:
    """Return one count, or the smallest and largest."""
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
