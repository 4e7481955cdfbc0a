"""The splits of a protocol on the images at hand, and what is not as in the papers."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from cnnfeat.errors import CnnfeatWarning, OptionError, SplitError
from cnnfeat.image_table import ImageTable
from cnnfeat.protocols._lists import read_published_splits
from cnnfeat.protocols._table import Domains, Draw, Protocol
from cnnfeat.splits import (
    TEST_SHARE,
    Split,
    draw_folds,
    draw_share,
    draw_split,
    first_of_classes,
    refuse_beside,
    split_seed,
)

_RANDOM_SPLITS = 5  # where nothing else is said, as in DeCAF and ZF


def protocol_splits(
    protocol: Protocol,
    table: ImageTable,
    draw: Draw,
    *,
    usable: np.ndarray,
) -> list[Split]:
    """Return the protocol's splits.

    Parameters
    ----------
    protocol : Protocol
        From `get_protocol`.
    table : ImageTable
    draw : Draw
        Instead of the protocol's own numbers.
    usable : ndarray of shape (n_images,), dtype=bool
        As for `draw_split`. The class of clutter is left out here where the protocol
        leaves it out.

    Raises
    ------
    SplitError
        If the images are those of another data set, a class has too few of them, or
        published lists are missing or name images that are not there.
    OptionError
        If sizes are not given where the user decides, or given where lists decide.

    Warns
    -----
    CnnfeatWarning
        If classes, images or published lists are not as many as the official ones, the
        class of clutter is missing, or a listed image could not be read.
    """
    _check_draw(protocol, draw)
    usable = _taking_part(protocol, table, np.array(usable, dtype=bool))
    _check_data_set(protocol, table.labels, usable)
    if protocol.lists and draw.lists_dir is not None:
        return _published(protocol, table, draw, usable)
    if draw.n_folds is not None:
        return draw_folds(
            table,
            usable=usable,
            n_folds=draw.n_folds,
            seed=draw.seed,
            skip_small=draw.skip_small,
        )
    return [
        _drawn(
            protocol, table, replace(draw, seed=split_seed(draw.seed, index)), usable
        )
        for index in range(_n_random_splits(protocol, draw.n_splits))
    ]


def _check_draw(protocol: Protocol, draw: Draw) -> None:
    """Refuse options that contradict each other or the protocol."""
    if draw.n_splits is not None and draw.n_splits < 1:
        raise OptionError(f"at least 1 split is needed, not {draw.n_splits}")
    sizes: dict[str, object] = {
        "train_per_class": draw.train_per_class,
        "test_per_class": draw.test_per_class,
    }
    refuse_beside("test_share", draw.test_share, sizes, "is of all rows")
    sizes |= {"test_share": draw.test_share, "n_splits": draw.n_splits}
    refuse_beside("n_folds", draw.n_folds, sizes, "tests each row once")
    for name, value in (("test_share", draw.test_share), ("n_folds", draw.n_folds)):
        if value is not None and not protocol.is_free:
            raise OptionError(
                f"{protocol.name} says itself how many rows are drawn: `{name}` goes "
                "with `protocol=folder`"
            )


def _drawn(
    protocol: Protocol, table: ImageTable, draw: Draw, usable: np.ndarray
) -> Split:
    """Return one random split."""
    if protocol.domains is not None:
        return _of_domains(protocol.domains, table, draw, usable)
    train_per_class = draw.train_per_class or protocol.default_train_per_class
    if train_per_class is not None:
        return draw_split(
            table,
            usable=usable,
            train_per_class=train_per_class,
            test_per_class=draw.test_per_class or protocol.test_per_class,
            seed=draw.seed,
            skip_small=draw.skip_small,
        )
    if not protocol.is_free:
        raise OptionError(
            f"{protocol.name} needs the published lists (give their folder with "
            "`lists_dir`), or `train_per_class` to draw at random"
        )
    if draw.test_per_class is not None:
        raise OptionError(
            "`test_per_class` draws from the rows that `train_per_class` leaves: give "
            "both"
        )
    return draw_share(
        table,
        usable=usable,
        share=TEST_SHARE if draw.test_share is None else draw.test_share,
        seed=draw.seed,
        skip_small=draw.skip_small,
    )


def _of_domains(
    domains: Domains, table: ImageTable, draw: Draw, usable: np.ndarray
) -> Split:
    """Return a split that learns from one source and is tested on another."""
    if (draw.train_per_class, draw.test_per_class) != (None, None):
        raise OptionError(
            "this protocol says how many images of each source are trained on: "
            "`train_per_class` and `test_per_class` do not go with it"
        )
    source, target = (
        usable & _is_below(table, name) for name in (domains.source, domains.target)
    )
    split = draw_split(
        table,
        usable=target,
        train_per_class=domains.n_target,
        seed=draw.seed,
        skip_small=draw.skip_small,
    )
    tested = np.isin(table.labels, table.labels[split.test])
    more = first_of_classes(
        table, usable=source & tested, n=domains.n_source, seed=draw.seed
    )
    return Split(np.sort(np.concatenate([split.train, more])), split.test)


def _is_below(table: ImageTable, folder: str) -> np.ndarray:
    """Return which images have a folder of that name in their paths."""
    below = np.array([folder in path.split("/")[:-1] for path in table.paths])
    if not below.any():
        raise SplitError(
            f"no image is in a folder `{folder}`: extract the class folders of all "
            "sources together (`cnnfeat extract office31/*/images`)"
        )
    return below


def _n_random_splits(protocol: Protocol, n_splits: int | None) -> int:
    if n_splits is not None:
        return n_splits
    if protocol.lists or protocol.n_splits is None:
        return _RANDOM_SPLITS
    return protocol.n_splits


def _taking_part(
    protocol: Protocol, table: ImageTable, usable: np.ndarray
) -> np.ndarray:
    """Leave out the class of clutter, or say that it is missing."""
    names = table.class_names
    if protocol.background in names and not protocol.with_background:
        return usable & (table.labels != names.index(protocol.background))
    if protocol.with_background and protocol.background not in names:
        _warn(
            f"{protocol.name} has the class {protocol.background}, which is missing "
            "here: the published numbers are of another task"
        )
    return usable


def _check_data_set(protocol: Protocol, labels: np.ndarray, usable: np.ndarray) -> None:
    """Say how the images differ from the official ones; refuse another data set."""
    present = np.unique(labels[usable & (labels >= 0)])
    n_classes, n_images = len(present), int(np.count_nonzero(usable & (labels >= 0)))
    if protocol.n_classes is None or protocol.n_images is None:
        return
    if not protocol.n_classes / 2 <= n_classes <= protocol.n_classes * 2:
        raise SplitError(
            f"{protocol.name} has {protocol.n_classes} classes, and here are "
            f"{n_classes}: this is another data set; use `protocol=folder`"
        )
    if n_classes != protocol.n_classes:
        _warn(f"{protocol.name} has {protocol.n_classes} classes; here are {n_classes}")
    if n_images != protocol.n_images:
        _warn(
            f"{protocol.name} has {protocol.n_images:,} images; here are {n_images:,} "
            "that can be read"
        )


def _published(
    protocol: Protocol, table: ImageTable, draw: Draw, usable: np.ndarray
) -> list[Split]:
    """Return the splits of published lists, without rows that have no features."""
    if (draw.train_per_class, draw.test_per_class) != (None, None):
        raise OptionError(
            f"{protocol.name} takes its rows from the published lists: "
            "`train_per_class` and `test_per_class` do not go with `lists_dir`"
        )
    assert protocol.lists is not None
    assert draw.lists_dir is not None
    splits = read_published_splits(protocol.lists, Path(draw.lists_dir), table.paths)
    n_splits = draw.n_splits or protocol.n_splits
    if n_splits is not None and len(splits) < n_splits:
        _warn(f"{n_splits} published splits are expected; here are {len(splits)}")
    what = "images of the published list"
    return [split.usable_part(usable, what) for split in splits[:n_splits]]


def _warn(message: str) -> None:
    warnings.warn(message, CnnfeatWarning, stacklevel=4)
