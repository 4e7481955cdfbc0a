"""How commands print: a record or a table on stdout, as text or as one JSON object."""

import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any

import click

from cnnfeat import report
from cnnfeat.cli.command import environment_name, in_flags
from cnnfeat.outputs import json_safe
from cnnfeat.shown import json_text, visible_text

_MAX_FAILURES_LISTED = 20
_MAX_LISTED = 10  # of a list in a field
_LONGEST_COMMAND = 8192  # characters; an attribute in HDF5 holds 64 KiB


def say(text: str) -> None:
    """Write a line on stderr, above a progress bar where there is one.

    `click.echo` would find the stream below the bar, and write into it.
    """
    print(f"cnnfeat: {text}", file=sys.stderr, flush=True)


def command_line() -> str:
    """Return the command as it was typed, to be kept in the files it writes.

    Defaults from the environment stand before it, as a shell takes them. A long one,
    with thousands of images for example, loses its middle.
    """
    command = click.get_current_context().command
    set_there = [
        f"{name}={shlex.quote(os.environ[name])}"
        for name in (environment_name(command, param) for param in command.params)
        if os.environ.get(name)
    ]
    text = " ".join([*set_there, shlex.join(["cnnfeat", *sys.argv[1:]])])
    if len(text) <= _LONGEST_COMMAND:
        return text
    half = _LONGEST_COMMAND // 2
    return f"{text[:half]} … {text[-half:]}"


def terminal_width() -> int | None:
    """Return the columns of the terminal; None where the output goes elsewhere."""
    if "COLUMNS" in os.environ or sys.stdout.isatty():
        return shutil.get_terminal_size().columns
    return None


def stdin_lines(images: Sequence[str]) -> Iterable[str] | None:
    """Return the lines of stdin when `-` is among IMAGES, undecodable bytes kept."""
    if "-" not in images:
        return None
    if hasattr(sys.stdin, "reconfigure"):
        # Ends of lines as they are: a name may hold a carriage return.
        sys.stdin.reconfigure(errors="surrogateescape", newline="\n")
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
    for line in _lines(json_safe(record)):
        echo_line(in_flags(click.get_current_context(), line))


def echo_table(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[report.Column],
    *,
    as_json: bool,
    key: str,
    caption: str = "",
) -> None:
    """Print rows as a text table, or as JSON under `key`; empty columns are left out.

    On a terminal the table is cut to its width.
    """
    if as_json:
        echo_record({key: rows}, as_json=True)
        return
    shown = [{one.key: _table_cell(row[one.key]) for one in columns} for row in rows]
    filled = [
        one
        for one in columns
        if not rows or any(row[one.key] not in (None, "") for row in shown)
    ]
    click.echo(report.Table(shown, filled, caption).to_text(terminal_width()))


def echo_failures(failures: Sequence[tuple[str, str]], where: str) -> None:
    """Name images that could not be read on stderr, the first of them.

    Parameters
    ----------
    failures : sequence of (path, reason)
    where : str
        Where the rest is found, or what became of them.
    """
    for path, reason in failures[:_MAX_FAILURES_LISTED]:
        why = in_flags(click.get_current_context(), reason)
        echo_line(f"cnnfeat: failed: {path}: {why}", err=True)
    if (more := len(failures) - _MAX_FAILURES_LISTED) > 0:
        click.echo(f"cnnfeat: … and {more} more, {where}", err=True)


def _lines(
    record: Mapping[str, Any], indent: str = "", parent: str = ""
) -> Iterator[str]:
    """Yield the fields one a line; records inside stand indented below their name."""
    shown = {key: value for key, value in record.items() if not _is_empty(value)}
    width = max((len(key) for key in shown), default=0)
    for key, value in shown.items():
        name = f"{indent}{key.replace('_', ' ') if not indent else key:<{width}}"
        records = value if _all_mappings(value) else [value]
        if _are_counts(value):
            counts = [f"{key} {count:,}" for key, count in value.items()]
            yield from _field(name, _listed(counts))
        elif _all_mappings(value) and len(value) > 1:
            yield name.rstrip()
            cells = [{k: _table_cell(cell) for k, cell in row.items()} for row in value]
            columns = terminal_width()
            text = report.Table(cells).to_text(columns and columns - 2)
            yield from textwrap.indent(text, "  ").splitlines()
        elif isinstance(records[0], Mapping):
            yield name.rstrip()
            for inner in records:
                yield from _lines(inner, indent + "  ", key)
        else:
            yield from _field(name, _shown(f"{parent} {key}", value))


def _field(name: str, text: str) -> Iterator[str]:
    """Yield a name and its value, which goes on below itself where it is too long."""
    width, start = terminal_width(), len(name) + 2
    if width is None or start + len(text) <= width or width - start < _MAX_LISTED:
        yield f"{name}  {text}".rstrip()
        return
    parts = textwrap.wrap(text, width - start, break_long_words=False)
    for k, part in enumerate(parts):
        yield f"{'' if k else name:<{start}}{part}"


def _are_counts(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(count, int) and not isinstance(count, bool)
        for count in value.values()
    )


def _listed(texts: Sequence[str]) -> str:
    """Return texts with commas; of many the first, and how many more there are."""
    more = len(texts) - _MAX_LISTED
    shown = ", ".join(texts[:_MAX_LISTED])
    return f"{shown}, … and {more:,} more (--json lists all)" if more > 0 else shown


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, Sized) and len(value) == 0)


def _all_mappings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)


def _shown(key: str, value: Any) -> str:
    if "parameters" in key and isinstance(value, int):
        return report.format_amount(value)
    if "accuracy" in key and isinstance(value, float):
        return f"{report.format_percent(value)} %"
    if "accuracy" in key and isinstance(value, tuple | list):
        return " to ".join(_shown(key, bound) for bound in value)
    return _cell(value, joint="×" if key.endswith("shape") else None)


def _table_cell(value: Any) -> Any:
    """Return numbers as they are, so that the table aligns them, the rest as text."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if value is None or is_number else _cell(value, joint="×")


def _cell(value: Any, joint: str | None = None) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return report.format_number(value, 6)
    if isinstance(value, list | tuple):
        shown = [_cell(item) for item in value]
        if joint is not None:
            return joint.join(map(str, value))
        is_alike = len(set(shown)) == 1 < len(shown)
        return f"{shown[0]} each" if is_alike else _listed(shown)
    return str(value)
