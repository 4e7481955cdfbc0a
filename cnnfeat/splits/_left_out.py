"""Why images take no part: each counted once."""

from collections.abc import Mapping

import numpy as np

from cnnfeat.image_table import ImageTable


def left_out_in_words(counts: Mapping[str, int]) -> str:
    """Return what `count_left_out` found as text: `2 unreadable, 5 not drawn`."""
    return ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in counts.items())


def count_left_out(
    table: ImageTable,
    taken: np.ndarray,
    reasons: Mapping[str, np.ndarray] | None = None,
) -> dict[str, int]:
    """Return how many images of a table take no part, by the first reason that holds.

    Parameters
    ----------
    table : ImageTable
    taken : ndarray of shape (m,), dtype=int
        The rows that take part.
    reasons : mapping of str to ndarray of shape (n_images,), dtype=bool, optional
        More reasons and where they hold. Before them come `unreadable` and
        `unlabelled`, behind them `not_drawn`, which holds for all that are left.
    """
    left = np.ones(len(table), dtype=bool)
    left[taken] = False
    counts = {}
    for reason, holds in (
        ("unreadable", ~table.ok),
        ("unlabelled", table.labels < 0),
        *(reasons or {}).items(),
        ("not_drawn", left),
    ):
        if n := int(np.count_nonzero(left & holds)):
            counts[reason] = n
        left = left & ~holds
    return counts
