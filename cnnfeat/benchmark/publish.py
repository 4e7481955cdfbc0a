"""Writing a benchmark down: tables, every split's rows, plots and one HTML page."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnfeat.benchmark.options import BenchmarkOptions
from cnnfeat.benchmark.results import BenchmarkReport, Cell
from cnnfeat.benchmark.rows import SplitSet
from cnnfeat.errors import ImageError, OutputError
from cnnfeat.outputs import check_output, write_output
from cnnfeat.report import (
    ConfusedPair,
    ReportFigure,
    ReportPage,
    Series,
    Table,
    figure_png,
    find_confused_pairs,
    plot_accuracy_by_layer,
    plot_c_curve,
    plot_confused_pairs,
    plot_confusion_matrix,
    plot_learning_curve,
    plot_per_class_accuracy,
    save_html,
)
from cnnfeat.splits import splits_to_csv

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cnnfeat.store import FeatureFile

# Every name that a report may write: none is replaced unasked, and with --overwrite
# none of an earlier report is left among those of a new one.
_OWN_NAMES = (
    *("results.json", "results.csv", "table.md", "index.html", "splits*.csv"),
    *("accuracy_by_layer.png", "learning_curve.png", "c_curve.png", "confusion.png"),
    *("per_class_accuracy.png", "confused_pairs.png"),
)
_N_EXAMPLES = 3
_EXAMPLE_SIDE = 160  # pixels


def check_report_dir(folder: str, *, overwrite: bool) -> None:
    """Raise OutputError unless a report may be written into `folder`.

    Raises
    ------
    OutputError
        If a file of a report is there already and `overwrite` is False, or the folder
        cannot be made.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made: {error.strerror}") from error
    for own in _own_files(path):
        check_output(own, overwrite=overwrite)


def _own_files(folder: Path) -> list[Path]:
    """Return what is in `folder` under a name that a report writes."""
    return sorted(path for name in _OWN_NAMES for path in folder.glob(name))


def publish(
    report: BenchmarkReport,
    features: "FeatureFile",
    split_sets: Sequence[SplitSet],
    options: BenchmarkOptions,
) -> BenchmarkReport:
    """Write the report's files where the options say; return it with their names."""
    if options.report_dir is None:
        return report
    folder = Path(options.report_dir)
    texts = {
        "results.csv": _csv(report, options),
        "table.md": "\n\n".join(table.to_markdown() for table in report.tables())
        + "\n",
        **_splits(split_sets, features.paths),
    }
    figures = _figures(report, features)
    names = (*texts, *(f"{name}.png" for name in figures), "index.html", "results.json")
    report = replace(report, files=names)
    texts["results.json"] = json.dumps(_json_safe(report.to_dict()), indent=1) + "\n"
    for name, text in texts.items():
        write_output(folder / name, text.encode("utf-8"), overwrite=True)
    for name, figure in figures.items():
        write_output(folder / f"{name}.png", figure.png, overwrite=True)
    save_html(_page(report, list(figures.values())), folder / "index.html")
    for path in _own_files(folder):
        if path.name not in names:
            path.unlink()
    return report


