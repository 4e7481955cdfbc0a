"""LinearSVM and Softmax beside scikit-learn's, whole runs on the same rows.

    python benchmarks/heads.py FEATURES.h5 [--wide FEATURES.h5] [--rows fit,grid,wide]

Prints a markdown table: seconds of the wall clock and, in brackets, of all threads on
the processor; how many times faster ours is by the wall clock, with the range over
repeats; the same per core, which is the ratio of processor seconds (LIBLINEAR has one
thread); the relative difference of the objectives (ours over the peer's, minus 1; both
in float64, from the weights as stored); the share of *held-out* rows predicted alike;
what the peer warned of; and the peak memory that our fit added.

The peer's runs are never parts multiplied up. Each is timed whole, once, and kept in
`peer_runs.json` (see `peer_runs.py`); `--again` redoes them. Where others use the
machine, processor seconds are to be trusted, and the clock's are not. Of a feature file
30 images a class are fitted to and at most 50 others held out (`caltech101`); rows have
unit length. Without a file, features are made: class means and noise with a power-law
spectrum, rectified, rows of unit norm.
"""

import argparse
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from head_data import load_features, made_features
from peer_runs import peer_run
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from cnnfeat.heads import (
    HeadSettings,
    LinearSVM,
    Softmax,
    TrainingRows,
    fit_splits,
)
from cnnfeat.heads._selection import middle_of_best
from cnnfeat.image_table import ImageTable
from cnnfeat.metrics import mean_per_class_accuracy
from cnnfeat.splits import inner_positions

GRID = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
N_SPLITS = 5


@dataclass
class Row:
    """One line of the table; of the peer nothing where its time is not of here."""

    work: str
    wall: list[float]  # seconds of ours, one a repeat
    cpu: list[float]
    peer_wall: float = float("nan")
    peer_cpu: float = float("nan")
    target: str = "–"
    objective: float = float("nan")
    alike: float = float("nan")
    n_warnings: str = "–"
    memory: str = "–"
    note: str = ""

    def cells(self):
        return (
            self.work,
            f"{np.median(self.wall):.2f} ({np.median(self.cpu):.2f})",
            f"{self.peer_wall:.1f} ({self.peer_cpu:.1f})",
            times(self.peer_wall, self.wall),
            times(self.peer_cpu, self.cpu),
            self.target,
            f"{self.objective:+.1e}",
            f"{100 * self.alike:.2f} %",
            self.n_warnings,
            self.memory,
            self.note,
        )


def times(peer, ours):
    if np.isnan(peer):
        return "not measured"
    ratios = peer / np.array(ours)
    return f"{np.median(ratios):.1f} ({ratios.min():.1f}–{ratios.max():.1f})"


def timed(fit, repeats):
    wall, cpu = [], []
    for _ in range(repeats):
        started, used = time.perf_counter(), time.process_time()
        result = fit()
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - used)
    return wall, cpu, result


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


def svm_objective(coef, intercept, rows, C):
    """Return LIBLINEAR's objective over all classes, in float64; labels are 0 … k-1."""
    coef, intercept = np.asarray(coef, float), np.asarray(intercept, float)
    total = 0.5 * ((coef**2).sum() + (intercept**2).sum())
    for start in range(0, len(rows.X), 1024):
        scores = rows.X[start : start + 1024].astype(float) @ coef.T + intercept
        of_class = rows.y[start : start + 1024, None] == np.arange(len(coef))
        total += C * (np.maximum(0, 1 - np.where(of_class, 1, -1) * scores) ** 2).sum()
    return total


def softmax_objective(coef, intercept, rows, C):
    coef, intercept = np.asarray(coef, float), np.asarray(intercept, float)
    log_p = log_softmax(rows.X.astype(float) @ coef.T + intercept, 1)
    return 0.5 * (coef**2).sum() - C * log_p[np.arange(len(rows.y)), rows.y].sum()


