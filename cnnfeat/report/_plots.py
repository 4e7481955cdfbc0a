"""Line plots of a report: accuracy by layer, by training size, by C, by epoch.

Accuracies arrive as fractions in [0, 1] and are drawn as percentages. Every function
returns a matplotlib Figure and touches no file and no global state; `save_figure` or
`figure_bytes` turn it into a picture. Plots of classes are in `_class_plots`, of images
in `_image_plots`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cnnfeat.report._figures import new_axes, new_figure
from cnnfeat.report._palette import GREYS, line_style
from cnnfeat.report._references import (
    Reference,
    add_legend_below,
    draw_references,
    mark_references,
)
from cnnfeat.shown import plot_text, visible_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LONG_TICK = 6
"""Layer names longer than this many characters are slanted."""


@dataclass(frozen=True)
class Series:
    """One line of a plot.

    Parameters
    ----------
    label : str
        The line's name in the legend, such as "SVM" or "SVM (Zeiler & Fergus)".
    mean : sequence of float
        Fractions in [0, 1]; NaN leaves a gap.
    std : sequence of float, optional
        Standard deviations over splits, as fractions; no bars without it.
    published : bool
        Drawn grey and dotted: a number from a paper, not one measured here.
    baseline : bool
        Drawn dashed, with open markers: what the others are to be compared with.
    style : int, optional
        Which colour and marker; its place among the series without it.

    Raises
    ------
    ValueError
        If `std` is not as long as `mean`.
    """

    label: str
    mean: Sequence[float]
    std: Sequence[float] | None = None
    published: bool = False
    baseline: bool = False
    style: int | None = None

    def __post_init__(self) -> None:
        if self.std is not None and len(self.std) != len(self.mean):
            raise ValueError(
                f"series {self.label!r}: {len(self.mean)} means, {len(self.std)} stds"
            )


def plot_accuracy_by_layer(
    layers: Sequence[str],
    series: Sequence[Series],
    *,
    references: Sequence[Reference] = (),
    title: str | None = None,
    metric: str = "mean per-class accuracy",
) -> Figure:
    """Draw one line a head over the layers, in the order given, with ± std bars.

    Parameters
    ----------
    layers : sequence of str
        Layer names, shallow to deep.
    series : sequence of Series
        One value a layer each, as fractions.
    references : sequence of Reference
        Published numbers, across the whole plot.
    title : str, optional
        Drawn above.
    metric : str
        What the fractions are, for the y axis.

    Raises
    ------
    ValueError
        If a series does not have one value a layer.

    References
    ----------
    Zeiler and Fergus 2013, table 7, drawn.
    """
    figure, axes = new_axes(
        max(5.0, min(0.7 * len(layers) + 2.5, 16.0)),
        _height(series, references),
        x_label="layer",
        y_label=f"{metric} (%)",
        title=title,
    )
    places = np.arange(len(layers))
    _draw_series(axes, places, series, references=references)
    axes.set_xticks(places, list(map(plot_text, layers)))
    if max((len(name) for name in layers), default=0) > _LONG_TICK:
        axes.tick_params(axis="x", rotation=40)
        for tick in axes.get_xticklabels():
            tick.set(ha="right", rotation_mode="anchor")
    axes.margins(x=0.5 / max(len(layers), 1))
    return figure


def plot_learning_curve(
    train_sizes: Sequence[int],
    series: Sequence[Series],
    *,
    references: Sequence[Reference] = (),
    title: str | None = None,
    metric: str = "mean per-class accuracy",
) -> Figure:
    """Draw accuracy (fractions) against the number of training images a class.

    References are lines across the plot, with a mark at the size they belong to.

    Raises
    ------
    ValueError
        If a series does not have one value a training size.

    References
    ----------
    Donahue et al. 2013, figure 4 (left).
    """
    figure, axes = new_axes(
        6.0,
        _height(series, references),
        x_label="training images per class",
        y_label=f"{metric} (%)",
        title=title,
    )
    _draw_series(axes, np.asarray(train_sizes), series, references=references)
    mark_references(axes, references)
    axes.set_xticks(list(train_sizes))
    return figure


def plot_c_curve(
    C_values: Sequence[float],
    series: Sequence[Series],
    *,
    chosen: Mapping[str, float] | None = None,
    title: str | None = None,
    metric: str = "validation accuracy",
) -> Figure:
    """Draw the score inside the training rows against C, the chosen C marked.

    Parameters
    ----------
    C_values : sequence of float
        The grid, positive; the axis is logarithmic.
    series : sequence of Series
        One value (fraction) for each C.
    chosen : mapping of str to float, optional
        Series label to the C chosen for it; a value outside the grid is an error.
    title : str, optional
        Drawn above.
    metric : str
        What the fractions are, for the y axis.

    Raises
    ------
    ValueError
        If a C is not positive, a chosen C is not in the grid or names no series, or a
        series does not have one value for each C.
    """
    C = np.asarray(C_values, dtype=float)
    if not (C > 0).all():
        raise ValueError(f"C must be positive on a logarithmic axis: {list(C_values)}")
    order = np.argsort(C)
    figure, axes = new_axes(
        6.0, 4.2, x_label="C (logarithmic)", y_label=f"{metric} (%)", title=title
    )
    axes.set_xscale("log")
    _draw_series(axes, C, series, order)
    for label, value in (chosen or {}).items():
        index, at = _find_chosen(C, series, label, value)
        color = line_style(index)["color"]
        axes.axvline(
            value,
            color=color,
            alpha=0.5,
            linewidth=1,
            zorder=0,
            label=visible_text(f"chosen for {label}: C = {value:g}"),
        )
        x = _beside(C, index, len(series), is_log=True)[at]
        y = 100 * series[index].mean[at]
        axes.plot([x], [y], "o", markersize=13, mfc="none", mec=color, mew=1.5)
    if chosen:
        _add_legend(axes)
    return figure


def _find_chosen(
    C: np.ndarray, series: Sequence[Series], label: str, value: float
) -> tuple[int, int]:
    """Return the index of the series and the place of the chosen C."""
    labels = [one.label for one in series]
    if label not in labels:
        raise ValueError(f"chosen C for {label!r}, which is none of {labels}")
    at = np.flatnonzero(np.isclose(C, value, rtol=1e-9, atol=0))
    if not at.size:
        raise ValueError(f"chosen C {value:g} is not in the grid {C.tolist()}")
    return labels.index(label), int(at[0])


def plot_training_curves(
    train_loss: Sequence[float],
    *,
    validation_loss: Sequence[float] | None = None,
    validation_accuracy: Sequence[float] | None = None,
    best_epoch: int | None = None,
    title: str | None = None,
) -> Figure:
    """Draw loss (above) and validation accuracy (below) by epoch, counted from 1.

    Parameters
    ----------
    train_loss, validation_loss : sequence of float
        Mean loss of each epoch, unitless (nats for cross entropy).
    validation_accuracy : sequence of float, optional
        Fractions.
    best_epoch : int, optional
        The one to mark; by default the first of the highest accuracy.
    title : str, optional
        Drawn above.

    Raises
    ------
    ValueError
        If the sequences differ in length.
    """
    lengths = {
        len(one)
        for one in (train_loss, validation_loss, validation_accuracy)
        if one is not None
    }
    if len(lengths) > 1:
        raise ValueError(f"curves of different lengths: {sorted(lengths)} epochs")
    epochs = np.arange(1, len(train_loss) + 1)
    n_panels = 1 if validation_accuracy is None else 2
    figure = new_figure(6.0, 2.1 + 2.1 * n_panels)
    panels = figure.subplots(n_panels, 1, sharex=True, squeeze=False)[:, 0]
    panels[0].plot(epochs, train_loss, label="training", **line_style(0))
    if validation_loss is not None:
        panels[0].plot(epochs, validation_loss, label="validation", **line_style(1))
    panels[0].set_ylabel("loss")
    panels[0].legend(frameon=False)
    if validation_accuracy is not None:
        accuracy = np.asarray(validation_accuracy, float)
        _draw_validation(panels[1], epochs, accuracy, best_epoch)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    panels[-1].set_xlabel("epoch")
    if title:
        figure.suptitle(visible_text(title), parse_math=False)
    return figure


def _draw_validation(
    axes: Axes, epochs: np.ndarray, accuracy: np.ndarray, best_epoch: int | None
) -> None:
    """Draw validation accuracy with its best epoch named."""
    axes.plot(epochs, 100 * accuracy, label="validation", **line_style(1))
    axes.set_ylabel("validation accuracy (%)")
    if accuracy.size and not np.isnan(accuracy).all():
        best = int(np.nanargmax(accuracy)) if best_epoch is None else best_epoch - 1
        label = f"best: {100 * accuracy[best]:.1f} % (epoch {epochs[best]})"
        axes.axvline(epochs[best], color="0.5", linestyle=":", linewidth=1, label=label)
        axes.legend(frameon=False, loc="lower right")


def _draw_series(
    axes: Axes,
    places: np.ndarray,
    series: Sequence[Series],
    order: np.ndarray | None = None,
    references: Sequence[Reference] = (),
) -> None:
    """Draw each series in per cent over `places`; the published ones grey."""
    order = np.arange(len(places)) if order is None else order
    n_published = 0
    for index, one in enumerate(series):
        if len(one.mean) != len(places):
            raise ValueError(
                f"series {one.label!r}: {len(one.mean)} values for {len(places)} places"
            )
        style = line_style(index if one.style is None else one.style)
        if one.baseline:
            style |= {"linestyle": "--", "mfc": "white", "alpha": 0.75}
        if one.published:
            style |= {
                "color": GREYS[n_published % 2],
                "linestyle": (":", "--")[n_published // 2 % 2],
                "mfc": "white",
            }
            n_published += 1
        mean = 100 * np.asarray(one.mean, dtype=float)[order]
        std = None if one.std is None else 100 * np.asarray(one.std, dtype=float)[order]
        at = _beside(places[order], index, len(series), axes.get_xscale() == "log")
        axes.errorbar(
            at, mean, yerr=std, label=visible_text(one.label), capsize=3, **style
        )
    draw_references(axes, references)
    axes.grid(axis="y", alpha=0.3)
    _fit_percent_axis(axes)
    if references:
        add_legend_below(axes, len(references))
    elif series:
        _add_legend(axes, n_columns=math.ceil(len(series) / 8))


def _add_legend(axes: Axes, n_columns: int = 1) -> None:
    """Add a legend inside the plot; what names hold is not set as mathematics."""
    legend = axes.legend(frameon=False, fontsize="small", ncols=n_columns)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _beside(places: np.ndarray, index: int, n_series: int, is_log: bool) -> np.ndarray:
    """Return places moved a little, so that the series' error bars hide no other's."""
    x = np.log(places) if is_log else np.asarray(places, dtype=float)
    gap = np.diff(np.sort(x)).min(initial=np.inf)
    step = min(0.06, 0.5 / n_series) * (gap if np.isfinite(gap) else 1.0)
    x = x + (index - (n_series - 1) / 2) * step
    return np.exp(x) if is_log else x


def _height(series: Sequence[Series], references: Sequence[Reference]) -> float:
    """Return a figure's height in inches, with room for names below the plot."""
    n_below = len(series) + len(references) if references else 0
    return 4.2 + 0.2 * n_below


def _fit_percent_axis(axes: Axes) -> None:
    """Keep the y axis inside 0 to 100 %, where accuracies live."""
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -2.0), min(high, 102.0))
