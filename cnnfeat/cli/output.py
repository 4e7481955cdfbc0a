"""What commands print: results on stdout, as text for people or as one JSON object."""

import json
import math
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from cnnfeat.benchmark import BenchmarkReport
    from cnnfeat.extract import ExtractReport
    from cnnfeat.finetune import FinetuneReport
    from cnnfeat.predict import PredictReport
    from cnnfeat.train import TrainReport

_MAX_FAILURES_LISTED = 20
_COMPARISON = {
    "model": "on the held-out images",
    "accuracy": "accuracy %",
    "mean_per_class_accuracy": "mean per class %",
    "C": "C",
}


def command_line() -> str:
    """Return the command as it was typed, to be kept in the files it writes."""
    return shlex.join(["cnnfeat", *sys.argv[1:]])


def stdin_lines(images: str) -> Iterable[str] | None:
    """Return the lines of stdin when IMAGES is `-`, undecodable bytes kept."""
    if images != "-":
        return None
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="surrogateescape")
    return sys.stdin


def echo_report(record: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one record: a JSON object, or its fields one a line."""
    if as_json:
        click.echo(json.dumps(_finite(record), ensure_ascii=False))
        return
    for line in _lines(record):
        click.echo(line)


def echo_table(
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str],
    *,
    as_json: bool,
    key: str,
) -> None:
    """Print rows as a text table with headings `columns`, or as JSON under `key`.

    A heading that ends in " %" shows fractions as percentages.
    """
    if as_json:
        click.echo(
            json.dumps({key: [_finite(row) for row in rows]}, ensure_ascii=False)
        )
        return
    from cnnfeat.report import Column, Table

    shown = [{name: _table_cell(row[name]) for name in columns} for row in rows]
    headings = [
        Column(name, title.removesuffix(" %"), percent=title.endswith(" %"))
        for name, title in columns.items()
    ]
    click.echo(Table(shown, headings).to_text())


def echo_extraction(report: "ExtractReport", *, as_json: bool) -> None:
    """Print the summary of an extraction; images that failed are named on stderr."""
    for path, reason in report.failures[:_MAX_FAILURES_LISTED]:
        click.echo(f"cnnfeat: failed: {path}: {reason}", err=True)
    if (more := len(report.failures) - _MAX_FAILURES_LISTED) > 0:
        click.echo(f"cnnfeat: … and {more} more, named in /images/error", err=True)
    record = report.to_dict()
    del record["failures"]
    echo_report(record, as_json=as_json)


def echo_training(report: "TrainReport", *, verbose: bool, as_json: bool) -> None:
    """Print what was trained; with `verbose`, how it was solved on stderr."""
    if verbose:
        click.echo(
            f"cnnfeat: {report.n_train} rows x {report.n_features} features, "
            f"{report.n_classes} classes: solved on the {report.solver} side in "
            f"{report.n_iter} Newton steps",
            err=True,
        )
    echo_report(report.to_dict(), as_json=as_json)


def echo_benchmark(report: "BenchmarkReport", *, verbose: bool, as_json: bool) -> None:
    """Print a benchmark's tables and notes, or one JSON object.

    With `verbose`, how each fit was solved on stderr.
    """
    for cell in report.cells if verbose else ():
        for index, split in enumerate(cell.splits):
            click.echo(
                f"cnnfeat: {cell.name}, split {index}: {split.n_train} rows, C = "
                f"{split.C:.3g}: solved on the {split.solver} side in {split.n_iter} "
                "Newton steps",
                err=True,
            )
    if as_json:
        echo_report(report.to_dict(), as_json=True)
        return
    for table in report.tables():
        click.echo(f"{table.to_text()}\n")
    for note in report.protocol.notes:
        click.echo(f"Note: {note}")


def _lines(record: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Yield the fields one a line; records inside stand indented below their name."""
    shown = {key: value for key, value in record.items() if not _is_empty(value)}
    width = max((len(key) for key in shown), default=0)
    for key, value in shown.items():
        name = f"{indent}{key.replace('_', ' ') if not indent else key:<{width}}"
        records = value if _all_mappings(value) else [value]
        if isinstance(records[0], Mapping):
            yield name.rstrip()
            for inner in records:
                yield from _lines(inner, indent + "  ")
        else:
            yield f"{name}  {_shown(key, value)}".rstrip()


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, Sized) and len(value) == 0)


def _all_mappings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)


def echo_predictions(
    report: "PredictReport", output_path: str | None, *, as_json: bool
) -> None:
    """Print predictions: as JSON, as CSV, or a summary where the CSV is in a file."""
    record = report.to_dict()
    failed = [(one.path, one.error) for one in report.predictions if one.error]
    _echo_failures(failed, "in the predictions")
    if as_json:
        echo_report(record, as_json=True)
    elif output_path:
        del record["predictions"]
        echo_report({"output": output_path, **record}, as_json=False)
    else:
        click.echo(report.to_csv(), nl=False)


def echo_finetuning(report: "FinetuneReport", *, as_json: bool) -> None:
    """Print what a fine-tuning did, and the table of frozen and fine-tuned networks."""
    _echo_failures(report.failures, "left out")
    record = report.to_dict()
    del record["failures"]
    if as_json:
        echo_report(record, as_json=True)
        return
    comparison = record.pop("comparison")
    del record["history"]
    echo_report(record, as_json=False)
    if not comparison:
        return
    click.echo()
    echo_table(comparison, _COMPARISON, as_json=False, key="comparison")


def _echo_failures(failures: Sequence[tuple[str, str]], where: str) -> None:
    """Name images that could not be read on stderr, the first of them."""
    for path, reason in failures[:_MAX_FAILURES_LISTED]:
        click.echo(f"cnnfeat: failed: {path}: {reason}", err=True)
    if (more := len(failures) - _MAX_FAILURES_LISTED) > 0:
        click.echo(f"cnnfeat: … and {more} more, {where}", err=True)


def _shown(key: str, value: Any) -> str:
    if "accuracy" in key and isinstance(value, float):
        return f"{100 * value:.2f} %"
    if "accuracy" in key and isinstance(value, tuple | list):
        return " to ".join(f"{100 * bound:.2f} %" for bound in value)
    return _cell(value)


def _table_cell(value: Any) -> Any:
    """Return numbers as they are, so that the table aligns them, the rest as text."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if value is None or is_number else _cell(value)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return (
            "×".join(map(str, value))
            if _all_ints(value)
            else ", ".join(map(str, value))
        )
    return str(value)


def _all_ints(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int) for value in values)


def _finite(value: Any) -> Any:
    """Return `value` with NaN and infinities as None: JSON has no word for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
