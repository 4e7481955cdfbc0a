"""How well C is chosen with few images, beside scikit-learn's 5-fold GridSearchCV.

    cnnfeat extract IMAGES -o f.h5 --model squeezenet1_1 --weights W --pool avg \\
        --layer features.3 --layer features.7 --layer features.12
    python benchmarks/choice_of_C.py f.h5 [MORE.h5 ...] [--splits 10] [--peer PEER.json]

For every layer of the files, both heads, 10 and 20 classes, 5, 10 and 15 training
images a class: the same training rows, the same test rows (at most 50 a class), rows of
unit length, the same grid 10^-3 ... 10^3. "scikit-learn" is GridSearchCV(cv=5) with
LinearSVC or LogisticRegression and its own last fit; "ours" is `fit_splits` with
`inner_positions`; "own grid" the same with the grid that grows by itself; "one sixth"
with one inner part, as before folds. Prints markdown: mean per-class accuracy in %,
mean and standard deviation over the splits.

`--peer` keeps scikit-learn's results in a file, by a digest of rows and features;
`--rules` leaves columns out.
"""

import argparse
import hashlib
import json
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.svm import LinearSVC

from cnnfeat.heads import FeatureTransform, HeadSettings, TrainingRows, fit_splits
from cnnfeat.metrics import mean_per_class_accuracy
from cnnfeat.splits import (
    draw_split,
    inner_positions,
    inner_split,
    positions_in,
    split_seed,
    usable_rows,
)
from cnnfeat.store import open_features

GRID = tuple(float(f"1e{e}") for e in range(-3, 4))
PEERS = {
    "svm": LinearSVC(),
    "softmax": LogisticRegression(max_iter=1000),
}
RULES = ("ours", "scikit-learn", "own grid", "one sixth")


@dataclass
class Row:
    """One line of the table: of each rule, accuracy, C and seconds of every split."""

    layer: str
    head: str
    n_classes: int
    per_class: int
    accuracy: dict = field(default_factory=dict)
    C: dict = field(default_factory=dict)
    seconds: dict = field(default_factory=dict)

    def add(self, rule, accuracy, C, seconds):
        for kept, value in (
            (self.accuracy, accuracy),
            (self.C, C),
            (self.seconds, seconds),
        ):
            kept.setdefault(rule, []).append(value)

    def mean(self, rule):
        return 100 * float(np.mean(self.accuracy.get(rule, np.nan)))

    @property
    def ahead(self):
        return self.mean("ours") - self.mean("scikit-learn")

    def cells(self, rules):
        yield from (self.layer, self.head, str(self.n_classes), str(self.per_class))
        for rule in rules:
            values = 100 * np.array(self.accuracy[rule])
            yield f"{values.mean():.1f} ± {values.std(ddof=len(values) > 1):.1f}"
        yield f"{self.ahead:+.1f}"
        for rule in rules:
            yield f"{np.median(self.C[rule]):g}"
        for rule in rules:
            yield f"{np.mean(self.seconds[rule]):.2f}"


def heading(rules):
    return (
        *("layer", "head", "classes", "a class", *rules, "ours − scikit-learn"),
        *(f"C, {rule}" for rule in rules),
        *(f"CPU s, {rule}" for rule in rules),
    )


class Peer:
    """scikit-learn's choice and fit, kept in a file between runs."""

    def __init__(self, path):
        self.path = Path(path) if path else None
        self.known = {}
        if self.path and self.path.exists():
            self.known = json.loads(self.path.read_text())

    def __call__(self, kind, X, y, X_test):
        digest = hashlib.sha256(kind.encode() + X.tobytes() + y.tobytes())
        digest.update(X_test.tobytes())
        key = digest.hexdigest()
        if key not in self.known:
            search = GridSearchCV(PEERS[kind], {"C": GRID}, cv=5)
            started = time.process_time()
            search.fit(X, y)
            seconds = time.process_time() - started
            predicted = search.predict(X_test).tolist()
            self.known[key] = [predicted, search.best_params_["C"], seconds]
        return self.known[key]

    def save(self):
        if self.path:
            self.path.write_text(json.dumps(self.known))


