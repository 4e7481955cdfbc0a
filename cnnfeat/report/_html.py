"""One self-contained HTML page: the answer, figures, tables, and how it was made.

The page asks nothing of the outside: its style and its one script, which sorts tables,
stand inside, and its figures are data: URIs. Browsers are told to hold it to that.
Every text is escaped, class names included. It follows the reader's dark or light
setting, reads on a phone and prints.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cnnfeat.outputs import write_output
from cnnfeat.report._confusion_sheet import ConfusionSheet, render_confusion
from cnnfeat.report._escape import escape
from cnnfeat.report._page_style import SCRIPT, STYLE
from cnnfeat.report._tables import Table

_BREAKS = re.compile(r"([._+/,])(?=[^\W\d])")
"""Where a long name in a table may go on in the next line: before a letter."""


@dataclass(frozen=True)
class ReportFigure:
    """One figure of a page.

    Parameters
    ----------
    png : bytes
        From `figure_bytes`.
    caption : str
    alt : str
        What the figure shows, for readers who cannot see it.
    has_images : bool
        Whether it shows images, which keep their colours on a dark page.
    files : sequence of str
        Names of files beside the page that hold the figure.
    """

    png: bytes
    caption: str
    alt: str
    has_images: bool = False
    files: Sequence[str] = ()


@dataclass(frozen=True)
class ReportPage:
    """What a page says, top to bottom.

    Parameters
    ----------
    title : str
    subtitle : str
        What was done, in one line.
    answer : str
        What came out, in a few sentences.
    figures : sequence of ReportFigure or ConfusionSheet
    tables : sequence of Table
    notes : sequence of str
        What a reader of the numbers should know.
    origins : mapping of str to mapping of str to object
        Where the numbers come from, by heading: settings, command, versions, network.
    warnings : sequence of str
        Shown right below the answer.
    """

    title: str
    subtitle: str = ""
    answer: str = ""
    figures: Sequence[ReportFigure | ConfusionSheet] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    origins: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    warnings: Sequence[str] = ()


def render_html(page: ReportPage) -> str:
    """Return the page as one HTML5 document that asks nothing of the outside.

    Raises
    ------
    ValueError
        If a figure is not a PNG, or a confusion matrix not one of its classes.
    """
    title = escape(page.title)
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_policy()}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title>",
        f"<style>{STYLE}</style>",
        "</head>",
        "<body>",
        f"<h1>{title}</h1>",
        *([f'<p class="subtitle">{escape(page.subtitle)}</p>'] * bool(page.subtitle)),
        *([f'<p class="answer">{escape(page.answer)}</p>'] * bool(page.answer)),
        *_render_warnings(page.warnings),
        *_render_figures(page.figures),
        *(["<h2>Results</h2>"] if page.tables else []),
        *(_render_table(table) for table in page.tables),
        *_render_notes(page.notes),
        *(["<h2>How this was made</h2>"] if page.origins else []),
        *(_render_origin(*origin) for origin in page.origins.items()),
        f"<script>{SCRIPT}</script>",
        "</body>",
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def _policy() -> str:
    """Return what a browser may load and run: the page's own style and script."""
    style, script = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (STYLE, SCRIPT)
    )
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style}'; "
        f"script-src 'sha256-{script}'"
    )


def save_html(page: ReportPage, path: str | Path) -> None:
    """Write the page to `path` in UTF-8: whole or not at all.

    Raises
    ------
    ValueError
        If a figure is not a PNG, or a confusion matrix not one of its classes.
    OutputError
        If the folder is missing or cannot be written.
    """
    # A path that is not UTF-8 reaches us with surrogates; they may not stop a report.
    write_output(
        path, render_html(page).encode("utf-8", "backslashreplace"), overwrite=True
    )


def _render_warnings(warnings: Sequence[str]) -> list[str]:
    if not warnings:
        return []
    items = "".join(f"<li>{escape(text)}</li>" for text in warnings)
    heading = "<strong>Read this first</strong>"
    return [f'<div class="warnings" role="note">{heading}<ul>{items}</ul></div>']


def _render_table(table: Table) -> str:
    """Return one table; numbers to the right, wide tables scroll by themselves."""
    headings, rows, numeric = table.cells()
    classes = [' class="number"' if right else "" for right in numeric]
    head = "".join(
        f'<th scope="col"{css}>{escape(text)}</th>'
        for text, css in zip(headings, classes, strict=True)
    )
    body = "\n".join(
        "<tr>"
        + "".join(
            f"<td{css}>{_breakable(text)}</td>"
            for text, css in zip(row, classes, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    return (
        f'<div class="scroll"><table>{caption}\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _breakable(text: str) -> str:
    """Return an escaped text that may be broken after the marks inside its words."""
    return _BREAKS.sub(r"\1<wbr>", escape(text))


def _render_figures(
    figures: Sequence[ReportFigure | ConfusionSheet],
) -> Iterator[str]:
    if figures:
        yield '<div class="figures">'
        yield from map(_render_figure, figures)
        yield "</div>"


def _render_figure(figure: ReportFigure | ConfusionSheet) -> str:
    caption = "".join(
        f' <a href="{escape(name)}">{_suffix(name)}</a>' for name in figure.files
    )
    caption = f"<figcaption>{escape(figure.caption)}{caption}</figcaption>"
    if isinstance(figure, ConfusionSheet):
        return f'<figure class="wide">{caption}\n{render_confusion(figure)}</figure>'
    if not figure.png.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError(f"figure {figure.caption!r} is not a PNG")
    data = base64.b64encode(figure.png).decode("ascii")
    kind = "images" if figure.has_images else "plot"
    return (
        f'<figure class="{kind}"><img alt="{escape(figure.alt)}" '
        f'src="data:image/png;base64,{data}">\n{caption}</figure>'
    )


def _suffix(name: str) -> str:
    return escape(Path(name).suffix.removeprefix(".").upper())


def _render_notes(notes: Sequence[str]) -> list[str]:
    if not notes:
        return []
    return [
        '<ul class="notes">',
        *(f"<li>{escape(text)}</li>" for text in notes),
        "</ul>",
    ]


def _render_origin(heading: str, entries: Mapping[str, object]) -> str:
    items = "\n".join(
        f"<dt>{escape(str(key))}</dt><dd>{escape(str(value))}</dd>"
        for key, value in entries.items()
        if value != ""
    )
    return f"<h3>{escape(heading)}</h3>\n<dl>\n{items}\n</dl>"
