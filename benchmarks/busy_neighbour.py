"""What one busy process beside cnnfeat costs, with threads that spin and that do not.

    python benchmarks/busy_neighbour.py IMAGES [--n-images 200] [--rounds 3]

Extracts the same images with the eager engine and trains a softmax on them: alone and
beside processes that compute without end, with OMP_WAIT_POLICY as cnnfeat sets it
(passive) and as OpenMP has it (active). The four take turns, so that what else the
machine does meets all of them. Prints one row each: the median of the seconds.
"""

import argparse
import contextlib
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cnnfeat import list_images

BUSY = "while True: sum(range(10_000))"
POLICIES = {"passive": "PASSIVE", "active": "ACTIVE"}


@contextlib.contextmanager
def neighbours(n):
    """Keep n processes computing while the block runs."""
    started = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(n)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def run(arguments, policy):
    """Return the seconds and the JSON of one command."""
    environment = {**os.environ, "OMP_WAIT_POLICY": POLICIES[policy]}
    for name in ("OMP_NUM_THREADS", "GOMP_SPINCOUNT"):
        environment.pop(name, None)
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "cnnfeat", *arguments, "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return time.perf_counter() - started, json.loads(done.stdout)


def measure(manifest, model, weights, policy):
    """Return the seconds of the forward passes, and of training a head."""
    features, head = (str(manifest.parent / name) for name in ("f.h5", "h.h5"))
    _, extracted = run(
        [
            *("extract", str(manifest), "-o", features, "--overwrite", "--quiet"),
            *("--model", model, "--weights", weights, "--engine", "eager"),
            *("--batch-size", "32", "--workers", "0"),
        ],
        policy,
    )
    seconds, _ = run(["train-softmax", features, "-o", head, "--overwrite"], policy)
    return extracted["time"]["forward"], seconds


def write_manifest(path, table, rows):
    """List some rows of a table with their classes; return the path."""
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["path", "label"])
        for row in rows:
            name = table.class_names[table.labels[row]]
            lines.writerow([table.absolute_path(row), name])
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", help="a folder of class folders")
    parser.add_argument("--n-images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--neighbours", type=int, default=1)
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--weights", default="default")
    options = parser.parse_args()
    table = list_images(options.images)
    step = max(1, len(table) // options.n_images)
    rows = range(0, len(table), step)[: options.n_images]
    found = {}
    with tempfile.TemporaryDirectory() as name:
        manifest = write_manifest(Path(name) / "images.csv", table, rows)
        for _ in range(options.rounds):
            for n in (0, options.neighbours):
                for policy in POLICIES:
                    with neighbours(n):
                        seconds = measure(
                            manifest, options.model, options.weights, policy
                        )
                    found.setdefault((n, policy), []).append(seconds)
    print(f"{len(rows)} images, {options.model}, {len(os.sched_getaffinity(0))} cores")
    print("neighbours  threads wait  forward s  train-softmax s  median of")
    for (n, policy), seconds in found.items():
        forward, head = (
            statistics.median(times) for times in zip(*seconds, strict=True)
        )
        print(f"{n:10}  {policy:>12}  {forward:9.1f}  {head:15.1f}  {len(seconds):9}")


if __name__ == "__main__":
    main()
