"""Which rows a benchmark trains and tests on, and keeping them as CSV."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cnnfeat import suffixes
from cnnfeat.benchmark._options import DrawOptions
from cnnfeat.errors import OptionError, SplitError
from cnnfeat.image_table import ImageTable
from cnnfeat.images import LabelOptions, image_files, list_images, relabel
from cnnfeat.outputs import (
    check_suffix,
    claimed_outputs,
    refuse_inputs,
    write_output,
)
from cnnfeat.protocols import get_protocol, protocol_splits
from cnnfeat.splits import (
    Split,
    count_left_out,
    inner_folds,
    positions_in,
    read_splits,
    refuse_beside,
    refuse_shared_groups,
    smaller_split,
    split_seed,
    splits_to_csv,
    usable_rows,
)
from cnnfeat.store import is_features_path, open_features


@dataclass(frozen=True, eq=False)
class SplitSet:
    """The splits of one number of training images a class.

    Parameters
    ----------
    train_per_class : int or None
        None where classes differ, as in published lists.
    splits : tuple of Split
    seeds : tuple of int
        One a split: draws its rows where they are drawn, its folds and dropout.
    folds : tuple of tuples of Split
        Of each split, its training rows divided once more: C is chosen on the `test`
        rows of the folds. Empty until `with_folds`.
    """

    train_per_class: int | None
    splits: tuple[Split, ...]
    seeds: tuple[int, ...]
    folds: tuple[tuple[Split, ...], ...] = ()

    def with_folds(self, table: ImageTable, held_out: int | None) -> "SplitSet":
        """Return the same splits with folds; `held_out` as for `inner_folds`.

        Raises
        ------
        SplitError
            If no class of a split has two training rows.
        """
        folds = tuple(
            inner_folds(table, split.train, held_out=held_out, seed=seed)
            for split, seed in zip(self.splits, self.seeds, strict=True)
        )
        return replace(self, folds=folds)

    def fold_positions(self, number: int) -> tuple[Split, ...]:
        """Return the folds of one split as positions among its training rows."""
        if not self.folds:
            return ()
        return positions_in(self.splits[number].train, self.folds[number])

    def to_dict(self) -> dict[str, Any]:
        """Return every split's seed and rows of the feature file as JSON types.

        `folds` are the rows that each fold holds out of `train`, to choose C on.
        """
        splits: list[dict[str, Any]] = [
            {"seed": seed, "train": split.train.tolist(), "test": split.test.tolist()}
            for split, seed in zip(self.splits, self.seeds, strict=True)
        ]
        for entry, folds in zip(splits, self.folds, strict=False):
            entry["folds"] = [fold.test.tolist() for fold in folds]
        return {"train_per_class": self.train_per_class, "splits": splits}


@dataclass(frozen=True)
class SplitsReport:
    """What `write_splits` wrote; `n_train` and `n_test` are per split.

    `least_n_test` counts the test images of the class that has the fewest. `left_out`
    says why `n_left_out` images stand in no split.
    """

    output: str
    protocol: str
    n_splits: int
    n_classes: int
    n_train: list[int]
    n_test: list[int]
    least_n_test: list[int]
    n_left_out: int
    left_out: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return asdict(self)


def draw_split_sets(
    table: ImageTable, usable: np.ndarray, draw: DrawOptions
) -> list[SplitSet]:
    """Return the splits of each training size, the smallest size first.

    All sizes have the test rows of the largest, and the training rows of a smaller one
    are among those of a larger.

    Parameters
    ----------
    table : ImageTable
        With its groups, if any: `table.grouped_by(draw.group)`.
    usable : ndarray of shape (n_images,), dtype=bool
        Rows that may be drawn.
    draw : DrawOptions

    Raises
    ------
    SplitError
        If the protocol or the file of splits does not fit the images, or a class is
        tested that is not trained.
    OptionError
        If options exclude each other.

    Warns
    -----
    CnnfeatWarning
        Where the protocol cannot be met in full, or listed rows are not usable.
    """
    if draw.splits_file is not None:
        return [_from_file(draw, table, usable)]
    if draw.train_sizes and draw.train_per_class:
        raise OptionError("`train_sizes` and `train_per_class` exclude each other")
    if draw.train_sizes and draw.lists_dir:
        raise OptionError(
            "published lists have one size: `train_sizes` excludes `lists_dir`"
        )
    sizes = sorted(set(draw.train_sizes))
    largest = sizes[-1] if sizes else draw.train_per_class
    splits = protocol_splits(
        get_protocol(draw.protocol),
        table,
        replace(draw, train_per_class=largest),
        usable=usable,
    )
    # A learning curve has one test set, that of its largest size.
    smaller = [
        [
            smaller_split(table, split, size, split_seed(draw.seed, index))
            for index, split in enumerate(splits)
        ]
        for size in sizes[:-1]
    ]
    return [_checked(table, drawn, draw.seed) for drawn in (*smaller, splits)]


def _from_file(draw: DrawOptions, table: ImageTable, usable: np.ndarray) -> SplitSet:
    drawing = {
        "n_splits": draw.n_splits,
        "n_folds": draw.n_folds,
        "train_per_class": draw.train_per_class,
        "test_per_class": draw.test_per_class,
        "test_share": draw.test_share,
        "train_sizes": draw.train_sizes or None,
        "lists_dir": draw.lists_dir,
    }
    refuse_beside("splits_file", draw.splits_file, drawing, "holds the rows")
    assert draw.splits_file is not None
    splits = read_splits(draw.splits_file, table.paths)
    for split in splits:
        refuse_shared_groups(split, table, draw.splits_file)
    parts = [split.usable_part(usable) for split in splits]
    return _checked(table, parts, draw.seed, draw.splits_file)


def _checked(
    table: ImageTable,
    splits: Sequence[Split],
    seed: int,
    source: str = "split",
) -> SplitSet:
    """Refuse splits that no head can be trained or scored on; count their size."""
    labels, names = table.labels, table.class_names
    sizes = set()
    for index, split in enumerate(splits):
        where = f"{source}, split {index}"
        if not len(split.train) or not len(split.test):
            side = "training" if not len(split.train) else "test"
            raise SplitError(f"{where}: there are no {side} rows")
        trained, counts = np.unique(labels[split.train], return_counts=True)
        if len(trained) < 2:
            raise SplitError(f"{where}: the training rows are all {names[trained[0]]}")
        untrained = np.setdiff1d(labels[split.test], trained)
        if len(untrained):
            listed = ", ".join(names[label] for label in untrained[:5])
            raise SplitError(
                f"{where}: {len(untrained)} classes have test rows and no training "
                f"rows: {listed}"
            )
        sizes.update(counts.tolist())
    return SplitSet(
        sizes.pop() if len(sizes) == 1 else None,
        tuple(splits),
        tuple(split_seed(seed, index) for index in range(len(splits))),
    )


def write_splits(
    source: str,
    output_path: str,
    draw: DrawOptions | None = None,
    *,
    overwrite: bool = False,
) -> SplitsReport:
    """Draw a protocol's splits and write them as CSV: path, split, split_index.

    Parameters
    ----------
    source : str
        A feature file (`.h5`, `.hdf5`), or images as `cnnfeat extract` takes them; all
        images listed count as readable then.
    output_path : str
    draw : DrawOptions
        One training size.
    overwrite : bool, default=False

    Raises
    ------
    InputError, StoreError
        If `source` cannot be listed or opened.
    SplitError
        As `draw_split_sets`.
    OptionError
        If options exclude each other, or the output does not end in `.csv`.
    OutputError
        If the output exists already, is an input, is being written by another process
        or cannot be written.
    """
    draw = draw or DrawOptions()
    check_suffix(output_path, suffixes.TABLES)
    inputs: list[str | Path] = [source, *draw.files_read]
    with claimed_outputs([output_path], inputs, overwrite=overwrite):
        return _write_splits(source, output_path, draw, overwrite)


def _write_splits(
    source: str, output_path: str, draw: DrawOptions, overwrite: bool
) -> SplitsReport:
    table = _read_table(source, draw).grouped_by(draw.group)
    refuse_inputs([output_path], image_files(table))
    usable = usable_rows(table)
    (split_set,) = draw_split_sets(table, usable, draw)
    text = splits_to_csv(split_set.splits, table.paths)
    write_output(output_path, text.encode("utf-8"), overwrite=overwrite)
    left_out = count_left_out(table, used_rows([split_set]))
    return SplitsReport(
        output=output_path,
        protocol=draw.protocol,
        n_splits=len(split_set.splits),
        n_classes=len(classes_of([split_set], table.labels)),
        n_train=[len(split.train) for split in split_set.splits],
        n_test=[len(split.test) for split in split_set.splits],
        least_n_test=[
            int(np.unique(table.labels[split.test], return_counts=True)[1].min())
            for split in split_set.splits
        ],
        n_left_out=sum(left_out.values()),
        left_out=left_out,
    )


def _read_table(source: str, labels: LabelOptions) -> ImageTable:
    """Return the images of a feature file, or those that a source names."""
    if is_features_path(source):
        with open_features(source) as features:
            return relabel(features.table, labels)
    if labels.labels_file is None:
        return list_images(source, options=labels)
    return relabel(list_images(source), labels)


def used_rows(split_sets: Sequence[SplitSet]) -> np.ndarray:
    """Return every row that takes part, ascending, dtype=int64."""
    parts = [
        rows
        for split_set in split_sets
        for split in split_set.splits
        for rows in (split.train, split.test)
    ]
    return np.unique(np.concatenate(parts))


def classes_of(split_sets: Sequence[SplitSet], labels: np.ndarray) -> np.ndarray:
    """Return the labels that take part, ascending, dtype=int32."""
    return np.unique(np.asarray(labels)[used_rows(split_sets)])
