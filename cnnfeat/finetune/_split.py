"""Which images are trained on, chosen on and tested on.

The rows are drawn as the heads' rows are, so that frozen and fine-tuned networks are
scored on the same ones.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from cnnfeat.errors import SplitError
from cnnfeat.finetune._options import FinetuneOptions
from cnnfeat.image_table import ImageTable
from cnnfeat.splits import Split, choose_split, inner_split

_NO_ROWS = np.array([], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class FinetuneSplit:
    """Rows of an image list, no row in two parts, and their classes.

    Attributes
    ----------
    train, validation, test : ndarray of shape (n,), dtype=int64
        Trained on, chosen on (out of the training rows), held out; sorted.
    y : ndarray of shape (n_images,), dtype=int64
        Class of each row of the image list; -1 for classes not in use.
    class_names : list of str
        The classes in use.
    failures : dict of int to str
        Why rows could not be decoded.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    y: np.ndarray
    class_names: list[str]
    failures: dict[int, str]

    @property
    def training(self) -> np.ndarray:
        """What the outer split calls training rows: trained and chosen on."""
        return np.sort(np.concatenate([self.train, self.validation]))


# Told rows to train on and rows to evaluate; says why some cannot be decoded.
Decode = Callable[[np.ndarray, np.ndarray], dict[int, str]]


def draw_readable(
    image_list: ImageTable, options: FinetuneOptions, decode: Decode
) -> FinetuneSplit:
    """Draw the rows, decode them, and draw again without those that failed.

    An unreadable image moves one row, as it does for heads, whose files know beforehand
    which images can be read.

    Raises
    ------
    SplitError
        If there are no labels, fewer than two classes, or a class has too few images.
    """
    ok = np.ones(len(image_list), dtype=bool)
    failures: dict[int, str] = {}
    while True:
        outer = choose_split(replace(image_list, ok=ok), options)
        inner = _inner_split(image_list, outer.train, options)
        found = decode(inner.train, np.concatenate([inner.test, outer.test]))
        if not found:
            break
        failures |= found
        ok[list(found)] = False
    labels = image_list.labels
    used = np.unique(labels[outer.train])
    lookup = np.full(len(image_list.class_names) + 1, -1, dtype=np.int64)
    lookup[used] = np.arange(len(used))
    y = lookup[labels]
    strange = np.unique(labels[outer.test[y[outer.test] < 0]])
    if len(strange):
        names = [image_list.class_names[k] for k in strange[:5]]
        raise SplitError(
            f"{len(strange)} classes have test images and none to train on: "
            f"{', '.join(names)}; add some or leave the classes out"
        )
    names = [image_list.class_names[k] for k in used]
    return FinetuneSplit(inner.train, inner.test, outer.test, y, names, failures)


def _inner_split(
    image_list: ImageTable, training: np.ndarray, options: FinetuneOptions
) -> Split:
    """Return rows to train on and rows that choose the epoch, out of the training."""
    labels, names = image_list.labels, image_list.class_names
    counts = Counter(labels[training].tolist())
    if len(counts) < 2:
        found = ", ".join(names[k] for k in counts) or "none"
        raise SplitError(
            f"at least two classes with labelled images are needed: {found}"
        )
    share = options.validation_share(len(training) / len(counts))
    if not share:
        return Split(training, _NO_ROWS)
    single = [names[k] for k, n in sorted(counts.items()) if n < 2]
    if single:
        raise SplitError(
            f"{len(single)} classes have one training image ({', '.join(single[:5])}), "
            "and one to train on and one to stop by are needed: give more, leave them "
            "out with `exclude_classes`, or give `validation=0`"
        )
    return inner_split(
        image_list,
        training,
        held_out=share,
        seed=options.seed,
    )
