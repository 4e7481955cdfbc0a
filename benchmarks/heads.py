"""LinearSVM and Softmax beside scikit-learn's, in one run, on the same data.

    python benchmarks/heads.py [FEATURES.npz|FEATURES.h5] [--quick] [--rows fit,grid]

Prints a markdown table of wall-time ratios with their range over repeats, the relative
difference of the objectives (ours over the peer's, minus 1; float64), the share of
training rows predicted alike, and the peak memory that our fit added. Without a file,
features are made: class means and noise with a power-law spectrum, rectified, rows of
unit norm. Where the peer would take too long it is timed on a few classes, one against
the rest, and multiplied up; the table says so.
"""

import argparse
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from cnnfeat.heads import (
    FeatureTransform,
    HeadSettings,
    LinearSVM,
    Softmax,
    TrainingRows,
    fit_splits,
)
from cnnfeat.image_table import ImageTable
from cnnfeat.splits import inner_positions

GRID = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
PEER_CLASSES = 3  # of a row that is multiplied up
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
clock = CLOCKS["wall"]


@dataclass
class Row:
    work: str
    ours: list[float]  # seconds, one a repeat
    peer: list[float]
    target: str = "–"
    objective: float = float("nan")
    agreement: float = float("nan")
    memory: str = "–"
    note: str = ""

    def cells(self):
        ratios = np.array(self.peer)[:, None] / np.array(self.ours)
        return (
            self.work,
            f"{np.median(self.ours):.2f} s",
            f"{np.median(self.peer):.1f} s",
            f"{np.median(ratios):.1f} ({ratios.min():.1f}–{ratios.max():.1f})",
            self.target,
            f"{self.objective:+.1e}",
            f"{100 * self.agreement:.2f} %",
            self.memory,
            self.note,
        )


def made_features(n_per_class, n_classes, d, seed=0):
    """Return float32 rows of unit norm and labels; spectrum i^-1, as deep features."""
    rng = np.random.default_rng(seed)
    spectrum = np.arange(1, d + 1, dtype=np.float32) ** -0.5
    y = np.repeat(np.arange(n_classes), n_per_class)
    means = rng.standard_normal((n_classes, d), np.float32)
    X = rng.standard_normal((len(y), d), np.float32)
    X += means[y]
    X *= spectrum
    X += 0.5 * spectrum.mean()
    np.maximum(X, 0, out=X)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return X, y


def load_features(path, layer):
    if path.endswith(".npz"):
        data = np.load(path)
        return data["X"], data["y"]
    import h5py

    with h5py.File(path) as file:
        layer = layer or next(iter(file["features"]))
        ok, y = file["images/ok"][:], file["images/label"][:]
        X = file["features"][layer][:]
    keep = ok & (y >= 0)
    return X.reshape(len(X), -1)[keep].astype(np.float32), y[keep]


def timed(fit, repeats):
    seconds = []
    for _ in range(repeats):
        start = clock()
        result = fit()
        seconds.append(clock() - start)
    return seconds, result


def _status_mib(field):
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) / 1024
    return float("nan")