def compare(work, ours, peer, rows, objective, options, target="–"):
    """One fit of ours against one whole run of the peer's, with the same C."""

    def measure(meter):
        found = meter.fit(peer, rows.X, rows.y)
        value = objective(found.coef_, found.intercept_, rows, ours.C)
        return meter.run(f"{work}, {rows}", value, found.predict(rows.held_out))

    digest = rows.digest(type(peer).__name__, sorted(peer.get_params().items()))
    told, kept = peer_run(digest, measure, **options.peer)
    wall, cpu, head = timed(lambda: ours.fit(rows.X, rows.y), options.repeats)
    return row_of(
        Row(f"{work}, {rows}", wall, cpu, target=target, note=head.solver_),
        [told],
        [kept],
        objective(head.coef_, head.intercept_, rows, ours.C) / told.objective - 1,
        (head.predict(rows.held_out) == told.predictions()).mean(),
        added_memory(lambda: ours.fit(rows.X, rows.y), rows.X),
    )


def row_of(row, told, kept, objective, alike, memory):
    """Fill in what the peer's runs say, in as far as they are of here."""
    if all(run.is_of_here for run in told):
        row.peer_wall = sum(run.wall_s for run in told)
        row.peer_cpu = sum(run.cpu_s for run in told)
    else:
        row.note += "; the peer's time is kept from another machine or version"
    row.objective, row.alike, row.memory = objective, alike, memory
    n_warnings, n_fits = (
        sum(getattr(r, f) for r in told) for f in ("n_warnings", "n_fits")
    )
    row.n_warnings = f"{n_warnings} in {n_fits} fits"
    row.note += "; peer kept" if all(kept) else "; peer timed now"
    return row


def svm_row(data, C, options, target="–"):
    ours = LinearSVM(C=C, device=options.device)
    peer = LinearSVC(C=C, random_state=0)
    return compare(
        f"SVM, C = {C:g}", ours, peer, data.rows(), svm_objective, options, target
    )


def fit_rows(data, options):
    """One fit at C = 0.1, 1, 10, and their mean."""
    rows = [svm_row(data, C, options) for C in (0.1, 1.0, 10.0)]
    mean = Row(
        "SVM, mean over the three",
        list(np.mean([row.wall for row in rows], 0)),
        list(np.mean([row.cpu for row in rows], 0)),
        np.mean([row.peer_wall for row in rows]),
        np.mean([row.peer_cpu for row in rows]),
        "12 x",
        max(row.objective for row in rows),
        min(row.alike for row in rows),
    )
    return [*rows, mean]


def softmax_rows(data, options):
    """One multinomial fit at C = 0.1 to 100."""
    return [
        compare(
            f"softmax, C = {C:g}",
            Softmax(C=C, device=options.device),
            LogisticRegression(C=C, max_iter=1000, tol=1e-5),
            data.rows(),
            softmax_objective,
            options,
            "5 x",
        )
        for C in (0.1, 1.0, 10.0, 100.0)
    ]


def peer_choice(meter, rows, folds):
    """Choose C as ours is chosen, with LinearSVC's fits; return C and the last fit."""
    scores = {}
    for C in GRID:
        right, labels = [], []
        for fold in folds:
            fitted = meter.fit(
                LinearSVC(C=C, random_state=0), rows.X[fold.train], rows.y[fold.train]
            )
            labels.append(rows.y[fold.test])
            right.append(fitted.predict(rows.X[fold.test]) == labels[-1])
        y = np.concatenate(labels)
        scores[C] = mean_per_class_accuracy(y, np.concatenate(right), y.max() + 1)
    best = middle_of_best(scores)
    return best, meter.fit(LinearSVC(C=best, random_state=0), rows.X, rows.y)


