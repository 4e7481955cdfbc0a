"""What each verb's report looks like: the summary on stdout, the talk on stderr."""

from typing import TYPE_CHECKING, Any

import click

from cnnfeat.cli.output import (
    echo_csv,
    echo_failures,
    echo_line,
    echo_record,
    echo_table,
    terminal_width,
)
from cnnfeat.report import Column, format_number, format_percent

if TYPE_CHECKING:  # the verbs behind these import torch
    from cnnfeat.benchmark import BenchmarkReport, SplitResult
    from cnnfeat.evaluate import EvaluationReport
    from cnnfeat.extract import ExtractReport
    from cnnfeat.finetune import FinetuneReport
    from cnnfeat.predict import PredictReport
    from cnnfeat.train import TrainReport

_N_TRIED = 12  # settings of a head whose scores are printed
_LIMITS = {"decode": "decoding", "forward": "the network", "write": "the disk"}
_COMPARISON = (
    Column("model", "on the held-out images"),
    Column("accuracy", percent=True),
    Column("mean_per_class_accuracy", "mean per class", percent=True),
    Column("C"),
)
_LAYERS = (
    Column("name", "layer", whole=True),
    Column("alias", whole=True),
    Column("kind", spare=True),
    Column("shape", whole=True),
    Column("parameters", "params", amount=True),
    Column("macs", "MACs", amount=True),
    Column("receptive_field", "field", spare=True),
    Column("stride", spare=True),
    Column("stage"),
)
_CLASSES = (
    Column("name", "class"),
    Column("n", "images"),
    Column("accuracy", percent=True),
)
_MOST_LAYERS = 24  # rows of a short list
_N_WORST = 10  # classes that an evaluation names


def echo_layers(
    model: str, rows: list[dict[str, Any]], *, short: bool, as_json: bool
) -> None:
    """Print layers as a table, the default one marked; a `short` list fits a screen."""
    if as_json:
        echo_record({"layers": rows}, as_json=True)
        return
    shown = [
        {
            **row,
            "name": f"{row['name']} *" if row["is_default"] else row["name"],
            "alias": row["alias"] or row["place"],
        }
        for row in rows
    ]
    caption = _told_of_tokens(rows)
    if short:
        shown = _without_runs(shown)
        caption = f"* is the default layer; --all lists every module{caption}"
    caption = f"{model}: {caption.removeprefix('; ')}" if caption else ""
    echo_table(shown, _LAYERS, as_json=False, key="layers", caption=caption)


def _told_of_tokens(rows: list[dict[str, Any]]) -> str:
    """Return what the tokens of a transformer are, "" for any other network."""
    layouts = [(r["n_prefix_tokens"], *r["grid"]) for r in rows if r["grid"]]
    if not layouts:
        return ""
    n_prefix, height, width = max(layouts)
    return f"; tokens: {n_prefix} + {height}×{width} patches"


