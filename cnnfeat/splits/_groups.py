"""Which groups of images are held out, where a group never stands on both sides.

A group is whatever makes images alike beside their class: a patient, a plate, a video.
Groups may hold several classes, so that shares of each class are met as nearly as whole
groups allow: a greedy choice, in an order that the seed draws.
"""

import hashlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Groups:
    """How many images of each class each group has, and the order to take groups in.

    Parameters
    ----------
    of_row : ndarray of shape (n,), dtype=int64
        Row of `counts` for each image.
    counts : ndarray of shape (n_groups, n_classes), dtype=int64
    order : ndarray of shape (n_groups,), dtype=int64
        A permutation of the groups.
    """

    of_row: np.ndarray
    counts: np.ndarray
    order: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, groups: np.ndarray, seed: int | str) -> "Groups":
        """Return the groups of some images, shuffled by a digest of seed and number.

        Parameters
        ----------
        labels, groups : ndarray of shape (n,), dtype=int
            Each image's class and group.
        seed : int or str
        """
        numbers, of_row = np.unique(groups, return_inverse=True)
        _, classes = np.unique(labels, return_inverse=True)
        counts = np.zeros((len(numbers), classes.max(initial=0) + 1), np.int64)
        np.add.at(counts, (of_row, classes), 1)
        keys = [_digest(seed, number) for number in numbers.tolist()]
        return cls(
            of_row, counts, np.array(sorted(range(len(keys)), key=keys.__getitem__))
        )

    def hold_out_share(self, share: float) -> np.ndarray:
        """Return which images are held out: about `share` of each class.

        A group is held out where that brings the shares nearer. A class with nothing
        held out then gives the group that harms the shares least. No class is left
        without images to train on.

        Returns
        -------
        ndarray of shape (n,), dtype=bool
        """
        n_images = self.counts.sum(axis=0)
        is_out = np.zeros(len(self.counts), dtype=bool)
        held = np.zeros(len(n_images))

        def cost(more: np.ndarray) -> float:
            return float((((held + more) / n_images - share) ** 2).sum())

        def may_go(group: int) -> bool:
            more = self.counts[group]
            return bool(np.all((held + more < n_images) | (more == 0)))

        def hold_out(group: int) -> None:
            is_out[group] = True
            held[:] += self.counts[group]

        for group in self.order.tolist():
            if may_go(group) and cost(self.counts[group]) < cost(np.zeros_like(held)):
                hold_out(group)
        for label in np.argsort(n_images, kind="stable").tolist():
            if held[label]:
                continue
            its = [g for g in self.order.tolist() if self.counts[g, label]]
            free = [group for group in its if may_go(group)]
            if free:
                hold_out(min(free, key=lambda group: cost(self.counts[group])))
        return is_out[self.of_row]

    def hold_out_rest(self, n_train: int) -> np.ndarray:
        """Return which images are held out, the others having `n_train` of each class.

        Groups are taken to train on while a class of theirs has too few.

        Returns
        -------
        ndarray of shape (n,), dtype=bool
        """
        is_out = np.ones(len(self.counts), dtype=bool)
        taken = np.zeros(self.counts.shape[1], np.int64)
        for group in self.order:
            if np.any((self.counts[group] > 0) & (taken < n_train)):
                is_out[group] = False
                taken += self.counts[group]
        return is_out[self.of_row]

    def folds(self, n_folds: int) -> np.ndarray:
        """Return a fold for each image, the classes spread as evenly as groups allow.

        The largest groups are placed first, each where its classes have the least.

        Returns
        -------
        ndarray of shape (n,), dtype=int64
            In [0, n_folds).
        """
        weights = 1.0 / self.counts.sum(axis=0) ** 2
        filled = np.zeros((n_folds, self.counts.shape[1]))
        fold_of = np.zeros(len(self.counts), np.int64)
        sizes = self.counts.sum(axis=1)[self.order]
        for group in self.order[np.argsort(-sizes, kind="stable")]:
            overlap = filled @ (self.counts[group] * weights)
            # Of equal overlap the emptier fold.
            fold = np.lexsort((filled.sum(axis=1), overlap))[0]
            fold_of[group] = fold
            filled[fold] += self.counts[group]
        return fold_of[self.of_row]


def _digest(seed: int | str, number: int) -> bytes:
    return hashlib.sha256(f"group {seed}\0{number}".encode()).digest()
