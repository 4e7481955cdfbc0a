"""Numbers to compare with, drawn into plots: dashed lines, and their names below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnnfeat.report._palette import GREYS
from cnnfeat.shown import visible_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_N_DASHES = 4


@dataclass(frozen=True)
class Reference:
    """A number to compare with, drawn as a dashed line across a plot.

    Parameters
    ----------
    label : str
        For the legend: whose number, and of what.
    mean : float
        Fraction in [0, 1].
    at : float, optional
        Where on the x axis of a learning curve it was measured; marked there.
    """

    label: str
    mean: float
    at: float | None = None


def draw_references(axes: Axes, references: Sequence[Reference]) -> None:
    """Draw a dashed grey line for each reference; the dashes tell them apart."""
    for index, one in enumerate(references):
        axes.axhline(
            100 * one.mean,
            color=GREYS[index % 2],
            linestyle=(0, (2 + 2 * (index % _N_DASHES), 2)),
            linewidth=1.2,
            zorder=1,
            label=visible_text(one.label),
        )


def mark_references(axes: Axes, references: Sequence[Reference]) -> None:
    """Mark where on the x axis each reference was measured."""
    for index, one in enumerate(references):
        if one.at is not None:
            color = GREYS[index % 2]
            axes.plot([one.at], [100 * one.mean], "o", color=color, mfc="white")


def add_legend_below(axes: Axes, n_references: int) -> None:
    """Put the names, long with a paper's, below the plot, where they hide nothing."""
    handles, labels = axes.get_legend_handles_labels()  # the references come first
    ours_first = [*range(n_references, len(handles)), *range(n_references)]
    figure = axes.get_figure()
    assert figure is not None
    legend = figure.legend(
        [handles[k] for k in ours_first],
        [labels[k] for k in ours_first],
        loc="outside lower left",
        frameon=False,
        fontsize="small",
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
