"""A confusion matrix for a page: a drawing whose cells name themselves, and a key.

The drawing is SVG in the page. It needs no script: a browser shows a cell's `<title>`
when the pointer rests on it. Many classes are numbers at its sides, and the key below
says whose.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cnnfeat.report._classes import confusion_shares, shorten, similarity_order
from cnnfeat.report._escape import escape
from cnnfeat.report._tables import format_percent

MAX_NAMED = 40
"""Up to so many classes have their names at the sides of the drawing."""
_SIDE = 1000
"""Side of the matrix, in units of the drawing."""
_NUMBERED_EACH = 5
_NAME_LENGTH = 18


@dataclass(frozen=True, eq=False)
class ConfusionSheet:
    """A confusion matrix as a page shows it.

    Parameters
    ----------
    confusion : ndarray of shape (n_classes, n_classes), integer
        Counts; rows true class, columns predicted class.
    class_names : sequence of str
        One a class.
    caption : str
    files : sequence of str
        Names of files beside the page that hold the same as a picture.
    """

    confusion: np.ndarray
    class_names: Sequence[str]
    caption: str
    files: Sequence[str] = ()


def render_confusion(sheet: ConfusionSheet) -> str:
    """Return the drawing and its key as HTML, classes in `similarity_order`.

    Raises
    ------
    ValueError
        If the matrix is not square with one name a class.
    """
    k = len(sheet.class_names)
    if np.shape(sheet.confusion) != (k, k):
        raise ValueError(
            f"confusion of shape {np.shape(sheet.confusion)} for {k} class names"
        )
    order = similarity_order(sheet.confusion)
    counts = np.asarray(sheet.confusion)[np.ix_(order, order)]
    names = [sheet.class_names[index] for index in order]
    # Room for names, or for numbers, at the left and above.
    margin = 200 if k <= MAX_NAMED else 40
    box = f"{-margin} {-margin} {_SIDE + margin + 2} {_SIDE + margin + 2}"
    width = min(960, 300 + 40 * k)
    parts = (
        f'<svg class="confusion" viewBox="{box}" width="{width}" role="img" '
        f'aria-label="{escape(sheet.caption)}">',
        *_bands(counts, names),
        *_cells(counts, names),
        f'<rect class="frame" width="{_SIDE}" height="{_SIDE}"/>',
        *(_names(names) if k <= MAX_NAMED else _numbers(k)),
        "</svg>",
        '<ol class="key">',
        *_key(counts, names),
        "</ol>",
    )
    return "\n".join(parts)


def _square(place: float, k: int) -> str:
    """Return where the place-th of k classes begins, in units of the drawing."""
    return f"{_SIDE * place / k:.6g}"


def _bands(counts: np.ndarray, names: Sequence[str]) -> Iterator[str]:
    """Yield a band below each row of cells: its class is named anywhere on it."""
    k = len(names)
    for row, (name, total) in enumerate(zip(names, counts.sum(axis=1), strict=True)):
        yield (
            f'<rect class="band" y="{_square(row, k)}" width="{_SIDE}" '
            f'height="{_square(1, k)}"><title>{row + 1} {escape(name)}: {total:,} '
            "test images</title></rect>"
        )


def _cells(counts: np.ndarray, names: Sequence[str]) -> Iterator[str]:
    """Yield a square for each pair of classes that has an image."""
    k, shares = len(names), confusion_shares(counts)
    for row, column in np.argwhere(counts):
        right, share = row == column, shares[row, column]
        outcome = "right" if right else f"taken for {column + 1} {names[column]}"
        title = (
            f"{row + 1} {names[row]}: {counts[row, column]:,} of "
            f"{counts[row].sum():,} ({format_percent(share)} %) {outcome}"
        )
        # A square-root scale: single mistakes stay visible beside a full diagonal.
        yield (
            f'<rect class="{"right" if right else "wrong"}" x="{_square(column, k)}" '
            f'y="{_square(row, k)}" width="{_square(1, k)}" height="{_square(1, k)}" '
            f'fill-opacity="{max(0.2, share**0.5):.2f}"><title>{escape(title)}'
            "</title></rect>"
        )


def _names(names: Sequence[str]) -> Iterator[str]:
    """Yield each class's name at the left and, upright, above."""
    k = len(names)
    for place, name in enumerate(names):
        middle = _square(place + 0.5, k)
        text = escape(shorten(name, _NAME_LENGTH))
        for at in (f"-8 {middle}", f"{middle} -8) rotate(-90"):
            anchor = "start" if "rotate" in at else "end"
            yield (
                f'<text text-anchor="{anchor}" dy=".35em" transform="translate({at})">'
                f"{text}</text>"
            )


def _numbers(k: int) -> Iterator[str]:
    """Yield every fifth class's number at the left and above."""
    for number in (1, *range(_NUMBERED_EACH, k + 1, _NUMBERED_EACH)):
        middle = _square(number - 0.5, k)
        yield f'<text text-anchor="end" dy=".35em" x="-6" y="{middle}">{number}</text>'
        yield f'<text text-anchor="middle" x="{middle}" y="-8">{number}</text>'


def _key(counts: np.ndarray, names: Sequence[str]) -> Iterator[str]:
    """Yield each class, numbered as in the drawing, and how much of it is right."""
    shares, totals = np.diag(confusion_shares(counts)), counts.sum(axis=1)
    for name, share, total in zip(names, shares, totals, strict=True):
        percent = f"{format_percent(share)} %" if total else "no test images"
        yield f"<li>{escape(name)} <span>{percent}</span></li>"
