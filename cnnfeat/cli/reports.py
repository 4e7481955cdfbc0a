"""What each verb's report looks like: the summary on stdout, the talk on stderr."""

from typing import TYPE_CHECKING

import click

from cnnfeat.cli.output import echo_failures, echo_record, echo_table
from cnnfeat.report import format_number, format_percent

if TYPE_CHECKING:  # the verbs behind these import torch
    from cnnfeat.benchmark import BenchmarkReport
    from cnnfeat.evaluate import EvaluationReport
    from cnnfeat.extract import ExtractReport
    from cnnfeat.finetune import FinetuneReport
    from cnnfeat.predict import PredictReport
    from cnnfeat.train import TrainReport

_LIMITS = {"decode": "decoding", "forward": "the network", "write": "the disk"}
_COMPARISON = {
    "model": "on the held-out images",
    "accuracy": "accuracy %",
    "mean_per_class_accuracy": "mean per class %",
    "C": "C",
}
_N_WORST = 10  # classes that an evaluation names


def echo_extraction(report: "ExtractReport", *, verbose: bool, as_json: bool) -> None:
    """Print what an extraction did in one line; with `verbose`, where the time went."""
    if verbose:
        _echo_time(report)
    echo_failures(report.failures, "named in /images/error")
    record = report.to_dict()
    del record["failures"]
    if as_json:
        echo_record(record, as_json=True)
    else:
        click.echo(_extracted(report))


def _extracted(report: "ExtractReport") -> str:
    """Return "400 images, 10 classes (ant 40, …) → f.h5: global_pool 1280, 11.7 s"."""
    images = f"{report.n_ok:,} images"
    if report.n_failed:
        images = f"{report.n_ok:,} of {report.n_images:,} images"
        images += f" ({report.n_failed:,} failed)"
    if report.n_classes:
        counts = [f"{name} {count:,}" for name, count in report.classes.items()]
        images += f", {report.n_classes:,} classes ({_first(counts)})"
    layers = [
        f"{name} {'×'.join(map(str, shape))}" for name, shape in report.layers.items()
    ]
    resumed = f", {report.n_resumed:,} rows resumed" if report.n_resumed else ""
    return (
        f"{images} → {report.output}: {_first(layers, 4)}, "
        f"{report.seconds:.1f} s{resumed}"
    )


def _first(texts: list[str], n: int = 2) -> str:
    """Return the first `n` of several texts, and … where there are more."""
    return ", ".join(texts[:n] + ["…"] * (len(texts) > n))


def _echo_time(report: "ExtractReport") -> None:
    """Say on stderr where the time went, and which stage was the limit."""
    time = report.time
    wait = time["wait_for_images"] + time["wait_for_writer"]
    click.echo(
        f"cnnfeat: {report.seconds:.1f} s: start {time['start']:.1f}, decode "
        f"{time['decode']:.1f} (beside the rest), forward {time['forward']:.1f}, write "
        f"{time['write']:.1f} (beside the rest), wait {wait:.1f}; engine "
        f"{report.engine}; the limit was {_LIMITS[time['limit']]}",
        err=True,
    )


def echo_training(report: "TrainReport", *, verbose: bool, as_json: bool) -> None:
    """Print what was trained; with `verbose`, how it was solved on stderr."""
    if verbose:
        click.echo(
            f"cnnfeat: {report.n_train} rows x {report.n_features} features, "
            f"{report.n_classes} classes: solved on the {report.solver} side in "
            f"{report.n_iter} Newton steps",
            err=True,
        )
    echo_record(report.to_dict(), as_json=as_json)


def echo_evaluation(report: "EvaluationReport", *, as_json: bool) -> None:
    """Print how good a head is, and on which classes it is worst."""
    if as_json:
        echo_record(report.to_dict(), as_json=True)
        return
    low, high = report.accuracy_interval
    left_out = f", {report.n_left_out:,} left out" if report.n_left_out else ""
    click.echo(
        f"{report.n_images:,} images of {report.n_classes:,} classes (rows "
        f"{report.rows}{left_out}), {report.kind} on {report.layer}, "
        f"C {format_number(report.C)}"
    )
    rows = [
        ("mean per class", report.mean_per_class_accuracy, ""),
        ("accuracy", report.accuracy, f"95 % interval {_percents(low, high)}"),
        ("top-5 accuracy", report.top_5_accuracy, ""),
    ]
    for title, value, more in rows:
        click.echo(f"{title:<14}  {format_percent(value):>5} %  {more}".rstrip())
    worst = sorted(report.per_class_accuracy.items(), key=lambda item: item[1])
    more = "; --json gives all" if len(worst) > _N_WORST else ""
    title = f"the worst {_N_WORST} of {len(worst)} classes" if more else "by class"
    shown = [{"name": n, "accuracy": value} for n, value in worst[:_N_WORST]]
    columns = {"name": f"{title}{more}", "accuracy": "accuracy %"}
    click.echo()
    echo_table(shown, columns, as_json=False, key="classes")


def _percents(low: float, high: float) -> str:
    return f"{format_percent(low)} to {format_percent(high)}"


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
        echo_record(report.to_dict(), as_json=True)
        return
    for table in report.tables():
        click.echo(f"{table.to_text()}\n")
    for note in report.protocol.notes:
        click.echo(f"Note: {note}")


def echo_predictions(
    report: "PredictReport", output_path: str | None, *, as_json: bool
) -> None:
    """Print predictions: as JSON, as CSV, or a summary where the CSV is in a file."""
    record = report.to_dict()
    failed = [(one.path, one.error) for one in report.predictions if one.error]
    echo_failures(failed, "in the predictions")
    if as_json:
        echo_record(record, as_json=True)
    elif output_path:
        del record["predictions"]
        echo_record({"output": output_path, **record}, as_json=False)
    else:
        click.echo(report.to_csv(), nl=False)


def echo_finetuning(report: "FinetuneReport", *, as_json: bool) -> None:
    """Print what a fine-tuning did, and the table of frozen and fine-tuned networks."""
    echo_failures(report.failures, "left out")
    record = report.to_dict()
    del record["failures"]
    if as_json:
        echo_record(record, as_json=True)
        return
    comparison = record.pop("comparison")
    del record["history"]
    echo_record(record, as_json=False)
    if not comparison:
        return
    click.echo()
    echo_table(comparison, _COMPARISON, as_json=False, key="comparison")
