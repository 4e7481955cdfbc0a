"""Plots with one entry a class: confusion matrix and per-class accuracy.

Readable from 1 to 397 classes (SUN397): class names are drawn while they fit, and
beyond that the confusion matrix shows numbers on its axes and the per-class plot the
worst and the best classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import PowerNorm

from cnnfeat.report._classes import confusion_shares, shorten, similarity_order
from cnnfeat.report._figures import new_axes
from cnnfeat.report._palette import OKABE_ITO
from cnnfeat.shown import plot_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_NAMED_CLASSES = 120
"""Up to so many classes have their names beside the matrix."""
MAX_NUMBERED_CLASSES = 10
"""Up to so many classes have their percentages written into the cells, and keep their
order; more of them are ordered by similarity."""


def plot_confusion_matrix(
    confusion: np.ndarray, class_names: Sequence[str], *, title: str | None = None
) -> Figure:
    """Draw the confusion matrix with each row divided by its sum.

    Parameters
    ----------
    confusion : ndarray of shape (n_classes, n_classes), integer
        Counts; rows true class, columns predicted class. An empty row stays empty.
    class_names : sequence of str
        One a class; drawn when there are at most `MAX_NAMED_CLASSES`. More than
        `MAX_NUMBERED_CLASSES` of them are put into `similarity_order`.
    title : str, optional
        Drawn above.

    Raises
    ------
    ValueError
        If the matrix is not square with one name a class.
    """
    confusion = np.asarray(confusion)
    k = len(class_names)
    if k == 0 or confusion.shape != (k, k):
        raise ValueError(f"confusion of shape {confusion.shape} for {k} class names")
    order = np.arange(k)
    if MAX_NUMBERED_CLASSES < k <= MAX_NAMED_CLASSES:
        order = similarity_order(confusion)
    shares = 100 * confusion_shares(confusion)[np.ix_(order, order)]
    named = k <= MAX_NAMED_CLASSES
    size = float(np.clip(0.26 * k + 2.5, 4.5, 16.0)) if named else 9.0
    figure, axes = new_axes(
        size + 1.0, size, x_label="predicted class", y_label="true class", title=title
    )
    axes.spines[["top", "right"]].set_visible(True)
    # A square-root scale: single mistakes stay visible beside a full diagonal.
    norm = PowerNorm(0.5, vmin=0, vmax=100)
    picture = axes.imshow(shares, cmap="Blues", norm=norm, interpolation="nearest")
    bar = figure.colorbar(picture, ax=axes, fraction=0.045, pad=0.02)
    bar.set_label("share of the true class (%)")
    if named:
        _name_axes(axes, [class_names[index] for index in order.tolist()])
    else:
        axes.set_xlabel("predicted class (index)")
        axes.set_ylabel("true class (index)")
    if k <= MAX_NUMBERED_CLASSES:
        _write_cells(axes, shares)
    return figure


def _name_axes(axes: Axes, class_names: Sequence[str]) -> None:
    """Write the names beside the matrix, as large as they fit."""
    k = len(class_names)
    names = [plot_text(shorten(name, 24)) for name in class_names]
    small: dict[str, Any] = {"fontsize": 9 if k <= 12 else 8 if k <= 50 else 6.5}
    upright = 90 if k > 12 else 45
    axes.set_xticks(range(k), names, rotation=upright, ha="right", **small)
    for tick in axes.get_xticklabels():
        tick.set(rotation_mode="anchor", va="center" if upright == 90 else "top")
    axes.set_yticks(range(k), names, **small)


def _write_cells(axes: Axes, shares: np.ndarray) -> None:
    """Write each percentage into its cell, light on dark and dark on light."""
    for (row, column), share in np.ndenumerate(shares):
        axes.text(
            column,
            row,
            f"{share:.0f}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if share > 40 else "black",
        )


def plot_per_class_accuracy(
    accuracy: np.ndarray,
    class_names: Sequence[str],
    *,
    n_shown: int = 20,
    title: str | None = None,
) -> Figure:
    """Draw sorted bars of per-class accuracy; for many classes the two ends.

    Parameters
    ----------
    accuracy : ndarray of shape (n_classes,), float
        Fractions; NaN (a class without test images) is left out and counted below.
    class_names : sequence of str
        One a class.
    n_shown : int
        With more than `2 * n_shown` classes only so many worst and best are drawn.
    title : str, optional
        Drawn above.

    Raises
    ------
    ValueError
        If there is not one accuracy a class, or none that is a number.
    """
    accuracy = np.asarray(accuracy, dtype=float)
    if accuracy.shape != (len(class_names),):
        raise ValueError(
            f"accuracy of shape {accuracy.shape} for {len(class_names)} class names"
        )
    scored = np.flatnonzero(~np.isnan(accuracy))
    if not scored.size:
        raise ValueError("no class has a test image: nothing to draw")
    order = scored[np.argsort(accuracy[scored], kind="stable")]
    mean = float(accuracy[scored].mean())
    n_hidden = max(0, len(order) - 2 * n_shown)
    worst, best = (order, order[:0])
    if n_hidden:
        worst, best = order[:n_shown], order[-n_shown:]
    note = f"{n_hidden} classes between are not shown" if n_hidden else ""
    n_missing = len(class_names) - scored.size
    if n_missing:
        note += f"{'; ' if note else ''}{n_missing} without test images"
    figure, axes = new_axes(
        6.5,
        1.6 + 0.2 * (len(worst) + len(best) + (2 if n_hidden else 0)),
        x_label="accuracy (%)" + (f"\n{note}" if note else ""),
        y_label="",
        title=title,
    )
    # A gap of two bars stands between the worst and the best.
    places = np.concatenate(
        [np.arange(len(worst)), len(worst) + 2 + np.arange(len(best))]
    )
    shown = np.concatenate([worst, best])
    axes.barh(places, 100 * accuracy[shown], color=OKABE_ITO[0], height=0.75)
    names = [plot_text(shorten(class_names[i], 32)) for i in shown]
    axes.set_yticks(places, names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.margins(y=0.01)
    if n_hidden:
        axes.text(2, len(worst) + 0.5, "⋯", va="center", fontsize=12)
    label = f"mean of {scored.size} classes: {100 * mean:.1f} %"
    axes.axvline(100 * mean, color=OKABE_ITO[1], linestyle="--", label=label)
    figure.legend(loc="outside upper right", frameon=False, fontsize="small")
    return figure
