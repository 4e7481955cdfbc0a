"""A benchmark's answer in three sentences: the best row, beside what, and where not."""

from __future__ import annotations

import math

import numpy as np

from cnnfeat.benchmark._results import Cell
from cnnfeat.benchmark._summary import BenchmarkReport
from cnnfeat.heads import HEAD_KINDS
from cnnfeat.report import format_percent


def answer(report: BenchmarkReport) -> str:
    """Return the three sentences that a page opens with."""
    return " ".join([_best(report), _compared(report), _hardest(report)])


def _words(cell: Cell) -> str:
    """Return a row as a sentence names it."""
    head = HEAD_KINDS[cell.head].words
    if cell.features == "raw pixels":
        return f"{head} on raw pixels"
    with_or_of = "with" if cell.features == "random weights" else "of"
    return f"{head} on {cell.layer} {with_or_of} {cell.features}"


def _percent(cell: Cell, report: BenchmarkReport) -> str:
    return f"{cell.mean_std(report.protocol.metric).percent()} %"


def _best(report: BenchmarkReport) -> str:
    best, n_splits = report.best, len(report.best.splits)
    metric = report.protocol.metric.replace("_", " ").replace("per class", "per-class")
    over = f" (mean ± standard deviation over {n_splits} splits)" * (n_splits > 1)
    row = _words(best)
    if len(report.cells) > 1:
        opening = f"The best of {len(report.cells)} rows is {row}, with"
    else:
        opening = f"{row[0].upper()}{row[1:]} has"
    return f"{opening} {metric} {_percent(best, report)}{over}."


def _compared(report: BenchmarkReport) -> str:
    """Set the best row beside the baselines, or the next row, on the same splits."""
    best, own = report.best, report.cells[0].features
    rivals = [
        cell
        for cell in report.cells
        if cell is not best and cell.train_per_class == best.train_per_class
    ]
    if not rivals:
        return f"Plain accuracy is {best.mean_std('accuracy').percent()} %."
    if best.features != own:
        cell = _leaders(report, [one for one in rivals if one.features == own])[0]
        return (
            f"{own} itself comes to {_percent(cell, report)} with {_words(cell)}, "
            f"{_less(report, cell)}: here its features do not pay."
        )
    baselines = _leaders(report, [one for one in rivals if one.features != own])
    if not baselines:
        cell = _leaders(report, rivals, by_features=False)[0]
        return f"Next on the same splits is {_words(cell)}, {_less(report, cell)}."
    told = [
        f"{cell.features} {_percent(cell, report)} ({_less(report, cell)})"
        for cell in baselines
    ]
    return f"On the same splits the baselines reach at best: {', '.join(told)}."


def _leaders(
    report: BenchmarkReport, cells: list[Cell], *, by_features: bool = True
) -> list[Cell]:
    """Return the best cell of each kind of features, or of all, the best one first."""
    ranked = sorted(cells, key=lambda cell: -cell.mean_std(report.protocol.metric).mean)
    if not by_features:
        return ranked[:1]
    return list({cell.features: cell for cell in reversed(ranked)}.values())[::-1]


def _less(report: BenchmarkReport, cell: Cell) -> str:
    """Return how far a row is behind the best, in points, and how sure that is."""
    names = {report.best.name, cell.name}
    (found,) = (one for one in report.comparisons() if {one.better, one.than} == names)
    told = f"{format_percent(found.difference)} points less"
    if math.isnan(found.low):
        return told
    interval = f"{format_percent(found.low)} to {format_percent(found.high)}"
    unclear = ", which may be luck" if found.low <= 0 else ""
    return f"{told}, 95 % interval {interval}{unclear}"


def _hardest(report: BenchmarkReport) -> str:
    """Name the class with the most mistakes for its size, and what it is taken for."""
    counts = report.best.confusion
    totals = counts.sum(axis=1)
    shares = np.where(totals > 0, np.diag(counts) / np.maximum(totals, 1), np.inf)
    worst, k = int(shares.argmin()), len(counts)
    n_right = int((shares == 1).sum())
    if shares[worst] >= 1:
        return "No test image was given a wrong class."
    others = counts[worst].copy()
    others[worst] = 0
    return (
        f"Hardest is {report.class_names[worst]} ({format_percent(shares[worst])} % "
        f"right), most often taken for {report.class_names[int(others.argmax())]}; "
        f"{n_right} of {k} classes are always right."
    )
