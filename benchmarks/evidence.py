"""What evidence costs: neighbours, copies, likeness; as ratios to a plain product.

    python benchmarks/evidence.py [--rows 20000] [--repeats 3]

`neighbours` is the time of a matrix product of all rows with themselves, divided by
that of finding each row's 200 nearest, which includes it; beside it stands
scikit-learn's brute-force search on the same rows. `copies` is that product divided by
the search for near pairs. `cka` is the time of 20 x 20 layers of 5,000 images, in s.
Each is the median of the repeats; the least and the most stand in brackets.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

from cnnfeat.heads._nearest import nearest
from cnnfeat.similarity import likeness_matrix, near_pairs, unit_rows

WIDTH = 1280
K = 200


def seconds(work: Callable[[], object]) -> float:
    """Return how long one call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def product_in_blocks(X: torch.Tensor) -> None:
    """Multiply all rows with all rows, keeping no more than a block."""
    for block in X.split(1024):
        block @ X.T


def ratios(X: np.ndarray, n_repeats: int) -> dict[str, list[float]]:
    """Return the product's time as a part of each search's, repeat by repeat."""
    rows = torch.as_tensor(X)
    zeros, peer = torch.zeros(len(X)), NearestNeighbors(n_neighbors=K, metric="cosine")
    peer.fit(X)
    found: dict[str, list[float]] = {}
    for _ in range(n_repeats):
        product = seconds(lambda: product_in_blocks(rows))
        for name, work in (
            ("neighbours", lambda: nearest(rows, rows, zeros, K)),
            ("scikit-learn", lambda: peer.kneighbors(X)),
            ("copies", lambda: near_pairs(lambda a, b: X[a:b], len(X), threshold=0.9)),
        ):
            found.setdefault(name, []).append(product / seconds(work))
    return found


def shown(values: list[float]) -> str:
    """Return the median, the least and the most."""
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    X = unit_rows(rng.gamma(1.0, size=(asked.rows, WIDTH)))
    print(f"{asked.rows:,} x {WIDTH:,}, {torch.get_num_threads()} threads")
    for name, values in ratios(X, asked.repeats).items():
        print(f"{name}: {shown(values)} of a matrix product's speed")
    sets = [rng.normal(size=(5000, 256)) for _ in range(20)]
    times = [seconds(lambda: likeness_matrix(sets, "cka")) for _ in range(2)]
    print(f"cka, 20 x 20 layers of 5,000 images: {shown(times)} s")


if __name__ == "__main__":
    main()
