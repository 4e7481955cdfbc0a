"""The figures of a benchmark's report; classes and images are the best row's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cnnfeat import images
from cnnfeat.benchmark._class_tables import predictions_of
from cnnfeat.benchmark._published import published_references
from cnnfeat.benchmark._results import Cell, TestedRows
from cnnfeat.benchmark._summary import BenchmarkReport
from cnnfeat.report import (
    ConfusedPair,
    Reference,
    Series,
    find_confused_pairs,
    plot_accuracy_by_layer,
    plot_c_curve,
    plot_confused_pairs,
    plot_confusion_matrix,
    plot_learning_curve,
    plot_mistakes,
    plot_per_class_accuracy,
)
from cnnfeat.store import FeatureFile

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURE_NAMES = (
    *("accuracy_by_layer", "learning_curve", "per_class_accuracy", "confusion"),
    *("confused_pairs", "mistakes", "c_curve"),
)
"""All that there may be, in the order of the page."""

_N_EXAMPLES = 3


@dataclass(frozen=True, eq=False)
class Drawn:
    """A figure and what is said below it."""

    figure: Figure
    caption: str


def report_figures(report: BenchmarkReport, features: FeatureFile) -> dict[str, Drawn]:
    """Return the figures that the results have something to show in, by name."""
    drawn = {**_line_figures(report), **_class_figures(report, features)}
    return {name: drawn[name] for name in FIGURE_NAMES if name in drawn}


def _line_figures(report: BenchmarkReport) -> dict[str, Drawn]:
    """Draw what changes with the layer, the training size and C."""
    words = report.protocol.metric.replace("_", " ")
    spread = ", mean ± standard deviation" * (len(report.best.splits) > 1)
    drawn: dict[str, Drawn] = {}
    layers = list(dict.fromkeys(cell.layer for cell in _main(report)))
    if len(layers) > 1:
        figure = plot_accuracy_by_layer(
            layers,
            _by_layer(report, layers),
            references=[
                *_level_baselines(report, layers),
                *published_references(report.protocol, _largest(report)),
            ],
            metric=words,
        )
        caption = f"{words.capitalize()} by layer{spread}."
        drawn["accuracy_by_layer"] = Drawn(figure, caption)
    sizes = sorted({cell.train_per_class or 0 for cell in report.cells})
    if len(sizes) > 1:
        figure = plot_learning_curve(
            sizes,
            _by_size(report, sizes),
            references=published_references(report.protocol, report.cells),
            metric=words,
        )
        caption = f"{words.capitalize()} by training images a class{spread}."
        drawn["learning_curve"] = Drawn(figure, caption)
    if any(split.validation for cell in _main(report) for split in cell.splits):
        caption = (
            "Accuracy of each C on the rows that it was chosen on, inside the training "
            "rows; mean over the splits."
        )
        drawn["c_curve"] = Drawn(_c_curve(report), caption)
    return drawn


def _class_figures(report: BenchmarkReport, features: FeatureFile) -> dict[str, Drawn]:
    """Draw the best row's classes, and which of them are taken for one another."""
    best = report.best
    drawn = {
        "confusion": Drawn(
            plot_confusion_matrix(best.confusion, report.class_names),
            f"What each class was taken for by {best.name}, all splits together.",
        ),
        "per_class_accuracy": Drawn(
            plot_per_class_accuracy(_per_class(best), report.class_names),
            f"Accuracy of each class, {best.name}.",
        ),
    }
    pairs = _confused_pairs(report, features)
    if pairs:
        caption = (
            "The classes most often taken for one another: mistaken images at the "
            "left, the class that they were taken for at the right."
        )
        figure = plot_confused_pairs(pairs, n_examples=_N_EXAMPLES)
        drawn["confused_pairs"] = Drawn(figure, caption)
    if best.mistakes:
        caption = (
            f"Images that {best.name} takes for another class: their own class, the "
            "one that they are taken for, and its score; the surest mistakes first."
        )
        drawn["mistakes"] = Drawn(_mistakes(report, features), caption)
    return drawn


def _main(report: BenchmarkReport) -> list[Cell]:
    """Return the cells of the feature files themselves, without the baselines."""
    own = {report.cells[0].features, *report.others}
    return [cell for cell in report.cells if cell.features in own]


def _lines(report: BenchmarkReport) -> dict[str, list[Cell]]:
    """Return cells of the largest training size by line: features and head."""
    lines: dict[str, list[Cell]] = {}
    for cell in _largest(report):
        lines.setdefault(f"{cell.features}, {cell.head}", []).append(cell)
    return lines


def _largest(report: BenchmarkReport) -> list[Cell]:
    """Return the cells of the largest training size."""
    largest = max(cell.train_per_class or 0 for cell in report.cells)
    return [cell for cell in report.cells if (cell.train_per_class or 0) == largest]


def _by_layer(report: BenchmarkReport, layers: list[str]) -> list[Series]:
    """Return a line for each kind of features and head that has these layers."""
    return [
        _series(label, [at.get(layer) for layer in layers], report)
        for label, cells in _lines(report).items()
        if (at := {cell.layer: cell for cell in cells}).keys() & set(layers)
    ]


