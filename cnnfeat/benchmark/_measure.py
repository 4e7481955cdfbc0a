"""Fitting and scoring: every head on every layer over all splits of a set.

A layer is read once where it fits the memory; the splits of a set share one Gram matrix
where that is cheaper (`cnnfeat.heads.fit_splits`). The transform, the grid of C and the
choice of C see the training rows of their own split alone, so that each split's result
is that of the split by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cnnfeat import heads
from cnnfeat.benchmark._layer_rows import (
    LayerRows,
    open_rows,
    refuse_streamed,
    row_blocks,
)
from cnnfeat.benchmark._notices import convergence_of
from cnnfeat.benchmark._options import BenchmarkOptions
from cnnfeat.benchmark._origins import Origin
from cnnfeat.benchmark._results import Cell, SplitResult, TableRow, TestedRows
from cnnfeat.benchmark._rows import SplitSet, classes_of, used_rows
from cnnfeat.image_table import ImageTable
from cnnfeat.metrics import Scores, best_two, evaluate_scores
from cnnfeat.store import FeatureFile

_MIB = 1 << 20


@dataclass(frozen=True, eq=False)
class _Layer:
    """The features of one layer; X[i] are those of row `rows[i]` of the first file.

    `labels` and `groups` are of all its rows.
    """

    name: str
    layers: tuple[str, ...]
    features: FeatureFile
    rows: np.ndarray
    labels: np.ndarray
    X: np.ndarray | LayerRows
    groups: np.ndarray | None

    @property
    def layer(self) -> str:
        """What the table calls it: joined layers as `a+b`."""
        return "+".join(self.layers)

    def positions(self, rows: np.ndarray) -> np.ndarray:
        """Return where rows of the file stand in X."""
        return np.searchsorted(self.rows, rows)

    def of(self, rows: np.ndarray) -> np.ndarray | LayerRows:
        """Return the features of rows of the file."""
        return self.X[self.positions(rows)]


def measure_layer(
    origin: Origin,
    layers: tuple[str, ...],
    table: ImageTable,
    split_sets: Sequence[SplitSet],
    options: BenchmarkOptions,
    progress: Callable[[], None],
) -> Iterator[Cell]:
    """Yield the cells of one layer: every head, every training size.

    Parameters
    ----------
    origin : Origin
    layers : tuple of str
        As for `FeatureFile.read`.
    table : ImageTable
        Labels and groups of the rows of the first file, as the splits are.
    split_sets : sequence of SplitSet
        With folds, unless one value of C is given.
    options : BenchmarkOptions
    progress : callable
        Called after each cell.

    Raises
    ------
    DataError
        If features are not finite (the image is named), or a layer over the memory
        budget would have to be in memory.
    """
    name, features, rows = origin.name, origin.features, used_rows(split_sets)
    X = open_rows(features, layers, origin.row_of[rows], memory_budget(options))
    if isinstance(X, LayerRows):
        for flag in _in_memory_alone(options):
            refuse_streamed(features, layers, len(rows), flag)
    read = _Layer(name, layers, features, rows, table.labels, X, table.groups)
    for kind in options.heads:
        for split_set in split_sets:
            row = TableRow(name, read.layer, kind, split_set.train_per_class)
            with convergence_of(row.name):
                fits = _fit(read, kind, split_set, options)
            yield _cell(read, kind, split_set, fits)
            progress()


def _in_memory_alone(options: BenchmarkOptions) -> Iterator[str]:
    """Yield the options that are not for streamed features."""
    if options.n_components:
        yield "`n_components`"
    if options.dropout:
        yield "`dropout`"
    for kind in options.heads:
        if not heads.HEAD_KINDS[kind].streams:
            yield f"`heads={kind}`"


def _fit(
    read: _Layer, kind: str, split_set: SplitSet, options: BenchmarkOptions
) -> list[heads.HeadFit]:
    """Return one fit a split; positions in X stand for rows of the file."""
    groups = read.groups
    rows = [
        heads.TrainingRows(
            read.positions(split.train),
            split_set.fold_positions(number),
            seed,
            None if groups is None else groups[split.train],
        )
        for number, (split, seed) in enumerate(
            zip(split_set.splits, split_set.seeds, strict=True)
        )
    ]
    return heads.fit_splits(
        read.X,
        read.labels[read.rows],
        rows,
        head_settings(kind, options),
        [read.features.n_features(layer) for layer in read.layers],
    )


def head_settings(kind: str, options: BenchmarkOptions) -> heads.HeadSettings:
    """Return what the options say of heads of this kind."""
    return heads.HeadSettings(
        kind=kind,
        scale=options.scale,
        signed_sqrt=options.signed_sqrt,
        power=options.power,
        n_components=options.n_components,
        C=options.C if heads.HEAD_KINDS[kind].has_C else None,
        dropout=options.dropout,
        device=options.device,
        memory_budget=memory_budget(options),
    )


def memory_budget(options: BenchmarkOptions) -> int | None:
    """Return `memory_mib` in bytes; None for no limit."""
    return None if options.memory_mib is None else options.memory_mib * _MIB


def _cell(
    read: _Layer, kind: str, split_set: SplitSet, fits: list[heads.HeadFit]
) -> Cell:
    labels = read.labels
    classes = classes_of([split_set], labels)
    results: list[SplitResult] = []
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    tested: list[TestedRows] = []
    for split, fit in zip(split_set.splits, fits, strict=True):
        y = np.searchsorted(classes, labels[split.test])
        scores = _scores(fit, read.of(split.test), classes)
        scored = evaluate_scores(scores, y, len(classes))
        said = heads.said(kind, scores)
        results.append(
            _result(fit, scored, len(split.train), split_set.seeds[len(results)])
        )
        confusion += scored.confusion
        tested.append(TestedRows(split.test, y, *best_two(said)))
    return Cell(
        read.name,
        read.layer,
        kind,
        split_set.train_per_class,
        tuple(results),
        confusion,
        tuple(tested),
    )


def _scores(
    fit: heads.HeadFit, X: np.ndarray | LayerRows, classes: np.ndarray
) -> np.ndarray:
    """Return scores (n, k) of test rows; -inf for a class that is not trained."""
    trained = fit.linear.classes
    head = fit.to_head([str(label) for label in trained])
    scores = np.full((X.shape[0], len(classes)), -np.inf)
    columns = np.searchsorted(classes, trained)
    for rows, block in row_blocks(X):
        scores[rows, columns] = head.scores(block)
    return scores


def _result(fit: heads.HeadFit, scored: Scores, n_train: int, seed: int) -> SplitResult:
    votes = fit.linear.neighbours
    counts = scored.confusion.sum(axis=1)
    return SplitResult(
        seed=seed,
        n_train=n_train,
        n_test=scored.n_images,
        n_classes=int(np.count_nonzero(counts)),
        least_n_test=int(counts[counts > 0].min()),
        C=fit.linear.C,
        C_grid=fit.grid,
        validation=fit.validation,
        mean_per_class_accuracy=scored.mean_per_class_accuracy,
        accuracy=scored.accuracy,
        top_5_accuracy=scored.top_5_accuracy,
        solver=fit.linear.side,
        n_iter=fit.linear.n_iter,
        k=votes.k if votes else None,
        temperature=votes.temperature if votes else None,
    )