def added_memory(fit, X):
    """Return what `fit` added at its peak, beside the features and a Gram matrix."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before = _status_mib("VmRSS")
    fit()
    added = _status_mib("VmHWM") - before
    gram = len(X) ** 2 * 4 / 2**20
    return f"{added:.0f} MiB (X {X.nbytes / 2**20:.0f}, Gram {gram:.0f})"


def svm_objective(head, X, y, C):
    total = 0.5 * (head.coef_.astype(float) ** 2).sum()
    total += 0.5 * (head.intercept_.astype(float) ** 2).sum()
    for start in range(0, len(X), 1024):
        scores = X[start : start + 1024].astype(float) @ head.coef_.T + head.intercept_
        signs = np.where(y[start : start + 1024, None] == head.classes_, 1, -1)
        total += C * (np.maximum(0, 1 - signs * scores) ** 2).sum()
    return total


def softmax_objective(head, X, y, C):
    log_p = log_softmax(X.astype(float) @ head.coef_.T + head.intercept_, 1)
    index = np.searchsorted(head.classes_, y)
    return 0.5 * (head.coef_**2).sum() - C * log_p[np.arange(len(y)), index].sum()


def compare(work, ours, peer, X, y, objective, options, target="–"):
    seconds, head = timed(lambda: ours.fit(X, y), options.repeats)
    peer_seconds, peer_head = timed(lambda: peer.fit(X, y), 1)
    return Row(
        work,
        seconds,
        peer_seconds,
        target,
        objective(head, X, y, ours.C) / objective(peer_head, X, y, ours.C) - 1,
        (head.predict(X) == peer_head.predict(X)).mean(),
        added_memory(lambda: ours.fit(X, y), X),
        head.solver_,
    )


def shape_name(X, y):
    return f"{len(X):,} x {X.shape[1]:,}, {len(np.unique(y))} classes"


def fit_rows(X, y, options):
    """One fit at C = 0.1, 1, 10, and their mean."""
    rows = [
        compare(
            f"SVM, C = {C:g}, {shape_name(X, y)}",
            LinearSVM(C=C, device=options.device),
            LinearSVC(C=C),
            X,
            y,
            svm_objective,
            options,
        )
        for C in (0.1, 1.0, 10.0)
    ]
    mean = Row(
        "SVM, mean over the three",
        list(np.mean([row.ours for row in rows], 0)),
        list(np.mean([row.peer for row in rows], 0)),
        "10 x",
        max(row.objective for row in rows),
        min(row.agreement for row in rows),
    )
    return [*rows, mean]


def softmax_rows(X, y, options):
    """One multinomial fit at C = 1 and 10."""
    return [
        compare(
            f"softmax, C = {C:g}, {shape_name(X, y)}",
            Softmax(C=C, device=options.device),
            LogisticRegression(C=C, max_iter=1000, tol=1e-5),
            X,
            y,
            softmax_objective,
            options,
        )
        for C in (1.0, 10.0)
    ]


def device_of(options):
    """Return where arrays are fitted: an estimator's "auto" leaves them on the CPU."""
    return "cpu" if options.device == "auto" else options.device


def training_rows(rows, y):
    table = ImageTable.from_labels(y[rows])
    return TrainingRows(rows, inner_positions(table, np.arange(len(rows))))


def grid_rows(X, y, options):
    """Seven C x five splits, selection inside the training rows, last fit included."""
    n_splits, timed_splits = 5, 1
    rng = np.random.default_rng(0)
    size = int(0.9 * np.bincount(np.unique(y, return_inverse=True)[1]).min())
    splits = [
        training_rows(
            np.concatenate(
                [rng.permutation(np.flatnonzero(y == k))[:size] for k in set(y)]
            ),
            y,
        )
        for _ in range(n_splits)
    ]
    settings = HeadSettings(scale="none", C=GRID, device=device_of(options))
    seconds, fits = timed(lambda: fit_splits(X, y, splits, settings), options.repeats)
    start = clock()
    for split, fit in zip(splits[:timed_splits], fits, strict=False):
        rows = split.rows
        for fold in split.folds:
            inner = rows[fold.train]
            for C in GRID:
                LinearSVC(C=C).fit(X[inner], y[inner])
        peer = LinearSVC(C=fit.choice.C).fit(X[rows], y[rows])
    peer_seconds = (clock() - start) * n_splits / timed_splits
    fitted = fits[timed_splits - 1].linear
    best, ours = fitted.C, LinearSVM(C=fitted.C)
    ours.classes_, ours.coef_ = fitted.classes, fitted.coef
    ours.intercept_, ours.n_features_in_ = fitted.intercept, X.shape[1]
    Z, labels = X[splits[timed_splits - 1].rows], y[splits[timed_splits - 1].rows]
    return [
        Row(
            f"SVM, 7 C x 5 splits, {len(Z):,} x {X.shape[1]:,}",
            seconds,
            [peer_seconds],
            "40 x",
            svm_objective(ours, Z, labels, best) / svm_objective(peer, Z, labels, best)
            - 1,
            (ours.predict(Z) == peer.predict(Z)).mean(),
            note=f"peer: {timed_splits} split timed, x {n_splits // timed_splits}",
        )
    ]


def part_row(X, y, C, options, target):
    """One fit of all classes against a few of the peer's, multiplied up."""
    ours = LinearSVM(C=C, device=options.device)
    seconds, head = timed(lambda: ours.fit(X, y), 1 if options.quick else 2)
    names = np.unique(y)
    picked = np.linspace(0, len(names) - 1, PEER_CLASSES).astype(int)
    start = clock()
    peers = [LinearSVC(C=C).fit(X, y == names[k]) for k in picked]
    peer_seconds = (clock() - start) * len(names) / len(picked)
    worst, alike = -np.inf, []
    for k, peer in zip(picked, peers, strict=True):
        one = LinearSVM(C=C)
        one.classes_, one.coef_ = np.array([names[k]]), head.coef_[k : k + 1]
        one.intercept_ = head.intercept_[k : k + 1]
        best = svm_objective_of_one(peer, X, y == names[k], C)
        worst = max(worst, svm_objective_of_one(one, X, y == names[k], C) / best - 1)
        scores = X @ head.coef_[k] + head.intercept_[k]
        alike.append(((scores > 0) == peer.predict(X)).mean())
    return Row(
        f"SVM, C = {C:g}, {shape_name(X, y)}",
        seconds,
        [peer_seconds],
        target,
        worst,
        min(alike),
        added_memory(lambda: ours.fit(X, y), X),
        f"{head.solver_}; peer: {len(picked)} of {len(names)} classes, multiplied up",
    )