def _level_baselines(report: BenchmarkReport, layers: list[str]) -> list[Reference]:
    """Return the baselines that have no such layers: one number across the plot."""
    values = [
        (cell, cell.mean_std(report.protocol.metric))
        for cell in _largest(report)
        if cell not in _main(report) and cell.layer not in layers
    ]
    return [
        Reference(f"{cell.features}, {cell.head}: {value.percent()}", value.mean)
        for cell, value in values
    ]


def _by_size(report: BenchmarkReport, sizes: list[int]) -> list[Series]:
    """Return the learning curve of the best layer of each kind of features and head."""
    series = []
    for label, cells in _lines(report).items():
        best = max(cells, key=lambda cell: cell.mean_std(report.protocol.metric).mean)
        alike = {
            cell.train_per_class or 0: cell
            for cell in report.cells
            if (cell.features, cell.layer, cell.head)
            == (best.features, best.layer, best.head)
        }
        label = f"{label}, {best.layer}"
        series.append(_series(label, [alike.get(size) for size in sizes], report))
    return series


def _series(label: str, cells: list[Cell | None], report: BenchmarkReport) -> Series:
    values = [cell.mean_std(report.protocol.metric) if cell else None for cell in cells]
    means = [value.mean if value else math.nan for value in values]
    deviations = [value.std if value else math.nan for value in values]
    has_spread = None not in deviations  # one split says nothing about its spread
    first = next(cell for cell in cells if cell)
    heads = list(dict.fromkeys(cell.head for cell in report.cells))
    return Series(
        label,
        means,
        [one or 0.0 for one in deviations] if has_spread else None,
        baseline=first.features != report.cells[0].features,
        style=heads.index(first.head),
    )


def _c_curve(report: BenchmarkReport) -> Figure:
    """Draw the best cell of each head, C as chosen most often."""
    best_of: dict[str, Cell] = {}
    for cell in _main(report):
        if not cell.splits[0].validation:
            continue
        known = best_of.get(cell.head)
        metric = report.protocol.metric
        if not known or cell.mean_std(metric).mean > known.mean_std(metric).mean:
            best_of[cell.head] = cell
    splits = [split for cell in best_of.values() for split in cell.splits]
    grid = sorted({C for split in splits for C in split.C_grid})
    series, chosen = [], {}
    for head, cell in best_of.items():
        label, tried = f"{head}, {cell.layer}", _tried(cell, grid)
        spread = tried.std(0, ddof=1).filled(0)  # of one split there is none
        mean = tried.mean(0).filled(math.nan)
        series.append(Series(label, mean.tolist(), spread.tolist()))
        picks = [split.C for split in cell.splits if split.C is not None]
        chosen[label] = max(sorted(set(picks)), key=picks.count)
    return plot_c_curve(grid, series, chosen=chosen)


def _tried(cell: Cell, grid: Sequence[float]) -> np.ma.MaskedArray:
    """Return validation scores (n_splits, n_grid), masked where a C was not tried."""
    scores = np.full((len(cell.splits), len(grid)), math.nan)
    for row, split in zip(scores, cell.splits, strict=True):
        row[np.searchsorted(grid, split.C_grid)] = split.validation
    return np.ma.masked_invalid(scores)


def _per_class(cell: Cell) -> np.ndarray:
    counts = cell.confusion.sum(axis=1)
    accuracy: np.ndarray = np.diag(cell.confusion) / np.maximum(counts, 1)
    return np.where(counts > 0, accuracy, np.nan)


def _confused_pairs(
    report: BenchmarkReport, features: FeatureFile
) -> list[ConfusedPair]:
    """Return the most confused pairs with example images, where at hand."""
    best = report.best
    read = images.thumbnail_reader(features.table)
    pairs = []
    for true, predicted, count in find_confused_pairs(best.confusion, 6):
        wrong = [row for row, t, p in best.mistakes if (t, p) == (true, predicted)]
        rows = list(dict.fromkeys(wrong))  # a row may be wrong in several splits
        pairs.append(
            ConfusedPair(
                report.class_names[true],
                report.class_names[predicted],
                count,
                int(best.confusion[true].sum()),
                _all_read(read, rows[:_N_EXAMPLES]),
                _all_read(read, _first_rows(features, report.class_names[predicted])),
            )
        )
    return pairs


def _all_read(
    read: Callable[[int], np.ndarray | None], rows: Sequence[int]
) -> list[np.ndarray]:
    return [image for image in map(read, rows) if image is not None]


def _first_rows(features: FeatureFile, class_name: str) -> list[int]:
    """Return the rows of a class's first images."""
    label = features.class_names.index(class_name)
    usable = features.ok & (features.labels == label)
    rows: list[int] = np.flatnonzero(usable)[:_N_EXAMPLES].tolist()
    return rows


def _mistakes(report: BenchmarkReport, features: FeatureFile) -> Figure:
    """Draw the wrong images of the best row, each as its first test split says."""
    best = report.best
    parts = [
        np.concatenate([getattr(one, name) for one in best.tested])
        for name in ("rows", "y", "ranked", "scores")
    ]
    rows, first = np.unique(parts[0], return_index=True)
    tested = TestedRows(rows, *(part[first] for part in parts[1:]))
    read = images.thumbnail_reader(features.table)
    predictions = predictions_of(best, tested, report, features.paths)
    return plot_mistakes(predictions, lambda position: read(int(rows[position])))