def choose(kind, X, y, folds, grid):
    """Return our fit of these training rows, and how long it took."""
    asked = HeadSettings(kind, "none", C=grid, device="cpu")
    rows = [TrainingRows(np.arange(len(X)), folds)]
    started = time.process_time()
    (fit,) = fit_splits(X, y, rows, asked)
    return fit, time.process_time() - started


def measure(row, X, table, split, peer, wanted):
    """Add one split to a row."""
    y = table.labels.astype(np.int64)
    Z, y_train = X[split.train], y[split.train]
    Z_test, y_test = X[split.test], y[split.test]
    folds = inner_positions(table, split.train)
    sixth = inner_split(table, split.train)
    once = positions_in(split.train, (sixth,))

    def scored(predicted):
        return mean_per_class_accuracy(y_test, predicted == y_test, y.max() + 1)

    rules = {
        "ours": (folds, GRID),
        "own grid": (folds, None),
        "one sixth": (once, GRID),
    }
    for rule in rules.keys() & set(wanted):
        own, grid = rules[rule]
        fit, seconds = choose(row.head, Z, y_train, own, grid)
        head = fit.to_head([str(label) for label in fit.linear.classes])
        predicted = fit.linear.classes[head.scores(Z_test).argmax(1)]
        row.add(rule, scored(predicted), fit.linear.C, seconds)
    if "scikit-learn" in wanted:
        predicted, C, seconds = peer(row.head, Z, y_train, Z_test)
        row.add("scikit-learn", scored(np.array(predicted)), C, seconds)


def first_classes(features, n):
    """Return the table without all but the first n classes, and which rows it keeps."""
    kept = np.unique(features.labels[features.labels >= 0])[:n]
    rows = np.flatnonzero(np.isin(features.labels, kept) & features.ok)
    return features.table.take(rows), rows


def rows_of(path, options, peer):
    with open_features(path) as features:
        for layer in options.layers or features.layers:
            X = features.read((layer,))
            X = FeatureTransform("l2").fit(X).transform(X)
            for n_classes in options.classes:
                table, rows = first_classes(features, n_classes)
                for per_class in options.sizes:
                    for head in options.heads:
                        row = Row(layer, head, n_classes, per_class)
                        for index in range(options.splits):
                            split = draw_split(
                                table,
                                usable=usable_rows(table),
                                train_per_class=per_class,
                                test_per_class=50,
                                seed=split_seed(0, index),
                            )
                            measure(row, X[rows], table, split, peer, options.rules)
                        peer.save()
                        yield row


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("features", nargs="+", help=".h5 of one or several layers")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--sizes", default="5,10,15", help="training images a class")
    parser.add_argument("--classes", default="10,20")
    parser.add_argument("--heads", default="svm,softmax")
    parser.add_argument("--layer", dest="layers", action="append", metavar="NAME")
    parser.add_argument("--rules", default=",".join(RULES))
    parser.add_argument("--peer", help="file that keeps scikit-learn's results")
    options = parser.parse_args()
    options.sizes = [int(n) for n in options.sizes.split(",")]
    options.classes = [int(n) for n in options.classes.split(",")]
    options.heads = options.heads.split(",")
    options.rules = options.rules.split(",")
    return options


def main():
    options = parse()
    # scikit-learn tells of fits at large C that did not converge, and of its own plans.
    warnings.simplefilter("ignore")
    peer = Peer(options.peer)
    head = heading(options.rules)
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * 2 + "--:|" * (len(head) - 2), flush=True)
    rows = []
    for path in options.features:
        for row in rows_of(path, options, peer):
            rows.append(row)
            print("| " + " | ".join(row.cells(options.rules)) + " |", flush=True)
    means = ", ".join(
        f"{rule} {np.mean([r.mean(rule) for r in rows]):.2f}" for rule in options.rules
    )
    ahead = [row.ahead for row in rows]
    print(
        f"\nMean of {len(rows)} rows, {options.splits} splits each: {means}. "
        f"Ours − scikit-learn: {min(ahead):+.2f} to {max(ahead):+.2f}; "
        f"{sum(one < -0.5 for one in ahead)} rows more than 0.5 points under."
    )


if __name__ == "__main__":
    main()