def grid_row(data, options):
    """Seven C x five splits, chosen inside the training rows, last fit included."""
    splits = []
    for split in data.splits:
        table = ImageTable.from_labels(data.y[split.train])
        folds = inner_positions(table, np.arange(len(split.train)))
        splits.append(TrainingRows(split.train, folds))
    device = "cpu" if options.device == "auto" else options.device
    settings = HeadSettings(scale="none", C=GRID, device=device)

    def fit():
        return fit_splits(data.X, data.y, splits, settings)

    wall, cpu, fits = timed(fit, options.repeats)
    told, kept, objectives, alike = [], [], [], []
    for number, (split, ours) in enumerate(zip(splits, fits, strict=True)):
        rows, linear = data.rows(number), ours.linear

        def measure(meter, rows=rows, folds=split.folds):
            C, found = peer_choice(meter, rows, folds)
            value = svm_objective(found.coef_, found.intercept_, rows, C)
            return meter.run(
                f"choice of C, {rows}", value, found.predict(rows.held_out), C
            )

        places = [part for fold in split.folds for part in (fold.train, fold.test)]
        digest = rows.digest("choice of C", GRID, *places)
        run, was_kept = peer_run(digest, measure, **options.peer)
        told.append(run)
        kept.append(was_kept)
        if run.chosen == linear.C:
            mine = svm_objective(linear.coef, linear.intercept, rows, linear.C)
            objectives.append(mine / run.objective - 1)
        scores = rows.held_out @ linear.coef.T + linear.intercept
        alike.append((scores.argmax(1) == run.predictions()).mean())
    ours_C, peer_C = [f.linear.C for f in fits], [run.chosen for run in told]
    note = f"C: ours {words(ours_C)}; peer {words(peer_C)}"
    work = f"SVM, {len(GRID)} C x {len(splits)} splits, {data.rows()}"
    row = Row(work, wall, cpu, target="45 x", note=note)
    memory = added_memory(fit, data.X[splits[0].rows])
    worst = max(objectives, default=float("nan"))
    return row_of(row, told, kept, worst, min(alike), memory)


def words(values):
    return " ".join(f"{value:g}" for value in values)


def growth_rows(options):
    """How a fit's time grows with rows, features and classes; no peer."""
    rows = []
    for n, k, d in [(10, 50, 512), (20, 50, 512), (20, 50, 2048), (10, 100, 512)]:
        made = made_features(n, k, d).rows()
        head = LinearSVM(device=options.device)
        wall, cpu, head = timed(lambda h=head, m=made: h.fit(m.X, m.y), options.repeats)
        seconds = f"{np.median(wall):.2f} s ({np.median(cpu):.2f})"
        rows.append((str(made), seconds, head.solver_))
    return rows


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("features", nargs="?", help="a feature file")
    parser.add_argument("--layer", help="of the feature file (default: the only one)")
    parser.add_argument("--wide", help="a feature file for the row of many features")
    parser.add_argument("--quick", action="store_true", help="made data, small")
    parser.add_argument("--again", action="store_true", help="redo the peer's runs")
    parser.add_argument("--repeats", type=int, help="of our fits (default 3; quick 2)")
    parser.add_argument("--threads", type=int, help="of torch (default: all cores)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    parser.add_argument("--rows", default="fit,grid,softmax,wide,large,growth")
    options = parser.parse_args()
    options.repeats = options.repeats or (2 if options.quick else 3)
    options.rows = options.rows.split(",")
    options.peer = {"again": options.again, "keep": not options.quick}
    return options


def narrow_features(options):
    if options.features:
        return load_features(options.features, options.layer, N_SPLITS)
    return made_features(*((12, 40, 256) if options.quick else (30, 101, 1280)))


def measure(options):
    """Yield the rows of the table as they are measured."""
    if {"fit", "grid", "softmax"} & set(options.rows):
        data = narrow_features(options)
        if "fit" in options.rows:
            yield from fit_rows(data, options)
        if "softmax" in options.rows:
            yield from softmax_rows(data, options)
        if "grid" in options.rows:
            yield grid_row(data, options)
    if "wide" in options.rows:
        if options.wide:
            data = load_features(options.wide, None, 1)
        else:
            data = made_features(30, 101, 8_652 if options.quick else 86_528)
        yield svm_row(data, 1.0, options)
        del data
    if "large" in options.rows:
        large = (10, 200, 1024) if options.quick else (50, 397, 4096)
        yield svm_row(made_features(*large), 1.0, options)


def print_table(head, rows):
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


def main():
    options = parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    kind = options.features or "made"
    print(
        f"Features: {kind}; torch threads: {torch.get_num_threads()}; device: ", end=""
    )
    print(f"{options.device}; our fits repeated {options.repeats} times.\n")
    names = (
        "work|ours, s (CPU)|scikit-learn, s (CPU)|times faster (range)|per core|target"
        "|objective|alike, held out|its warnings|added|note"
    )
    # Warm up thread pools and the first allocation outside the measurements.
    warm = made_features(6, 5, 20).rows()
    LinearSVM(device=options.device).fit(warm.X, warm.y)
    print_table(names.split("|"), (row.cells() for row in measure(options)))
    if "growth" in options.rows:
        print()
        print_table(["growth", "time (CPU)", "side"], growth_rows(options))


if __name__ == "__main__":
    main()