def _without_runs(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return at most some 24 rows: of long runs of one kind and shape the two ends."""
    while len(rows) > _MOST_LAYERS:
        start, stop = _longest_run(rows)
        if stop - start < 4:
            return rows
        inside = rows[start + 1 : stop - 1]
        told = dict.fromkeys(inside[0]) | {
            "name": f"… {len(inside)} more",
            "kind": inside[0]["kind"],
            "shape": inside[0]["shape"],
            "parameters": sum(row["parameters"] for row in inside),
            "macs": sum(row["macs"] for row in inside),
        }
        rows = [*rows[: start + 1], told, *rows[stop - 1 :]]
    return rows


def _longest_run(rows: list[dict[str, Any]]) -> tuple[int, int]:
    """Return where the most rows of one kind and shape follow each other."""
    alike = [(row["kind"], row["shape"]) for row in rows]
    start = best = 0
    end = 0
    for k in range(1, len(rows) + 1):
        if k == len(rows) or alike[k] != alike[k - 1]:
            if k - start > end - best:
                best, end = start, k
            start = k
    return best, end


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
        echo_line(_extracted(report))


def _extracted(report: "ExtractReport") -> str:
    """Return "400 images, 10 classes (ant 40, …) → f.h5: global_pool 1280, 11.7 s".

    Fewer classes and layers are named where the terminal has no room for more.
    """
    images = f"{report.n_ok:,} images"
    if report.n_failed:
        images = f"{report.n_ok:,} of {report.n_images:,} images"
        images += f" ({report.n_failed:,} failed)"
    classes = [f"{name} {count:,}" for name, count in report.classes.items()]
    layers = [f"{name} {_sizes(shape)}" for name, shape in report.layers.items()]
    end = f"{report.seconds:.1f} s"
    if report.n_resumed:
        end += f", {report.n_resumed:,} rows were there"
    for n_classes, n_layers in ((2, 4), (1, 4), (1, 1), (0, 4), (0, 1), (0, 0)):
        told = [images, *([_named(classes, n_classes, "classes")] if classes else [])]
        stored = ", ".join(layers[:n_layers] + ["…"] * (n_layers < len(layers)))
        if not n_layers:
            stored = f"{len(layers):,} layer{'s' * (len(layers) != 1)}"
        line = f"{', '.join(told)} → {report.output}: {stored}, {end}"
        if len(line) <= (terminal_width() or len(line)):
            break
    return line


def _named(texts: list[str], n: int, noun: str) -> str:
    """Return how many there are, and the first `n` of them."""
    shown = ", ".join(texts[:n] + ["…"] * (n < len(texts)))
    return f"{len(texts):,} {noun} ({shown})" if n else f"{len(texts):,} {noun}"


def _sizes(shape: list[int]) -> str:
    return "×".join(map(str, shape))


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
            f"{report.n_classes} classes: {_solved(report)}",
            err=True,
        )
    record = report.to_dict()
    if not as_json and len(report.validation_accuracy) > _N_TRIED:
        best = sorted(report.validation_accuracy.items(), key=lambda one: -one[1])
        title = f"validation_accuracy, the best {_N_TRIED} of {len(best)}"
        kept = dict(best[:_N_TRIED])
        record = {
            (title if key == "validation_accuracy" else key): (
                kept if key == "validation_accuracy" else value
            )
            for key, value in record.items()
        }
    echo_record(record, as_json=as_json)


def _solved(fit: "TrainReport | SplitResult") -> str:
    """Return how a head was solved, in words."""
    if not fit.solver:
        return "nothing to solve"
    return f"solved on the {fit.solver} side in {fit.n_iter} Newton steps"


def echo_evaluation(
    report: "EvaluationReport", classes_path: str | None, *, as_json: bool
) -> None:
    """Print how good a head is and its worst classes; a file may have all of them."""
    if as_json:
        echo_record(report.to_dict(), as_json=True)
        return
    reasons = (f"{n:,} {why.replace('_', ' ')}" for why, n in report.left_out.items())
    left_out = f"; left out: {', '.join(reasons)}" if report.n_left_out else ""
    what = f"{report.kind} on {report.layer}"
    if report.C:
        what += f", C {format_number(report.C)}"
    if report.k and report.temperature:
        what += f", k {report.k}, temperature {format_number(report.temperature)}"
    if not report.layer:
        what = "the whole network"
    classes = f"{report.n_classes:,} class{'es' * (report.n_classes != 1)}"
    least = f"at least {report.least_class_images:,} of each"
    echo_line(f"{report.n_images:,} images of {classes} ({least}), {what}")
    echo_line(f"rows {report.rows}{left_out}")
    rows = [
        (
            "mean per class",
            report.mean_per_class_accuracy,
            report.mean_per_class_interval,
        ),
        ("accuracy", report.accuracy, report.accuracy_interval),
        ("top-5 accuracy", report.top_5_accuracy, None),
    ]
    for title, value, interval in rows:
        more = f"95 % interval {_percents(*interval)}" if interval else ""
        click.echo(f"{title:<14}  {format_percent(value):>5} %  {more}".rstrip())
    worst = sorted(report.per_class_accuracy.items(), key=lambda item: item[1])
    caption = ""
    if len(worst) > _N_WORST:
        rest = f"all in {classes_path}" if classes_path else "--per-class OUT.csv: all"
        caption = f"The worst {_N_WORST} of {len(worst):,} classes; {rest}"
    shown = [
        {"name": name, "n": report.per_class_images[name], "accuracy": value}
        for name, value in worst[:_N_WORST]
    ]
    click.echo()
    echo_table(shown, _CLASSES, as_json=False, key="classes", caption=caption)


def _percents(low: float, high: float) -> str:
    return f"{format_percent(low)} to {format_percent(high)}"


def echo_benchmark(report: "BenchmarkReport", *, verbose: bool, as_json: bool) -> None:
    """Print a benchmark's tables and notes, or one JSON object.

    With `verbose`, how each fit was solved on stderr.
    """
    for cell in report.cells if verbose else ():
        for index, split in enumerate(cell.splits):
            echo_line(
                f"cnnfeat: {cell.name}, split {index}: {split.n_train:,} rows"
                f"{split.chosen and f', {split.chosen}'}: {_solved(split)}",
                err=True,
            )
    if as_json:
        echo_record(report.to_dict(), as_json=True)
        return
    from cnnfeat.benchmark import printed_tables

    for table in printed_tables(report):
        click.echo(f"{table.to_text(terminal_width())}\n")
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
    comparison, note = record.pop("comparison"), record.pop("note")
    del record["history"]
    echo_record(record, as_json=False)
    if not comparison:
        return
    click.echo()
    echo_table(comparison, _COMPARISON, as_json=False, key="comparison")
    if note:
        click.echo(f"\n{note}")
