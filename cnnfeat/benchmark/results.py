"""What a benchmark found: one cell a layer, head and training size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnfeat.metrics import mean_std, paired_difference
from cnnfeat.report.tables import Column, MeanStd, Table

if TYPE_CHECKING:
    from cnnfeat.protocols import Protocol

METRICS = ("mean_per_class_accuracy", "accuracy", "top_5_accuracy")


@dataclass(frozen=True)
class SplitResult:
    """One head on one split; accuracies are fractions.

    `validation` is the mean per-class accuracy of each C on rows inside the training
    rows; empty where one C was given.
    """

    n_train: int
    n_test: int
    C: float
    mean_per_class_accuracy: float
    accuracy: float
    top_5_accuracy: float
    validation: dict[float, float]
    solver: str


@dataclass(frozen=True, eq=False)
class Cell:
    """One row of the table: where the features come from, layer, head, size.

    `confusion` is summed over the splits, int64 (n_classes, n_classes), rows true;
    `mistakes` are (row of the feature file, true class, predicted class) of the first
    split, as positions in the benchmark's classes.
    """

    features: str
    layer: str
    head: str
    train_per_class: int | None
    splits: tuple[SplitResult, ...]
    confusion: np.ndarray
    mistakes: tuple[tuple[int, int, int], ...] = ()

    def values(self, metric: str) -> list[float]:
        """Return one of `METRICS` of every split."""
        return [getattr(split, metric) for split in self.splits]

    def mean_std(self, metric: str) -> MeanStd:
        """Return the mean and sample standard deviation over the splits."""
        mean, std = mean_std(self.values(metric))
        return MeanStd(mean, None if math.isnan(std) else std)

    @property
    def name(self) -> str:
        """The cell in words."""
        size = f", {self.train_per_class} a class" if self.train_per_class else ""
        return f"{self.features} {self.layer}, {self.head}{size}"

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the confusion matrix as JSON types."""
        summary: dict[str, Any] = {
            "features": self.features,
            "layer": self.layer,
            "head": self.head,
            "train_per_class": self.train_per_class,
            "n_train": [split.n_train for split in self.splits],
            "n_test": [split.n_test for split in self.splits],
            "C": [split.C for split in self.splits],
        }
        for metric in METRICS:
            both = self.mean_std(metric)
            values = self.values(metric)
            summary[metric] = {"mean": both.mean, "std": both.std, "values": values}
        return summary


@dataclass(frozen=True, eq=False)
class BenchmarkReport:
    """All cells of a benchmark, and what is needed to read them."""

    protocol: "Protocol"
    cells: tuple[Cell, ...]
    class_names: tuple[str, ...]
    n_left_out: int
    provenance: dict[str, str]
    warnings: tuple[str, ...] = ()
    files: tuple[str, ...] = field(default=())

    @property
    def best(self) -> Cell:
        """The cell with the highest headline number."""
        return max(
            self.cells, key=lambda cell: cell.mean_std(self.protocol.metric).mean
        )

    def table(self) -> Table:
        """Return layer × head with both accuracies."""
        rows = [
            {
                "features": cell.features,
                "layer": cell.layer,
                "head": cell.head,
                "train": cell.train_per_class,
                "n_train": _span([split.n_train for split in cell.splits]),
                "n_test": _span([split.n_test for split in cell.splits]),
                **{metric: cell.mean_std(metric) for metric in METRICS},
                "C": ", ".join(f"{split.C:.3g}" for split in cell.splits),
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
            Column("C", "C of each split"),
        ]
        n_splits = len(self.cells[0].splits)
        caption = f"{self.protocol.title}: mean ± std over {n_splits} splits"
        return Table(rows, columns, caption)

    def comparisons(self) -> list[dict[str, Any]]:
        """Return the best cell against every other on the same splits, pair by pair."""
        best, metric = self.best, self.protocol.metric
        rows = []
        for cell in self.cells:
            if cell is best or cell.train_per_class != best.train_per_class:
                continue
            pairs = paired_difference(best.values(metric), cell.values(metric))
            rows.append(
                {
                    "better": best.name,
                    "than": cell.name,
                    "difference": pairs.mean,
                    "standard_error": pairs.standard_error,
                    "n_splits": pairs.n_splits,
                }
            )
        return rows

    def comparison_table(self) -> Table:
        """Return `comparisons` as a table; percentage points."""
        rows = [
            {
                "than": row["than"],
                "difference": MeanStd(row["difference"], row["standard_error"]),
                "n_splits": row["n_splits"],
            }
            for row in self.comparisons()
        ]
        columns = [
            Column("than", "against"),
            Column("difference", "difference ± standard error", percent=True),
            Column("n_splits", "splits"),
        ]
        caption = f"{self.best.name}, paired over the same splits"
        return Table(rows, columns, caption)

    def published_table(self) -> Table:
        """Return the papers' numbers for the sizes that were measured."""
        sizes = {cell.train_per_class for cell in self.cells}
        rows = [
            {
                "source": result.source,
                "layer": result.layer,
                "head": result.head,
                "train": result.train_per_class,
                "percent": result.percent,
            }
            for result in self.protocol.published
            if result.train_per_class is None or result.train_per_class in sizes
        ]
        columns = [
            Column("source"),
            Column("layer"),
            Column("head"),
            Column("train", "train a class"),
            Column("percent", "as printed (%)"),
        ]
        return Table(rows, columns, "Published")

    def tables(self) -> list[Table]:
        """Return the tables that have rows."""
        all_tables = [self.table(), self.comparison_table(), self.published_table()]
        return [table for table in all_tables if table.rows]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return {
            "protocol": self.protocol.name,
            "metric": self.protocol.metric,
            "n_splits": len(self.cells[0].splits),
            "n_classes": len(self.class_names),
            "n_left_out": self.n_left_out,
            "rows": [cell.to_dict() for cell in self.cells],
            "best": self.best.name,
            "comparisons": self.comparisons(),
            "published": list(self.published_table().rows),
            "notes": list(self.protocol.notes),
            "warnings": list(self.warnings),
            "provenance": self.provenance,
            "files": list(self.files),
        }


def _span(counts: Sequence[int]) -> str:
    """Return one count, or the smallest and largest."""
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
