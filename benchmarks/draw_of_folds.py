"""What the draw of the folds does to the choice of C, by how often it is repeated.

    python benchmarks/draw_of_folds.py f.h5 [MORE.h5 ...] [--divisions 30] [--splits 3]

For the layers, heads, classes and sizes of `choice_of_C.py`, and training rows alone:
each split's rows are divided into five folds many times, and C is chosen by some of
these divisions, drawn 200 times. Prints, for 1, 2 … of them, the standard deviation of
the chosen C in decades, and what the choice loses: the accuracy on the held-out rows of
all divisions at the chosen C, below that at the best one, in points.
"""

import argparse
import warnings

import numpy as np
from choice_of_C import GRID, first_classes

from cnnfeat.heads import FeatureTransform, HeadSettings, TrainingProblem
from cnnfeat.heads._selection import FoldedProblem, _right, middle_of_best
from cnnfeat.splits import Split, draw_split, positions_in, split_seed, usable_rows
from cnnfeat.splits._inner import N_FOLDS, _held_of_classes
from cnnfeat.store import open_features

REPEATS = (1, 2, 3, 4, 5, 8, 10)
DRAWS = 200


def divide(table, rows, n):
    """Return the folds of n divisions as positions among the rows."""
    folds = []
    for repeat in range(n):
        held = _held_of_classes(table, rows, f"folds {repeat} of 0")
        parts = (Split(np.setdiff1d(rows, test), test) for test in held if len(test))
        folds += positions_in(rows, tuple(parts))
    return folds


def score_all(kind, Z, y, folds, n):
    """Return the accuracy on held-out rows (n_grid, n) by C and division."""
    formulation = HeadSettings(kind, "none", device="cpu").estimator().formulation()
    problem = TrainingProblem.of(Z, y, formulation)
    problem.share_gram()
    right = np.zeros((len(GRID), n, len(y)))
    starts = {}
    for at, C in enumerate(GRID):
        batches = FoldedProblem(problem, tuple(folds)).batches()
        number = 0
        for k, batch in enumerate(batches):
            found = problem.fit_folds(C, batch, start=starts.get(k), tol=1e-4)
            starts[k] = found.weights
            for fold, ok in zip(batch, _right(problem, batch, found), strict=True):
                right[at, number // N_FOLDS, fold.test] = ok
                number += 1
    return right.mean(2)  # classes are of equal size


def spread(scores, rng):
    """Return standard deviation in decades and loss in points, for each number."""
    n, best = scores.shape[1], scores.mean(1)
    for repeats in REPEATS:
        chosen = []
        for _ in range(DRAWS):
            mean = scores[:, rng.choice(n, repeats, replace=False)].mean(1)
            C = middle_of_best(dict(zip(GRID, mean.round(10), strict=True)))
            chosen.append(GRID.index(C))
        yield np.std(chosen), 100 * (best.max() - best[chosen].mean())


def rows_of(features, layer, options, rng):
    X = features.read((layer,))
    X = FeatureTransform("l2").fit(X).transform(X)
    for n_classes in (10, 20):
        table, rows = first_classes(features, n_classes)
        for per_class in (5, 10, 15):
            for kind in ("svm", "softmax"):
                found = []
                for index in range(options.splits):
                    train = draw_split(
                        table,
                        usable=usable_rows(table),
                        train_per_class=per_class,
                        test_per_class=50,
                        seed=split_seed(7, index),
                    ).train
                    y = table.labels[train].astype(np.int64)
                    folds = divide(table, train, options.divisions)
                    Z, n = X[rows][train], options.divisions
                    found.append([*spread(score_all(kind, Z, y, folds, n), rng)])
                yield (layer, kind, n_classes, per_class), np.mean(found, axis=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("features", nargs="+")
    parser.add_argument("--divisions", type=int, default=30)
    parser.add_argument("--splits", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    print("| layer | head | classes | a class |", " | ".join(map(str, REPEATS)), "|")
    print("|---|---|" + "--:|" * (2 + len(REPEATS)), flush=True)
    for path in options.features:
        with open_features(path) as features:
            for layer in features.layers:
                for row, found in rows_of(features, layer, options, rng):
                    cells = [f"{sd:.2f} ({loss:.2f})" for sd, loss in found]
                    print("|", " | ".join(map(str, (*row, *cells))), "|", flush=True)


if __name__ == "__main__":
    main()
