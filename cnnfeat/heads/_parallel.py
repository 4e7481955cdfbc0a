"""Several splits at a time, a core each.

A head of some thousand rows is made of many small steps that one core does as fast as
two, so a core for each split ends sooner than all cores for one split after another.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

PARALLEL_BYTES = 256 * 2**20  # of features; each split takes a copy of its rows
Result = TypeVar("Result")


def splits_at_a_time(X: Any, n_splits: int) -> int:
    """Return how many splits to fit at once: 1, or as many as torch has threads.

    More than one only on the CPU, for features in memory whose copies are small.

    Parameters
    ----------
    X : Tensor or RowSource of shape (n, d)
    n_splits : int
    """
    small = isinstance(X, Tensor) and X.numel() * X.itemsize <= PARALLEL_BYTES
    if not small or X.device.type != "cpu":
        return 1
    return max(1, min(torch.get_num_threads(), n_splits))


def map_splits(
    fit_one: Callable[[int], Result], n_splits: int, n_workers: int
) -> list[Result]:
    """Return `fit_one` of 0 … n_splits − 1, in order, `n_workers` at a time.

    What is left over after the last full round shares all threads.
    """
    results: list[Result] = []
    while len(results) < n_splits:
        left = range(len(results), n_splits)
        size = n_workers if len(left) >= n_workers else len(left)
        results += _round(fit_one, left[: len(left) - len(left) % size], size)
    return results


def _round(
    fit_one: Callable[[int], Result], numbers: range, n_workers: int
) -> list[Result]:
    if n_workers < 2:
        return [fit_one(number) for number in numbers]
    n_threads = torch.get_num_threads()
    share = partial(torch.set_num_threads, max(1, n_threads // n_workers))
    try:
        with ThreadPoolExecutor(n_workers, initializer=share) as pool:
            return list(pool.map(fit_one, numbers))
    finally:
        torch.set_num_threads(n_threads)
