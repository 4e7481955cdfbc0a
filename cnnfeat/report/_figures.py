"""Making and saving matplotlib figures without matplotlib's global state.

Figures are built as objects on the Agg canvas: no window system, no pyplot, nothing
kept alive between calls. The same figure saves to the same bytes.
"""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cnnfeat.outputs import check_suffix, write_output
from cnnfeat.report._palette import DPI
from cnnfeat.shown import visible_text
from cnnfeat.suffixes import PICTURES, suffix_of

# None leaves out what matplotlib would add: equal figures, equal bytes.
_WITHOUT_VERSION: dict[str, dict[str, None]] = {
    ".png": {"Software": None},
    ".svg": {"Creator": None, "Date": None},
    ".pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}


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


def figure_bytes(figure: Figure, suffix: str = ".png") -> bytes:
    """Return the figure as a PNG, an SVG or a PDF; equal figures give equal bytes.

    Nothing about the time or the machine goes into the metadata. Letters are drawn as
    shapes in SVG, so that no font is asked for.

    Parameters
    ----------
    figure : Figure
    suffix : str
        One of `cnnfeat.suffixes.PICTURES`.
    """
    buffer = io.BytesIO()
    # Named elements of an SVG hang on this salt; without it they are drawn by lot.
    with rc_context({"svg.hashsalt": "cnnfeat"}):
        figure.savefig(
            buffer, format=suffix[1:], dpi=DPI, metadata=_WITHOUT_VERSION[suffix]
        )
    return buffer.getvalue()


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write the figure in the format of the suffix, whole, whatever was there.

    Parameters
    ----------
    figure : Figure
    path : path
        Ends in `.png`, `.svg` or `.pdf`.

    Raises
    ------
    OptionError
        If it ends in anything else.
    OutputError
        If the folder is missing or cannot be written; nothing is left behind.
    """
    check_suffix(path, PICTURES)
    write_output(path, figure_bytes(figure, suffix_of(path)), overwrite=True)
