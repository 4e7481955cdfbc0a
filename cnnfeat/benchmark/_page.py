"""What a benchmark's page says, and in which order."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnfeat.benchmark._answer import answer
from cnnfeat.benchmark._figures import Drawn
from cnnfeat.benchmark._summary import BenchmarkReport, chosen_of
from cnnfeat.report import ConfusionSheet, ReportFigure, ReportPage
from cnnfeat.splits import left_out_in_words
from cnnfeat.store import FeatureFile
from cnnfeat.suffixes import PICTURES


def make_page(
    report: BenchmarkReport,
    features: FeatureFile,
    figures: Mapping[str, Drawn],
    pictures: Mapping[str, bytes],
) -> ReportPage:
    """Return the page of a benchmark.

    Parameters
    ----------
    report : BenchmarkReport
    features : FeatureFile
        Its folder of images names the page.
    figures : mapping of str to Drawn
    pictures : mapping of str to bytes
        Each figure in each format, by the name of the file beside the page.
    """
    notes = [*(f"{note}." for note in report.protocol.notes)]
    if len(report.cells) > 1:
        notes.append(
            "The best row was picked by its test accuracy, which flatters it a little: "
            "the more rows, the more."
        )
    if report.n_left_out:
        notes.append(f"Images in no split: {left_out_in_words(report.left_out)}.")
    return ReportPage(
        title=Path(features.table.root).name or features.path.stem,
        subtitle=_subtitle(report),
        answer=answer(report),
        figures=[
            _on_page(report, name, one, pictures) for name, one in figures.items()
        ],
        tables=[table.without_constants() for table in report.tables()],
        notes=notes,
        origins={
            "Settings": _settings(report),
            "Run": report.made,
            "Features": report.provenance,
        },
        warnings=report.warnings,
    )


def _subtitle(report: BenchmarkReport) -> str:
    best = report.best
    size = f", {best.train_per_class} training images a class" * bool(
        best.train_per_class
    )
    n_splits = len(best.splits)
    return (
        f"{report.title}: {len(report.class_names)} classes{size}, {n_splits} "
        f"split{'s' * (n_splits > 1)}"
    )


def _on_page(
    report: BenchmarkReport, name: str, drawn: Drawn, pictures: Mapping[str, bytes]
) -> ReportFigure | ConfusionSheet:
    files = [f"{name}{suffix}" for suffix in PICTURES]
    if name == "confusion":
        matrix = report.best.confusion
        return ConfusionSheet(matrix, report.class_names, drawn.caption, files)
    return ReportFigure(
        pictures[f"{name}.png"],
        drawn.caption,
        drawn.caption,
        has_images=name in ("confused_pairs", "mistakes"),
        files=files,
    )


def _settings(report: BenchmarkReport) -> dict[str, Any]:
    """Return what decides a fit, as people read it."""
    first = report.best.splits[0]
    seeds = ", ".join(str(seed) for seed in report.best.seeds)
    chosen = "chosen inside the training rows of each split"
    if len(first.C_grid) == 1 and first.C is not None:
        chosen = f"{first.C:g}, as given"
    settings = report.settings
    heads = {
        f"head {kind}": ", ".join(f"{key} {value}" for key, value in own.items())
        for kind, own in settings["heads"].items()
    }
    return {
        "protocol": report.protocol.name,
        "metric": report.protocol.metric.replace("_", " "),
        "splits": report.splits_file or f"drawn, with seeds {seeds}",
        chosen_of(report.cells): chosen,
        "scale": settings["scale"],
        "signed square roots": "yes" if settings["signed_sqrt"] else "no",
        "signed power": settings["power"],
        "principal components": settings["n_components"] or "all",
        **heads,
    }