def _json_safe(value: Any) -> Any:
    """Return `value` with NaN as None: JSON has no word for it."""
    if isinstance(value, dict):
        return {key: _json_safe(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_json_safe(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _csv(report: BenchmarkReport, options: BenchmarkOptions) -> str:
    """Return one line for each cell and split."""
    rows = [
        {
            "features": cell.features,
            "layer": cell.layer,
            "head": cell.head,
            "train_per_class": cell.train_per_class,
            "split_index": index,
            "seed": options.draw.seed + index,
            "n_train": split.n_train,
            "n_test": split.n_test,
            "C": split.C,
            "mean_per_class_accuracy": split.mean_per_class_accuracy,
            "accuracy": split.accuracy,
            "top_5_accuracy": split.top_5_accuracy,
            "solver": split.solver,
        }
        for cell in report.cells
        for index, split in enumerate(cell.splits)
    ]
    return Table(rows).to_csv()


def _splits(split_sets: Sequence[SplitSet], paths: Sequence[str]) -> dict[str, str]:
    """Return a CSV of paths for each training size; the name tells it if several."""
    if len(split_sets) == 1:
        return {"splits.csv": splits_to_csv(split_sets[0].splits, paths)}
    return {
        f"splits-{one.train_per_class}.csv": splits_to_csv(one.splits, paths)
        for one in split_sets
    }


def _page(report: BenchmarkReport, figures: list[ReportFigure]) -> ReportPage:
    best = report.best
    metric = report.protocol.metric
    summary = (
        f"{len(report.class_names)} classes, {len(best.splits)} splits. Best: "
        f"{best.name}, {metric.replace('_', ' ')} "
        f"{best.mean_std(metric).percent()} %. C was chosen inside the training rows. "
        f"{report.n_left_out} images could not be read and are left out."
    )
    return ReportPage(
        title=report.protocol.title,
        summary=" ".join([summary, *report.protocol.notes]),
        tables=report.tables(),
        figures=figures,
        provenance=report.provenance,
        warnings=report.warnings,
    )


# ---------------------------------------------------------------------------- figures


def _figures(
    report: BenchmarkReport, features: "FeatureFile"
) -> dict[str, ReportFigure]:
    """Return the figures that the results have something to show in."""
    best, metric = report.best, report.protocol.metric
    words = metric.replace("_", " ")
    drawn: dict[str, tuple[Figure, str]] = {}
    layers = list(dict.fromkeys(cell.layer for cell in _main(report)))
    if len(layers) > 1:
        figure = plot_accuracy_by_layer(layers, _by_layer(report, layers), metric=words)
        drawn["accuracy_by_layer"] = figure, f"{words} by layer, mean ± std."
    sizes = sorted({cell.train_per_class or 0 for cell in report.cells})
    if len(sizes) > 1:
        figure = plot_learning_curve(sizes, _by_size(report, sizes), metric=words)
        drawn["learning_curve"] = figure, f"{words} by training images a class."
    if best.splits[0].validation:
        drawn["c_curve"] = (
            _c_curve(report),
            "Accuracy of each C on the rows that it "
            "was chosen on, inside the training rows; mean over the splits.",
        )
    drawn["confusion"] = (
        plot_confusion_matrix(best.confusion, report.class_names),
        f"Confusion matrix of {best.name}, all splits together.",
    )
    drawn["per_class_accuracy"] = (
        plot_per_class_accuracy(_per_class(best), report.class_names),
        f"Accuracy of each class, {best.name}.",
    )
    pairs = _confused_pairs(report, features)
    if pairs:
        drawn["confused_pairs"] = (
            plot_confused_pairs(pairs, n_examples=_N_EXAMPLES),
            "The classes most often taken for one another: mistaken images at the "
            "left, the class that they were taken for at the right.",
        )
    return {
        name: ReportFigure(figure_png(figure), caption, caption)
        for name, (figure, caption) in drawn.items()
    }


def _main(report: BenchmarkReport) -> list[Cell]:
    """Return the cells of the features themselves, without the controls."""
    first = report.cells[0].features
    return [cell for cell in report.cells if cell.features == first]


def _lines(report: BenchmarkReport) -> dict[str, list[Cell]]:
    """Return cells of the largest training size by line: features and head."""
    largest = max(cell.train_per_class or 0 for cell in report.cells)
    lines: dict[str, list[Cell]] = {}
    for cell in report.cells:
        if (cell.train_per_class or 0) == largest:
            lines.setdefault(f"{cell.features}, {cell.head}", []).append(cell)
    return lines


def _by_layer(report: BenchmarkReport, layers: list[str]) -> list[Series]:
    """Return a line for each kind of features and head; pixels are level."""
    series = []
    for label, cells in _lines(report).items():
        at = {cell.layer: cell for cell in cells}
        level = cells[0] if len(cells) == 1 and cells[0].layer not in layers else None
        series.append(
            _series(label, [at.get(layer, level) for layer in layers], report)
        )
    return series


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
    return Series(
        label, means, [one or 0.0 for one in deviations] if has_spread else None
    )


def _c_curve(report: BenchmarkReport) -> "Figure":
    """Draw the best cell of each head, C as chosen most often."""
    best_of: dict[str, Cell] = {}
    for cell in _main(report):
        known = best_of.get(cell.head)
        metric = report.protocol.metric
        if not known or cell.mean_std(metric).mean > known.mean_std(metric).mean:
            best_of[cell.head] = cell
    grid = sorted({C for cell in best_of.values() for C in cell.splits[0].validation})
    series, chosen = [], {}
    for head, cell in best_of.items():
        curves = np.array([_curve(split.validation, grid) for split in cell.splits])
        spread = curves.std(0, ddof=1) if len(curves) > 1 else np.zeros(len(grid))
        label = f"{head}, {cell.layer}"
        series.append(Series(label, curves.mean(0).tolist(), spread.tolist()))
        picks = [split.C for split in cell.splits]
        chosen[label] = max(sorted(set(picks)), key=picks.count)
    return plot_c_curve(grid, series, chosen=chosen)


def _curve(validation: dict[float, float], grid: list[float]) -> list[float]:
    return [validation.get(C, math.nan) for C in grid]


def _per_class(cell: Cell) -> np.ndarray:
    counts = cell.confusion.sum(axis=1)
    accuracy: np.ndarray = np.diag(cell.confusion) / np.maximum(counts, 1)
    return np.where(counts > 0, accuracy, np.nan)


def _confused_pairs(
    report: BenchmarkReport, features: "FeatureFile"
) -> list[ConfusedPair]:
    """Return the most confused pairs with images of the first split, where at hand."""
    best = report.best
    if best.features != report.cells[0].features:
        return []
    examples = _Examples(features)
    pairs = []
    for true, predicted, count in find_confused_pairs(best.confusion, 6):
        rows = [row for row, t, p in best.mistakes if (t, p) == (true, predicted)]
        pairs.append(
            ConfusedPair(
                report.class_names[true],
                report.class_names[predicted],
                count,
                int(best.confusion[true].sum()),
                examples.of_rows(rows[:_N_EXAMPLES]),
                examples.of_class(report.class_names[predicted]),
            )
        )
    return pairs


class _Examples:
    """Small images of rows of a feature file; none where they are gone."""

    def __init__(self, features: "FeatureFile") -> None:
        self._features = features

    def of_rows(self, rows: Sequence[int]) -> list[np.ndarray]:
        """Return the images of some rows, uint8 (h, w, 3)."""
        images = (self._read(row) for row in rows)
        return [image for image in images if image is not None]

    def of_class(self, class_name: str) -> list[np.ndarray]:
        """Return the first images of a class."""
        label = self._features.class_names.index(class_name)
        usable = self._features.ok & (self._features.labels == label)
        return self.of_rows(np.flatnonzero(usable)[:_N_EXAMPLES].tolist())

    def _read(self, row: int) -> np.ndarray | None:
        from cnnfeat.images import decode_image

        path = Path(self._features.root) / self._features.paths[row]
        try:
            image = decode_image(path.read_bytes())
        except (OSError, ImageError):
            return None
        image.thumbnail((_EXAMPLE_SIDE, _EXAMPLE_SIDE))
        return np.asarray(image)
