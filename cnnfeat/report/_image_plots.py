"""Figures that show images: a contact sheet, and the most confused pairs of classes.

Images arrive as arrays from the caller; this room decodes none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cnnfeat.report._classes import shorten
from cnnfeat.report._figures import new_figure
from cnnfeat.shown import visible_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ConfusedPair:
    """Two classes of which one is often taken for the other.

    Parameters
    ----------
    true_class, predicted_class : str
    count : int
        Images of the true class that were given the other.
    n_true : int
        Images of the true class.
    true_images, predicted_images : sequence of ndarray of shape (h, w, 3), uint8
        Examples: mistaken images of the true class; images of the other class.
    """

    true_class: str
    predicted_class: str
    count: int
    n_true: int
    true_images: Sequence[np.ndarray] = ()
    predicted_images: Sequence[np.ndarray] = ()


def find_confused_pairs(
    confusion: np.ndarray, n_pairs: int = 8
) -> list[tuple[int, int, int]]:
    """Return the largest off-diagonal counts as (true, predicted, count).

    Parameters
    ----------
    confusion : ndarray of shape (n_classes, n_classes), integer
        Counts; rows true class, columns predicted class.
    n_pairs : int
        At most so many; pairs that never happen are left out.

    Returns
    -------
    list of (int, int, int)
        Sorted by count, largest first; equal counts by class index.
    """
    counts = np.array(confusion)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:n_pairs]
    rows, columns = np.unravel_index(order, counts.shape)
    return [
        (int(i), int(j), int(counts[i, j]))
        for i, j in zip(rows, columns, strict=True)
        if counts[i, j] > 0
    ]


def plot_confused_pairs(
    pairs: Sequence[ConfusedPair], *, n_examples: int = 3, title: str | None = None
) -> Figure:
    """Draw a row a pair: mistaken images at the left, the class taken for at the right.

    Raises
    ------
    ValueError
        If there is no pair.
    """
    if not pairs:
        raise ValueError("no pair of classes to draw")
    figure = new_figure(1.15 * 2 * n_examples + 0.8, 1.65 * len(pairs) + 0.5)
    bands = figure.subfigures(len(pairs), 1, squeeze=False)[:, 0]
    for pair, band in zip(pairs, bands, strict=True):
        share = 100 * pair.count / max(pair.n_true, 1)
        sides = band.subfigures(1, 2)
        heads = (
            f"{shorten(pair.true_class, 26)} ({pair.count} of {pair.n_true}, "
            f"{share:.0f} %)",
            f"taken for {shorten(pair.predicted_class, 26)}",
        )
        groups = (pair.true_images, pair.predicted_images)
        for side, head, images in zip(sides, heads, groups, strict=True):
            side.suptitle(head, fontsize=8, parse_math=False)
            row = side.subplots(1, n_examples, squeeze=False)[0]
            for k, axes in enumerate(row):
                _show_image(axes, images[k] if k < len(images) else None)
    if title:
        figure.suptitle(visible_text(title), parse_math=False)
    return figure


def plot_contact_sheet(
    images: Sequence[np.ndarray | None],
    captions: Sequence[str] | None = None,
    *,
    n_columns: int = 8,
    title: str | None = None,
) -> Figure:
    """Draw images on a grid, row by row, such as augmented copies of one image.

    Parameters
    ----------
    images : sequence of ndarray of shape (h, w, 3) or (h, w), uint8
        Sizes may differ; None leaves a place empty.
    captions : sequence of str, optional
        One an image.
    n_columns : int
        Images beside each other.
    title : str, optional
        Drawn above.

    Raises
    ------
    ValueError
        If there is no image, or not one caption an image.
    """
    if not len(images):
        raise ValueError("no image to draw")
    if captions is not None and len(captions) != len(images):
        raise ValueError(f"{len(captions)} captions for {len(images)} images")
    n_columns = min(n_columns, len(images))
    n_rows = math.ceil(len(images) / n_columns)
    height = 1.25 + (0.2 if captions is not None else 0.0)
    figure = new_figure(max(1.25 * n_columns, 3.0), height * n_rows + 0.4)
    grid = figure.subplots(n_rows, n_columns, squeeze=False)
    for k, axes in enumerate(grid.flat):
        _show_image(axes, images[k] if k < len(images) else None)
        if captions is not None and k < len(images):
            text = shorten(captions[k], 20)
            axes.set_title(text, fontsize=7, pad=2, parse_math=False)
    if title:
        figure.suptitle(visible_text(title), parse_math=False)
    return figure


def _show_image(axes: Axes, image: np.ndarray | None) -> None:
    """Show one image without axes; nothing where there is none."""
    axes.set_axis_off()
    if image is not None:
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
