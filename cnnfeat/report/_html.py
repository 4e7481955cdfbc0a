"""One self-contained HTML page: tables, figures, warnings and provenance.

The page asks nothing of the outside: its style stands inside, its figures are data:
URIs, it runs no script. Every text is escaped, class names included. It follows the
reader's dark or light setting, reads on a phone and prints.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape as escape_marks
from pathlib import Path

from cnnfeat.outputs import write_output
from cnnfeat.report._tables import Table
from cnnfeat.shown import visible_text

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 80rem; margin: 0 auto;
       padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.2; } h2 { font-size: 1.25rem; margin-top: 2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums;
        overflow-wrap: normal; margin: 1rem 0; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { padding: .25rem .7rem; text-align: left; vertical-align: top;
         border-bottom: 1px solid rgb(128 128 128 / .35); }
thead th { border-bottom-width: 2px; }
.number { text-align: right; white-space: nowrap; }
figure { margin: 1.5rem 0; break-inside: avoid; }
figure img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
figcaption { font-size: .9rem; opacity: .85; }
.warnings { border-left: 4px solid #D55E00; padding: .1rem 1rem;
            background: rgb(213 94 0 / .1); }
dl { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr;
     gap: .2rem 1rem; font-size: .9rem; }
dt { font-weight: 600; } dd { margin: 0; }
@media (max-width: 32rem) { dl { grid-template-columns: 1fr; }
                            dd { margin: 0 0 .4rem; } }
@media print { body { max-width: none; padding: 0; font-size: 11pt; }
               .scroll { overflow: visible; } tr { break-inside: avoid; } }
"""


def escape(text: str) -> str:
    """Return text for a page: no mark of it is markup, no character is obeyed."""
    return escape_marks(visible_text(text))


@dataclass(frozen=True)
class ReportFigure:
    """One figure of a page.

    Parameters
    ----------
    png : bytes
        From `figure_png`.
    caption : str
    alt : str
        What the figure shows, for readers who cannot see it.
    """

    png: bytes
    caption: str
    alt: str


@dataclass(frozen=True)
class ReportPage:
    """What a page says, top to bottom.

    Parameters
    ----------
    title : str
    summary : str
        One paragraph: what was done and what came out.
    tables : sequence of Table
    figures : sequence of ReportFigure
    provenance : mapping of str to object
        Where the numbers come from: network, weights, layer, seed, command.
    warnings : sequence of str
        Shown above everything else that a reader might quote.
    """

    title: str
    summary: str = ""
    tables: Sequence[Table] = ()
    figures: Sequence[ReportFigure] = ()
    provenance: Mapping[str, object] = field(default_factory=dict)
    warnings: Sequence[str] = ()


def render_html(page: ReportPage) -> str:
    """Return the page as one HTML5 document that asks nothing of the outside.

    Raises
    ------
    ValueError
        If a figure is not a PNG.
    """
    title = escape(page.title)
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title>",
        f"<style>{_STYLE}</style>",
        "</head>",
        "<body>",
        f"<h1>{title}</h1>",
        *([f"<p>{escape(page.summary)}</p>"] if page.summary else []),
        *_render_warnings(page.warnings),
        *(["<h2>Results</h2>"] if page.tables else []),
        *(_render_table(table) for table in page.tables),
        *(["<h2>Figures</h2>"] if page.figures else []),
        *(_render_figure(figure) for figure in page.figures),
        *_render_provenance(page.provenance),
        "</body>",
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def save_html(page: ReportPage, path: str | Path) -> None:
    """Write the page to `path` in UTF-8: whole or not at all.

    Raises
    ------
    ValueError
        If a figure is not a PNG.
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
            f"<td{css}>{escape(text)}</td>"
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


def _render_figure(figure: ReportFigure) -> str:
    if not figure.png.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError(f"figure {figure.caption!r} is not a PNG")
    data = base64.b64encode(figure.png).decode("ascii")
    return (
        f'<figure><img alt="{escape(figure.alt)}" src="data:image/png;base64,{data}">'
        f"\n<figcaption>{escape(figure.caption)}</figcaption></figure>"
    )


def _render_provenance(provenance: Mapping[str, object]) -> list[str]:
    if not provenance:
        return []
    entries = "\n".join(
        f"<dt>{escape(str(key))}</dt><dd>{escape(str(value))}</dd>"
        for key, value in provenance.items()
    )
    return ["<h2>Provenance</h2>", f"<dl>\n{entries}\n</dl>"]
