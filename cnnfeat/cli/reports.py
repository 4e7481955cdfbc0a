"""What each verb's report looks like: the summary on stdout, the talk on stderr."""

from typing import TYPE_CHECKING

import click

from cnnfeat.cli.output import (
    echo_csv,
    echo_failures,
    echo_line,
    echo_record,
    echo_table,
)

if TYPE_CHECKING:  # the verbs behind these import torch
    from cnnfeat.benchmark import BenchmarkReport
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


def echo_extraction(report: "ExtractReport", *, quiet: bool, as_json: bool) -> None:
    """Print the summary of an extraction; unless `quiet`, its time on stderr."""
    if not quiet:
        _echo_time(report)
    echo_failures(report.failures, "named in /images/error")
    record = report.to_dict()
    del record["failures"]
    echo_record(record, as_json=as_json)


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


def echo_benchmark(report: "BenchmarkReport", *, verbose: bool, as_json: bool) -> None:
    """Print a benchmark's tables and notes, or one JSON object.

    With `verbose`, how each fit was solved on stderr.
    """
    for cell in report.cells if verbose else ():
        for index, split in enumerate(cell.splits):
            echo_line(
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
        echo_csv(report.to_csv())


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
