"""What `leaks`, `suspects` and `compare` print."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from cnnfeat.cli.output import echo_record, echo_table
from cnnfeat.report import Column

if TYPE_CHECKING:  # the verbs behind these import torch
    from cnnfeat.compare import CompareReport
    from cnnfeat.leaks import LeaksReport
    from cnnfeat.suspects import SuspectsReport

_MOST_SUSPECTS = 10  # that are printed
_LIKENESS = (
    Column("a", whole=True),
    Column("b", whole=True),
    Column("measure"),
    Column("likeness", digits=3),
    Column("low", "95 % from", digits=3),
    Column("high", "to", digits=3),
)
_SUSPECTS = (
    Column("path", whole=True),
    Column("label"),
    Column("suggested"),
    Column("margin"),
)


def echo_leaks(report: "LeaksReport", *, as_json: bool) -> None:
    """Print how many copies there are, and what they do to a head's accuracy."""
    record = report.to_dict()
    if not as_json:
        del record["pairs"]
    echo_record(record, as_json=as_json)


def echo_suspects(report: "SuspectsReport", *, as_json: bool) -> None:
    """Print how many labels are doubtful, and the most doubtful of them."""
    record = report.to_dict()
    if not as_json:
        del record["images"]
    echo_record(record, as_json=as_json)
    if not as_json and report.n_suspects:
        click.echo()
        shown = report.images[: min(report.n_suspects, _MOST_SUSPECTS)]
        caption = f"The {len(shown)} most doubtful; -o OUT.csv: all"
        echo_table(shown, _SUSPECTS, as_json=False, key="images", caption=caption)


def echo_comparison(report: "CompareReport", *, as_json: bool) -> None:
    """Print how alike each two sets are."""
    if as_json:
        echo_record(report.to_dict(), as_json=True)
        return
    rows = [
        {key: None if value != value else value for key, value in asdict(one).items()}
        for one in report.pairs
    ]
    caption = f"{report.n_images:,} of {report.n_common:,} images that all files have"
    if report.n_unmatched:
        caption += f"; {report.n_unmatched:,} are not in all of them"
    measures = {one.measure for one in report.pairs}
    columns = [one for one in _LIKENESS if one.key != "measure" or len(measures) > 1]
    if len(measures) == 1:
        caption = f"{measures.pop()} on {caption}"
    echo_table(rows, columns, as_json=False, key="pairs", caption=caption)
