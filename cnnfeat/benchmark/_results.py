"""What a benchmark found in one cell of its table: a layer, head and training size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from cnnfeat.metrics import mean_std
from cnnfeat.report import MeanStd, format_number, format_range

_OF_EACH_SPLIT = (
    *("seed", "n_train", "n_test", "n_classes", "least_n_test", "C", "C_grid"),
    *("validation", "solver", "n_iter", "k", "temperature"),
)
METRICS = ("mean_per_class_accuracy", "accuracy", "top_5_accuracy")


@dataclass(frozen=True)
class SplitResult:
    """One head on one split; accuracies are fractions.

    `C_grid` ascends; `validation` is the mean per-class accuracy of each of its values
    on rows held out of the training rows, empty where one C was given. A kind of head
    without C has None and (). `k` and `temperature` are those of nearest neighbours.
    `seed` drew the split, its folds and dropout; `n_train` and `n_test` count the rows
    used, `n_classes` the classes that are tested, and `least_n_test` the test rows of
    the one that has the fewest.
    """

    seed: int
    n_train: int
    n_test: int
    n_classes: int
    least_n_test: int
    C: float | None
    C_grid: tuple[float, ...]
    validation: tuple[float, ...]
    mean_per_class_accuracy: float
    accuracy: float
    top_5_accuracy: float
    solver: str
    n_iter: int
    k: int | None = None
    temperature: float | None = None

    @property
    def chosen(self) -> str:
        """What was chosen inside the training rows, in words; "" where nothing was."""
        if self.C is not None:
            return f"C = {format_number(self.C)}"
        if self.k is None or self.temperature is None:
            return ""
        return f"k = {self.k}, T = {format_number(self.temperature)}"


@dataclass(frozen=True, eq=False)
class TestedRows:
    """What was said of the test rows of one split.

    `rows` are of the (first) feature file, `y` their classes, (n,); `ranked` the best
    class and the runner-up, `scores` theirs, (n, 2): probabilities where the kind of
    head gives them, else decision values. Classes are positions in the benchmark's.
    """

    rows: np.ndarray
    y: np.ndarray
    ranked: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class TableRow:
    """What a row of the table is of: origin of the features, layer, head, size."""

    features: str
    layer: str
    head: str
    train_per_class: int | None

    @property
    def is_its_own_layer(self) -> bool:
        """Whether the layer's name says no more: that of "raw pixels" is "pixels"."""
        return self.features.split()[-1:] == [self.layer]

    @property
    def name(self) -> str:
        """The row in words, as `--compare` takes it."""
        size = f", {self.train_per_class} a class" if self.train_per_class else ""
        layer = "" if self.is_its_own_layer else f" {self.layer}"
        return f"{self.features}{layer}, {self.head}{size}"


@dataclass(frozen=True, eq=False)
class Cell(TableRow):
    """One row of the table with its results.

    `confusion` is summed over the splits, int64 (n_classes, n_classes), rows true;
    `tested` says what was predicted, split by split. Of random weights
    `initialisations` are the results of each draw: the splits' accuracies are means
    over them, `confusion` their sum, and `tested`, C and the rest those of one.
    """

    splits: tuple[SplitResult, ...]
    confusion: np.ndarray
    tested: tuple[TestedRows, ...] = ()
    initialisations: tuple["Cell", ...] = ()

    @cached_property
    def mistakes(self) -> list[tuple[int, int, int]]:
        """Wrong rows as (row of the file, true class, predicted), split after split."""
        return [
            (row, true, predicted)
            for one in self.tested
            for row, true, predicted in zip(
                one.rows.tolist(),
                one.y.tolist(),
                one.ranked[:, 0].tolist(),
                strict=True,
            )
            if true != predicted
        ]

    @property
    def chosen(self) -> str:
        """What was chosen, C or k and temperature T: median (range) over the splits."""
        parts = []
        for name, key in (("", "C"), ("k ", "k"), ("T ", "temperature")):
            values = [getattr(split, key) for split in self.splits]
            if None not in values:
                parts.append(name + format_range(values))
        return ", ".join(parts)

    def values(self, metric: str) -> list[float]:
        """Return one of `METRICS` of every split."""
        return [getattr(split, metric) for split in self.splits]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of each split."""
        return tuple(split.seed for split in self.splits)

    def mean_std(self, metric: str) -> MeanStd:
        """Return the mean and sample standard deviation over the splits.

        Where there are initialisations, over their means.
        """
        means = [float(np.mean(one.values(metric))) for one in self.initialisations]
        mean, std = mean_std(means or self.values(metric))
        return MeanStd(mean, None if math.isnan(std) else std)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the confusion matrix as JSON types."""
        summary: dict[str, Any] = {
            "name": self.name,
            "features": self.features,
            "layer": self.layer,
            "head": self.head,
            "train_per_class": self.train_per_class,
        }
        for field_name in _OF_EACH_SPLIT:
            values = [getattr(split, field_name) for split in self.splits]
            summary[field_name] = [
                list(value) if isinstance(value, tuple) else value for value in values
            ]
        for metric in METRICS:
            both = self.mean_std(metric)
            values = self.values(metric)
            summary[metric] = {"mean": both.mean, "std": both.std, "values": values}
        if self.initialisations:
            draws = [one.to_dict() for one in self.initialisations]
            summary["initialisations"] = draws
        return summary


def averaged(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells with those of one name, of several initialisations, as one."""
    named: dict[str, list[Cell]] = {}
    for cell in cells:
        named.setdefault(cell.name, []).append(cell)
    return [own[0] if len(own) == 1 else _average(own) for own in named.values()]


def _average(cells: Sequence[Cell]) -> Cell:
    splits = []
    for drawn in zip(*(cell.splits for cell in cells), strict=True):
        middle = sorted(drawn, key=lambda split: split.C)[len(drawn) // 2]
        means = {m: float(np.mean([getattr(d, m) for d in drawn])) for m in METRICS}
        splits.append(replace(middle, **means))
    return replace(
        cells[0],
        splits=tuple(splits),
        confusion=np.sum([cell.confusion for cell in cells], axis=0),
        initialisations=tuple(cells),
    )