def svm_objective_of_one(head, X, y, C):
    scores = X @ head.coef_[0].astype(X.dtype) + float(head.intercept_[0])
    loss = (np.maximum(0, 1 - np.where(y, 1, -1) * scores.astype(float)) ** 2).sum()
    norms = (head.coef_.astype(float) ** 2).sum() + float(head.intercept_[0]) ** 2
    return 0.5 * norms + C * loss


def growth_rows(options):
    """How a fit's time grows with rows, features and classes; no peer."""
    rows = []
    for n, k, d in [(10, 50, 512), (20, 50, 512), (20, 50, 2048), (10, 100, 512)]:
        X, y = made_features(n, k, d)
        head = LinearSVM(device=options.device)
        seconds, head = timed(lambda h=head, X=X, y=y: h.fit(X, y), options.repeats)
        rows.append((shape_name(X, y), f"{np.median(seconds):.2f} s", head.solver_))
    return rows


def wide_features(options):
    if options.wide:
        return load_features(options.wide, None)
    return made_features(30, 101, 8_652 if options.quick else 86_528)


def large_features(options):
    if options.quick:
        return made_features(10, 200, 1024)
    return made_features(50, 397, 4096)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("features", nargs="?", help=".npz with X and y, or .h5")
    parser.add_argument("--layer", help="layer of the .h5 (default: the first)")
    parser.add_argument("--wide", help=".npz or .h5 for the row of many features")
    parser.add_argument("--quick", action="store_true", help="smaller, under a minute")
    parser.add_argument("--repeats", type=int, help="of our fits (default 3; quick 2)")
    parser.add_argument("--threads", type=int, help="of torch (default: all cores)")
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="cpu: processor seconds of all threads, for a machine that others use; "
        "take it with --threads 1",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    parser.add_argument("--rows", default="fit,grid,wide,large,softmax,growth")
    options = parser.parse_args()
    options.repeats = options.repeats or (2 if options.quick else 3)
    options.rows = options.rows.split(",")
    return options


def measure(options):
    """Yield the rows of the table as they are measured."""
    if {"fit", "grid", "softmax"} & set(options.rows):
        if options.features:
            X, y = load_features(options.features, options.layer)
            X = FeatureTransform("l2").fit(X).transform(X)
        else:
            X, y = made_features(*((12, 40, 256) if options.quick else (30, 101, 1280)))
        for name, rows_of in (
            ("fit", fit_rows),
            ("softmax", softmax_rows),
            ("grid", grid_rows),
        ):
            if name in options.rows:
                yield from rows_of(X, y, options)
    if "wide" in options.rows:
        X, y = wide_features(options)
        X = FeatureTransform("l2").fit(X).transform(X)
        yield part_row(X, y, 1.0, options, "50 x")
        del X
    if "large" in options.rows:
        yield part_row(*large_features(options), 1.0, options, "20 x")


def print_table(head, rows):
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


def main():
    global clock
    options = parse()
    clock = CLOCKS[options.clock]
    warnings.simplefilter("ignore")  # the peer warns that it did not converge
    if options.threads:
        torch.set_num_threads(options.threads)
    kind = options.features or "made"
    print(f"Features: {kind}; torch threads: {torch.get_num_threads()}; ", end="")
    print(
        f"{options.clock} clock; device: {options.device}; "
        f"our fits repeated {options.repeats} times.\n"
    )
    made_head = "work|ours|scikit-learn|ratio (range)|target|objective|alike|added|note"
    # Warm up thread pools and the first allocation outside the measurements.
    LinearSVM(device=options.device).fit(*made_features(6, 5, 20))
    print_table(made_head.split("|"), (row.cells() for row in measure(options)))
    if "growth" in options.rows:
        print()
        print_table(["growth", "time", "side"], growth_rows(options))


if __name__ == "__main__":
    main()
