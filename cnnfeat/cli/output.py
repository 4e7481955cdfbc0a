"""How commands print: a record or a table on stdout, as text or as one JSON object."""

import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any

import click

from cnnfeat import report
from cnnfeat.outputs import json_safe
from cnnfeat.shown import json_text, visible_text

_MAX_FAILURES_LISTED = 20


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


def echo_line(text: str, *, err: bool = False) -> None:
    """Print one line; names in it cannot make more of them, nor move a terminal."""
    click.echo(visible_text(text), err=err)


def echo_csv(text: str) -> None:
    """Print CSV as it is to a file or a pipe, and what a terminal obeys spelled out."""
    if not sys.stdout.isatty():
        click.echo(text, nl=False)
        return
    for line in text.split("\n")[:-1]:
        echo_line(line)


def echo_record(record: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one record: a JSON object, or its fields one a line."""
    if as_json:
        click.echo(json_text(json_safe(record)))
        return
    for line in _lines(record):
        echo_line(line)


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
        echo_record({key: rows}, as_json=True)
        return
    shown = [{name: _table_cell(row[name]) for name in columns} for row in rows]
    headings = [
        report.Column(name, title.removesuffix(" %"), percent=title.endswith(" %"))
        for name, title in columns.items()
    ]
    click.echo(report.Table(shown, headings).to_text())


def echo_failures(failures: Sequence[tuple[str, str]], where: str) -> None:
    """Name images that could not be read on stderr, the first of them.

    Parameters
    ----------
    failures : sequence of (path, reason)
    where : str
        Where the rest is found, or what became of them.
    """
    for path, reason in failures[:_MAX_FAILURES_LISTED]:
        echo_line(f"cnnfeat: failed: {path}: {reason}", err=True)
    if (more := len(failures) - _MAX_FAILURES_LISTED) > 0:
        click.echo(f"cnnfeat: … and {more} more, {where}", err=True)


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


def _shown(key: str, value: Any) -> str:
    if "accuracy" in key and isinstance(value, float):
        return f"{report.format_percent(value, digits=2)} %"
    if "accuracy" in key and isinstance(value, tuple | list):
        return " to ".join(_shown(key, bound) for bound in value)
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
        are_sizes = all(isinstance(item, int) for item in value)
        return ("×" if are_sizes else ", ").join(map(str, value))
    return str(value)
