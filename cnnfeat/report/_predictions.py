"""What a classifier says of images one by one: a table, a sheet of the wrong ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnfeat.report._class_plots import shorten
from cnnfeat.report._figures import new_figure
from cnnfeat.report._image_plots import _show_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_SHOWN = 48  # wrong images on a sheet
_N_COLUMNS = 8


@dataclass(frozen=True, eq=False)
class Predictions:
    """The two best classes of images whose true class is known.

    Parameters
    ----------
    paths : sequence of n_images str
    class_names : sequence of str
    y : ndarray of shape (n_images,), dtype=int
        True classes.
    ranked : ndarray of shape (n_images, 2), dtype=int
        The best class and the runner-up; -1 where there is no second.
    scores : ndarray of shape (n_images, 2), floating
        Theirs.
    score : {"probability", "score"}
        What the scores are, and the name of their column.
    """

    paths: Sequence[str]
    class_names: Sequence[str]
    y: np.ndarray
    ranked: np.ndarray
    scores: np.ndarray
    score: str

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each image: path, classes, scores, and whether it is right.

        The keys are `path`, `label`, `predicted`, `correct` (1 or 0), the name of the
        score, `runner_up` and `runner_up_<score>`.
        """
        names = self.class_names
        return [
            {
                "path": path,
                "label": names[true],
                "predicted": names[first],
                "correct": int(true == first),
                self.score: f"{best:.6g}",
                "runner_up": names[second] if second >= 0 else None,
                f"runner_up_{self.score}": f"{next_best:.6g}" if second >= 0 else None,
            }
            for path, true, (first, second), (best, next_best) in zip(
                self.paths,
                self.y.tolist(),
                self.ranked.tolist(),
                self.scores.tolist(),
                strict=True,
            )
        ]

    def mistakes(self) -> np.ndarray:
        """Return the positions of wrong images, the surest mistake first.

        Sure is what is far ahead of the runner-up.
        """
        wrong = np.flatnonzero(self.ranked[:, 0] != self.y)
        margin = self.scores[wrong, 0] - self.scores[wrong, 1]
        return wrong[np.argsort(-margin, kind="stable")]


def plot_mistakes(
    predictions: Predictions,
    read: Callable[[int], np.ndarray | None],
    *,
    title: str | None = None,
) -> Figure:
    """Draw the images that are taken for another class, the surest mistakes first.

    Above each stand its class, the class that it was taken for, and the score.

    Parameters
    ----------
    predictions : Predictions
    read : callable
        Gives the image at a position as uint8 (h, w, 3); None where it is gone.
    title : str, optional
        What the images are, after their number: "wrong of 500 images" by default.

    Returns
    -------
    Figure
        Of at most `MOST_SHOWN` images; it says how many there are.
    """
    mistakes = predictions.mistakes()
    shown = mistakes[:MOST_SHOWN].tolist()
    n_columns = min(_N_COLUMNS, max(len(shown), 3))
    n_rows = max(1, math.ceil(len(shown) / n_columns))
    figure = new_figure(1.5 * n_columns, 1.75 * n_rows + 0.5)
    grid = figure.subplots(n_rows, n_columns, squeeze=False)
    names, rows = predictions.class_names, predictions.rows()
    for k, axes in enumerate(grid.flat):
        position = shown[k] if k < len(shown) else None
        _show_image(axes, None if position is None else read(position))
        if position is not None:
            true = shorten(names[predictions.y[position]], 20)
            taken = shorten(names[predictions.ranked[position, 0]], 20)
            score = float(rows[position][predictions.score])
            text = f"{true}\n→ {taken} {score:.2f}"
            axes.set_title(text, fontsize=7, pad=2, parse_math=False)
    first = f"the {len(shown)} surest of " * (len(shown) < len(mistakes))
    title = title or f"wrong of {len(predictions.y):,} images"
    title = f"{first}{len(mistakes):,} {title}"
    figure.suptitle(title[:1].upper() + title[1:], fontsize=10)
    return figure
