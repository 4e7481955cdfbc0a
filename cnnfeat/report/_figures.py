"""Making and saving matplotlib figures without matplotlib's global state.

Figures are built as objects on the Agg canvas: no window system, no pyplot, nothing
kept alive between calls. The same figure saves to the same bytes.
"""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cnnfeat.outputs import write_output
from cnnfeat.report._palette import DPI
from cnnfeat.shown import visible_text


def new_figure(width: float, height: float) -> Figure:
    """Return an empty Agg figure, width and height in inches."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def new_axes(
    width: float, height: float, *, x_label: str, y_label: str, title: str | None
) -> tuple[Figure, Axes]:
    """Return a figure of one labelled axes, without the top and right frame lines."""
    figure = new_figure(width, height)
    axes = figure.add_subplot()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    if title:
        axes.set_title(visible_text(title), wrap=True, parse_math=False)
    return figure, axes


def figure_png(figure: Figure) -> bytes:
    """Return the figure as PNG bytes; the same figure gives the same bytes.

    Nothing about the time or the machine goes into the metadata.
    """
    buffer = io.BytesIO()
    # Software=None leaves matplotlib's version out: equal figures, equal bytes.
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write the figure to `path` as PNG, whole or not at all, whatever was there.

    Raises
    ------
    OutputError
        If the folder is missing or cannot be written; nothing is left behind.
    """
    write_output(path, figure_png(figure), overwrite=True)
