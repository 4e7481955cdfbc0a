"""A benchmark class by class and image by image, as CSV for programs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnfeat.benchmark._results import Cell, TestedRows
from cnnfeat.benchmark._summary import BenchmarkReport
from cnnfeat.heads import HEAD_KINDS
from cnnfeat.report import Predictions, Table

NAMES = ("per_class.csv", "confusion.csv", "predictions.csv")


def class_tables(report: BenchmarkReport, paths: Sequence[str]) -> dict[str, str]:
    """Return the CSVs by their names.

    `per_class.csv` has a line for each row of the table and class, `confusion.csv` one
    for each two classes that occur together, all splits counted; `predictions.csv` one
    for each split and test image of the best row of each kind of features.

    Parameters
    ----------
    report : BenchmarkReport
    paths : sequence of str
        Of the rows of the feature file.
    """
    leaders = best_of_features(report)
    tables = (
        [line for cell in report.cells for line in _classes(cell, report)],
        [line for cell in report.cells for line in _pairs(cell, report)],
        [line for cell in leaders for line in _images(cell, report, paths)],
    )
    made = (Table(rows).to_csv() for rows in tables)
    return dict(zip(NAMES, made, strict=True))


def best_of_features(report: BenchmarkReport) -> list[Cell]:
    """Return the best cell of each kind of features, in the order of the table."""
    best: dict[str, Cell] = {}
    metric = report.protocol.metric
    for cell in report.cells:
        known = best.get(cell.features)
        if not known or cell.mean_std(metric).mean > known.mean_std(metric).mean:
            best[cell.features] = cell
    return list(best.values())


def predictions_of(
    cell: Cell, tested: TestedRows, report: BenchmarkReport, paths: Sequence[str]
) -> Predictions:
    """Return what a cell says of the test images of one split."""
    return Predictions(
        paths=[paths[row] for row in tested.rows],
        class_names=report.class_names,
        y=tested.y,
        ranked=tested.ranked,
        scores=tested.scores,
        score=HEAD_KINDS[cell.head].score,
    )


def _named(cell: Cell) -> dict[str, Any]:
    return {
        "features": cell.features,
        "layer": cell.layer,
        "head": cell.head,
        "train_per_class": cell.train_per_class,
    }


def _classes(cell: Cell, report: BenchmarkReport) -> list[dict[str, Any]]:
    counts, correct = cell.confusion.sum(axis=1), np.diag(cell.confusion)
    return [
        {
            **_named(cell),
            "class": name,
            "n_test": n,
            "n_correct": right,
            "accuracy": right / n if n else None,
        }
        for name, n, right in zip(
            report.class_names, counts.tolist(), correct.tolist(), strict=True
        )
    ]


def _pairs(cell: Cell, report: BenchmarkReport) -> list[dict[str, Any]]:
    names = report.class_names
    return [
        {
            **_named(cell),
            "label": names[true],
            "predicted": names[predicted],
            "count": int(cell.confusion[true, predicted]),
        }
        for true, predicted in np.argwhere(cell.confusion).tolist()
    ]


def _images(
    cell: Cell, report: BenchmarkReport, paths: Sequence[str]
) -> list[dict[str, Any]]:
    return [
        {**_named(cell), "split_index": index, **line}
        for index, tested in enumerate(cell.tested)
        for line in predictions_of(cell, tested, report, paths).rows()
    ]
