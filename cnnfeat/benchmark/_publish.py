"""Writing a benchmark down: tables, every split's rows, figures and one HTML page."""

import contextlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from cnnfeat.benchmark._class_tables import NAMES as CLASS_TABLES, class_tables
from cnnfeat.benchmark._figures import FIGURE_NAMES, report_figures
from cnnfeat.benchmark._options import BenchmarkOptions, DrawOptions
from cnnfeat.benchmark._page import make_page
from cnnfeat.benchmark._rows import SplitSet
from cnnfeat.benchmark._summary import BenchmarkReport
from cnnfeat.errors import OutputError
from cnnfeat.images import image_files
from cnnfeat.outputs import (
    check_outputs,
    json_safe,
    locked_output,
    open_own,
    remove_leftovers,
    write_output,
)
from cnnfeat.readback import Anything, Items, Malformed, Record, Text, parse_json
from cnnfeat.report import Table, figure_bytes, save_html
from cnnfeat.splits import splits_to_csv
from cnnfeat.store import FeatureFile
from cnnfeat.suffixes import PICTURES

# Every name that a report may write, beside those of its splits.
_OWN_NAMES = (
    *("results.json", "results.csv", "table.md", "index.html"),
    *(f"{name}{suffix}" for name in FIGURE_NAMES for suffix in PICTURES),
    *CLASS_TABLES,
)
_SPLITS_NAME = re.compile(r"splits(-\d+)?\.csv")
# What the results.json of every report has, and hardly another program's.
_OWN_FIELDS = ("protocol", "metric", "rows", "split_sets", "provenance")
_RESULTS = Record({**dict.fromkeys(_OWN_FIELDS, Anything()), "files": Items(Text())})
_SETTINGS = ("scale", "signed_sqrt", "power", "n_components")


@contextlib.contextmanager
def claimed_report_dir(
    files: Sequence[FeatureFile], options: BenchmarkOptions
) -> Iterator[None]:
    """Let no other process write the report, if one is asked for, in this block.

    Raises
    ------
    OutputError
        If a file that the report may write is there already and is not to be replaced,
        or is read by the benchmark; if the folder cannot be made, or another process
        writes a report into it.
    """
    if options.report_dir is None:
        yield
        return
    path = Path(options.report_dir)
    is_new = not os.path.lexists(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be made: {error.strerror}") from error
    try:
        with _claimed(path, files, options):
            yield
    finally:
        if is_new:
            with contextlib.suppress(OSError):  # a report is in it
                path.rmdir()


@contextlib.contextmanager
def _claimed(
    path: Path, files: Sequence[FeatureFile], options: BenchmarkOptions
) -> Iterator[None]:
    read = [*(one.path for one in files), *options.draw.files_read]
    read += map(Path, image_files(files[0].table))
    names = report_names(options.draw)
    # Locked before it is looked at: the other process may be about to fill it.
    with locked_output(path / "results.json"):
        check_outputs(
            [path / name for name in names], read, overwrite=options.overwrite
        )
        for name in names:
            remove_leftovers(path / name)
        yield


def report_names(draw: DrawOptions) -> list[str]:
    """Return all that a report may write; figures with nothing to show are left out."""
    return [*_OWN_NAMES, *_splits_names(draw)]


def _splits_names(draw: DrawOptions) -> list[str]:
    """Return the names that `_splits` will give."""
    sizes = set(draw.train_sizes)
    if draw.splits_file is not None or len(sizes) < 2:
        return ["splits.csv"]
    return [f"splits-{size}.csv" for size in sorted(sizes)]


def _earlier_files(folder: Path) -> Iterator[Path]:
    """Yield the files that the report in `folder` says it made and are still there.

    None where its results.json is missing, damaged, or not a report's.
    """
    try:
        with open_own(folder / "results.json", "rb") as file:
            told = _RESULTS.check("", parse_json(file.read(), "results.json"))
    except (OSError, Malformed):
        return
    for name in told["files"]:
        path = folder / name
        is_ours = name in _OWN_NAMES or _SPLITS_NAME.fullmatch(name)
        if is_ours and path.is_file() and not path.is_symlink():
            yield path


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
        **class_tables(report, features.paths),
    }
    figures = report_figures(report, features)
    pictures = {
        f"{name}{suffix}": figure_bytes(one.figure, suffix)
        for name, one in figures.items()
        for suffix in PICTURES
    }
    names = (*texts, *pictures, "index.html", "results.json")
    report = replace(report, files=names)
    read = {os.path.realpath(path) for path in options.draw.files_read}
    outdated = [
        path
        for path in (_earlier_files(folder) if options.overwrite else ())
        if path.name not in names and os.path.realpath(path) not in read
    ]
    for name, text in texts.items():
        write_output(folder / name, text.encode("utf-8"), overwrite=True)
    for name, picture in pictures.items():
        write_output(folder / name, picture, overwrite=True)
    page = make_page(report, features, figures, pictures)
    save_html(page, folder / "index.html")
    for path in outdated:
        path.unlink(missing_ok=True)
    # Last: until then the earlier one still tells which files are of a report.
    record = json.dumps(json_safe(report.to_dict()), indent=1) + "\n"
    write_output(folder / "results.json", record.encode("utf-8"), overwrite=True)
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
            "k": split.k,
            "temperature": split.temperature,
            **{key: report.settings[key] for key in _SETTINGS},
            "dropout": report.settings["heads"][cell.head].get("dropout", 0.0),
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
