"""A symmetric matrix of how alike things are, with each number in its cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cnnfeat.report._classes import shorten
from cnnfeat.report._figures import new_axes
from cnnfeat.shown import plot_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_WRITTEN = 24  # names whose cells have numbers


def plot_likeness_matrix(
    likeness: np.ndarray, names: Sequence[str], *, title: str | None = None
) -> Figure:
    """Draw how alike each two of several things are.

    Parameters
    ----------
    likeness : ndarray of shape (k, k), floating
        At most 1; what is below 0 is drawn as 0.
    names : sequence of k str
    title : str, optional
        Drawn above.

    Raises
    ------
    ValueError
        If the matrix is not square with one name a row.
    """
    k = len(names)
    if k == 0 or likeness.shape != (k, k):
        raise ValueError(f"likeness of shape {likeness.shape} for {k} names")
    size = float(np.clip(0.42 * k + 2.2, 4.0, 14.0))
    figure, axes = new_axes(size + 1.0, size, x_label="", y_label="", title=title)
    axes.spines[["top", "right"]].set_visible(True)
    axes.grid(False)
    picture = axes.imshow(likeness, cmap="viridis", vmin=0, vmax=1)
    figure.colorbar(picture, ax=axes, fraction=0.045, pad=0.02)
    told = [plot_text(shorten(name, 44)) for name in names]
    axes.set_xticks(range(k), told, rotation=90, fontsize=8)
    axes.set_yticks(range(k), told, fontsize=8)
    if k <= _MAX_WRITTEN:
        for (row, column), value in np.ndenumerate(likeness):
            colour = "white" if value < 0.55 else "black"
            text = axes.text(column, row, f"{value:.2f}", ha="center", va="center")
            text.set(fontsize=7, color=colour)
    return figure
