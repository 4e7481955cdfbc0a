"""Writing a benchmark down: tables, every split's rows, figures and one HTML page."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cnnfeat.benchmark._figures import report_figures
from cnnfeat.benchmark._options import BenchmarkOptions
from cnnfeat.benchmark._rows import SplitSet
from cnnfeat.benchmark._summary import BenchmarkReport
from cnnfeat.errors import OutputError
from cnnfeat.images import image_files
from cnnfeat.outputs import check_outputs, json_safe, write_output
from cnnfeat.report import ReportFigure, ReportPage, Table, save_html
from cnnfeat.splits import splits_to_csv
from cnnfeat.store import FeatureFile

# Every name that a report may write: none is replaced unasked, and with --overwrite
# none of an earlier report is left among those of a new one.
_OWN_NAMES = (
    *("results.json", "results.csv", "table.md", "index.html", "splits*.csv"),
    *("accuracy_by_layer.png", "learning_curve.png", "c_curve.png", "confusion.png"),
    *("per_class_accuracy.png", "confused_pairs.png"),
)
_SETTINGS = ("scale", "signed_sqrt", "n_components")


def check_report_dir(features: FeatureFile, options: BenchmarkOptions) -> None:
    """Raise OutputError unless the report may be written where the options say.

    Raises
    ------
    OutputError
        If a file of a report is there already and is not to be replaced, or is read by
        the benchmark, or the folder cannot be made.
    """
    if options.report_dir is None:
        return
    path = Path(options.report_dir)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be made: {error.strerror}") from error
    read = [features.path, *options.draw.files_read]
    read += map(Path, image_files(features.table))
    check_outputs(_own_files(path), read, overwrite=options.overwrite)


def _own_files(folder: Path) -> list[Path]:
    """Return what is in `folder` under a name that a report writes."""
    return sorted(path for name in _OWN_NAMES for path in folder.glob(name))


def publish(
    report: BenchmarkReport,
    features: FeatureFile,
    options: BenchmarkOptions,
) -> BenchmarkReport:
    """Write the report's files where the options say; return it with their names."""
    if options.report_dir is None:
        return report
    folder = Path(options.report_dir)
    texts = {
        "results.csv": _csv(report),
        "table.md": "\n\n".join(table.to_markdown() for table in report.tables())
        + "\n",
        **_splits(report.split_sets, features.paths),
    }
    figures = report_figures(report, features)
    names = (*texts, *(f"{name}.png" for name in figures), "index.html", "results.json")
    report = replace(report, files=names)
    texts["results.json"] = json.dumps(json_safe(report.to_dict()), indent=1) + "\n"
    for name, text in texts.items():
        write_output(folder / name, text.encode("utf-8"), overwrite=True)
    for name, figure in figures.items():
        write_output(folder / f"{name}.png", figure.png, overwrite=True)
    save_html(_page(report, list(figures.values())), folder / "index.html")
    for path in _own_files(folder):
        if path.name not in names:
            path.unlink()
    return report


def _csv(report: BenchmarkReport) -> str:
    """Return one line for each cell and split."""
    rows = [
        {
            "features": cell.features,
            "layer": cell.layer,
            "head": cell.head,
            "train_per_class": cell.train_per_class,
            "split_index": index,
            "seed": split.seed,
            "n_train": split.n_train,
            "n_test": split.n_test,
            "C": split.C,
            "C_grid": _joined(split.C_grid),
            "validation": _joined(split.validation),
            "mean_per_class_accuracy": split.mean_per_class_accuracy,
            "accuracy": split.accuracy,
            "top_5_accuracy": split.top_5_accuracy,
            "solver": split.solver,
            "n_iter": split.n_iter,
            **{key: report.settings[key] for key in _SETTINGS},
            "dropout": report.settings["heads"][cell.head]["dropout"],
        }
        for cell in report.cells
        for index, split in enumerate(cell.splits)
    ]
    return Table(rows).to_csv()


def _joined(values: Sequence[float]) -> str:
    """Return numbers in one cell, with all their digits."""
    return " ".join(str(value) for value in values)


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
        summary=" ".join([summary, *(f"{note}." for note in report.protocol.notes)]),
        tables=report.tables(),
        figures=figures,
        provenance=report.provenance,
        warnings=report.warnings,
    )
