"""Fitting and scoring: every head on every layer over all splits of a set.

A layer is read once; the splits of a set share one Gram matrix where that is cheaper
(`cnnfeat.heads.fit_splits`). C is chosen inside the training rows of each split.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cnnfeat.benchmark.options import BenchmarkOptions
from cnnfeat.benchmark.results import Cell, SplitResult
from cnnfeat.benchmark.rows import SplitSet, classes_of, used_rows
from cnnfeat.metrics import Scores, evaluate_scores
from cnnfeat.splits import Split, inner_positions

if TYPE_CHECKING:
    from cnnfeat.heads import FeatureTransform, LinearHead, SplitFit
    from cnnfeat.store import FeatureFile

_MIB = 1 << 20


def measure_layer(
    name: str,
    layer: str,
    features: "FeatureFile",
    split_sets: Sequence[SplitSet],
    options: BenchmarkOptions,
    held_out: float,
    progress: Callable[[], None],
) -> Iterator[Cell]:
    """Yield the cells of one layer: every head, every training size.

    Parameters
    ----------
    name : str
        What the features are called in the table.
    layer : str
        As for `FeatureFile.resolve`.
    features : FeatureFile
    split_sets : sequence of SplitSet
    options : BenchmarkOptions
    held_out : float
        Fraction of each class's training rows that C is chosen on.
    progress : callable
        Called after each cell.
    """
    rows = used_rows(split_sets)
    X = features.read(layer, rows)
    features.refuse_non_finite(X, rows)
    widths = [features.layers[part].n_features for part in features.resolve(layer)]
    for kind in options.heads:
        for split_set in split_sets:
            fits = _fit(kind, X, rows, widths, features, split_set, options, held_out)
            yield _cell(name, layer, kind, X, rows, features, split_set, fits)
            progress()


def _fit(
    kind: str,
    X: np.ndarray,
    rows: np.ndarray,
    widths: list[int],
    features: "FeatureFile",
    split_set: SplitSet,
    options: BenchmarkOptions,
    held_out: float,
) -> "list[SplitFit]":
    """Return one fit a split; positions in `rows` stand for rows of the file."""
    from cnnfeat.heads import FeatureTransform, default_grid, fit_splits

    transform = FeatureTransform(
        options.scale,
        signed_sqrt=options.signed_sqrt,
        n_components=options.n_components,
        part_widths=widths,
    )
    trains = [np.searchsorted(rows, split.train) for split in split_set.splits]
    # One grid for all splits, so that their curves can be averaged.
    grid = options.C or default_grid(_transformed(transform, X[trains[0]]))
    return fit_splits(
        _make_head(kind, options),
        X,
        features.labels[rows],
        trains,
        grid,
        transform=transform,
        inner=_inner_rows(features, split_set, options, held_out) if grid[1:] else None,
    )


def _inner_rows(
    features: "FeatureFile",
    split_set: SplitSet,
    options: BenchmarkOptions,
    held_out: float,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return, for each split, positions in its training rows that C is chosen with."""
    return [
        inner_positions(
            split,
            features.labels,
            features.paths,
            features.class_names,
            held_out=held_out,
            seed=options.draw.seed + index,
        )
        for index, split in enumerate(split_set.splits)
    ]


def _transformed(transform: "FeatureTransform", X: np.ndarray) -> np.ndarray:
    result: np.ndarray = transform.fit(X).transform(X)
    return result


def _make_head(kind: str, options: BenchmarkOptions) -> "LinearHead":
    from cnnfeat.heads import LinearSVM, Softmax
    from cnnfeat.networks import resolve_device

    make = {"svm": LinearSVM, "softmax": Softmax}[kind]
    budget = options.memory_mib
    head: LinearHead = make(
        dropout=options.dropout,
        random_state=options.draw.seed,
        device=str(resolve_device(options.device)),
        memory_budget=None if budget is None else budget * _MIB,
    )
    return head


def _cell(
    name: str,
    layer: str,
    kind: str,
    X: np.ndarray,
    rows: np.ndarray,
    features: "FeatureFile",
    split_set: SplitSet,
    fits: "list[SplitFit]",
) -> Cell:
    classes = classes_of([split_set], features.labels)
    results, confusion = [], np.zeros((len(classes), len(classes)), np.int64)
    mistakes: tuple[tuple[int, int, int], ...] = ()
    for split, fit in zip(split_set.splits, fits, strict=True):
        y = np.searchsorted(classes, features.labels[split.test])
        scored = _score(fit, X[np.searchsorted(rows, split.test)], y, classes)
        results.append(_result(split, fit, scored))
        confusion += scored.confusion
        if not mistakes:
            wrong = np.flatnonzero(scored.predicted != y)
            triples = zip(
                split.test[wrong], y[wrong], scored.predicted[wrong], strict=True
            )
            mistakes = tuple((int(r), int(t), int(p)) for r, t, p in triples)
    return Cell(
        name,
        layer,
        kind,
        split_set.train_per_class,
        tuple(results),
        confusion,
        mistakes,
    )


def _score(
    fit: "SplitFit", X: np.ndarray, y: np.ndarray, classes: np.ndarray
) -> Scores:
    """Score test rows; a class that a split does not train never wins."""
    from cnnfeat.heads import weights_per_class

    assert fit.transform is not None
    coef, intercept = weights_per_class(fit.head)
    scores = np.full((len(X), len(classes)), -np.inf)
    columns = np.searchsorted(classes, fit.head.classes_)
    scores[:, columns] = fit.transform.transform(X) @ coef.T + intercept
    return evaluate_scores(scores, y, len(classes))


def _result(split: Split, fit: "SplitFit", scored: Scores) -> SplitResult:
    choice = fit.choice
    pairs = zip(choice.grid, choice.scores, strict=True) if choice else ()
    return SplitResult(
        n_train=len(split.train),
        n_test=len(split.test),
        C=float(fit.head.C),
        mean_per_class_accuracy=scored.mean_per_class_accuracy,
        accuracy=scored.accuracy,
        top_5_accuracy=scored.top_5_accuracy,
        validation=dict(pairs),
        solver=fit.head.solver_,
    )
