"""Sheets of what is seen inside a network: images, mosaics of tiles, and maps.

Arrays arrive from the caller; nothing here knows of networks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from cnnfeat.report._classes import shorten
from cnnfeat.report._figures import new_figure
from cnnfeat.report._palette import OKABE_ITO
from cnnfeat.shown import visible_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BACKGROUND = 255  # between tiles
_MOST_NAMED = 8  # classes of a map that have a colour of their own


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture of a sheet.

    Parameters
    ----------
    image : ndarray
        `pixels`: uint8, (h, w, 3) or (h, w). `heat`: (h, w), floating; NaN is left
        blank. `classes`: (h, w), int, keys of `names`.
    heading : str
        Of one line or more.
    kind : {"pixels", "heat", "classes"}
    names : mapping of int to str
    boxes : sequence of (left, upper, right, lower)
        Drawn on it, in pixels of the image.
    """

    image: np.ndarray
    heading: str = ""
    kind: str = "pixels"
    names: Mapping[int, str] = field(default_factory=dict)
    boxes: Sequence[tuple[float, float, float, float]] = ()


def plot_panels(
    panels: Sequence[Panel],
    *,
    n_columns: int = 3,
    width: float = 2.6,
    title: str | None = None,
) -> Figure:
    """Draw panels on a grid, row by row.

    Parameters
    ----------
    panels : sequence of Panel
    n_columns : int
        Beside each other.
    width : float
        Of each, in inches; the height follows the tallest of its row.
    title : str, optional

    Raises
    ------
    ValueError
        If there is no panel.
    """
    if not panels:
        raise ValueError("no panel to draw")
    n_columns = min(n_columns, len(panels))
    rows = [panels[k : k + n_columns] for k in range(0, len(panels), n_columns)]
    heights = [
        width * max(p.image.shape[0] / p.image.shape[1] for p in row)
        + 0.15 * (2 + max(p.heading.count("\n") for p in row))
        for row in rows
    ]
    figure = new_figure(max(width * n_columns, 3.0), sum(heights) + 0.4)
    grid = figure.subplots(len(rows), n_columns, squeeze=False, height_ratios=heights)
    for axes in grid.flat:
        axes.set_axis_off()
    for row, line in zip(rows, grid, strict=True):
        for panel, axes in zip(row, line, strict=False):
            _draw(axes, panel)
    if title:
        figure.suptitle(visible_text(title), fontsize=10, parse_math=False)
    return figure


def _draw(axes: Axes, panel: Panel) -> None:
    if panel.heading:
        text = "\n".join(map(visible_text, panel.heading.split("\n")))
        axes.set_title(text, fontsize=7, pad=3, parse_math=False)
    if panel.kind == "heat":
        drawn = axes.imshow(panel.image, cmap="viridis", interpolation="nearest")
        bar = axes.figure.colorbar(drawn, ax=axes, fraction=0.046, pad=0.03)
        bar.ax.tick_params(labelsize=6)
    elif panel.kind == "classes":
        _draw_classes(axes, panel)
    else:
        image = panel.image
        axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    for left, upper, right, lower in panel.boxes:
        xs, ys = [left, right, right, left, left], [upper, upper, lower, lower, upper]
        axes.plot(np.array(xs) - 0.5, np.array(ys) - 0.5, color=OKABE_ITO[1], lw=1.2)


def _draw_classes(axes: Axes, panel: Panel) -> None:
    """Draw which class it is where; the most frequent ones have a name."""
    found, counts = np.unique(panel.image, return_counts=True)
    named = found[np.argsort(-counts, kind="stable")][:_MOST_NAMED]
    colours = (*OKABE_ITO[: len(named)], "#BBBBBB")
    places = np.full(panel.image.shape, len(named))
    for place, index in enumerate(named):
        places[panel.image == index] = place
    axes.imshow(
        places,
        cmap=ListedColormap(colours),
        vmin=-0.5,
        vmax=len(colours) - 0.5,
        interpolation="nearest",
    )
    labels = [shorten(panel.names[int(index)], 24) for index in named]
    labels += ["others"] * (len(found) > len(named))
    handles = [Patch(color=c, label=t) for c, t in zip(colours, labels, strict=False)]
    axes.legend(
        handles=handles,
        fontsize=6,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=2,
        frameon=False,
    )


def mosaic(
    tiles: Sequence[np.ndarray], n_columns: int | None = None, gap: int = 2
) -> np.ndarray:
    """Return tiles beside each other on white, row by row.

    Parameters
    ----------
    tiles : sequence of ndarray of shape (h, w, 3), dtype=uint8
        All of one size.
    n_columns : int, optional
        As many as rows by default.
    gap : int
        Pixels between two tiles.

    Returns
    -------
    ndarray of shape (H, W, 3), dtype=uint8
    """
    height, width = tiles[0].shape[:2]
    n_columns = n_columns or math.ceil(math.sqrt(len(tiles)))
    n_rows = math.ceil(len(tiles) / n_columns)
    shape = (n_rows * (height + gap) - gap, n_columns * (width + gap) - gap, 3)
    sheet = np.full(shape, _BACKGROUND, np.uint8)
    for k, tile in enumerate(tiles):
        y, x = k // n_columns * (height + gap), k % n_columns * (width + gap)
        sheet[y : y + height, x : x + width] = tile
    return sheet


def signed_image(values: np.ndarray, limit: float | None = None) -> np.ndarray:
    """Return values around zero as colours around mid-grey.

    Parameters
    ----------
    values : ndarray of shape (..., 3), floating
        R, G, B.
    limit : float, optional
        What becomes white; minus it is black, zero the grey. By default the 99.5th
        percentile of what is not zero, so that one pixel does not dim all others.

    Returns
    -------
    ndarray of shape (..., 3), dtype=uint8
    """
    if limit is None:
        there = np.abs(values[values != 0])
        limit = float(np.percentile(there, 99.5)) if there.size else 0.0
    scaled = values / (2 * limit) if limit else np.zeros_like(values)
    return np.round(255 * np.clip(scaled + 0.5, 0, 1)).astype(np.uint8)


def heat_over(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Return an image with a map laid over it, strongest in yellow.

    Parameters
    ----------
    image : ndarray of shape (h, w, 3), dtype=uint8
    heat : ndarray of shape (h, w), floating, not negative

    Returns
    -------
    ndarray of shape (h, w, 3), dtype=uint8
    """
    share = heat / heat.max() if heat.max() > 0 else np.zeros_like(heat)
    colours = 255 * colormaps["inferno"](share)[..., :3]
    mixed = 0.45 * image + 0.55 * colours
    return np.round(mixed).astype(np.uint8)
