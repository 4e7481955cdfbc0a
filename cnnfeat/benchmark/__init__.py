"""The verb that repeats a paper's experiment: layers × heads over random splits.

Joins `store`, `protocols`, `splits`, `heads`, `metrics` and `report`. `rows` draws,
`measure` fits and scores, `controls` makes the comparison with raw pixels and random
weights, `results` holds the numbers, `publish` writes them down.
"""

from cnnfeat.benchmark.options import CONTROLS, HEADS, BenchmarkOptions, DrawOptions
from cnnfeat.benchmark.results import BenchmarkReport, Cell, SplitResult
from cnnfeat.benchmark.rows import SplitSet, SplitsReport, draw_split_sets, write_splits
from cnnfeat.benchmark.run import run_benchmark

__all__ = [
    "CONTROLS",
    "HEADS",
    "BenchmarkOptions",
    "BenchmarkReport",
    "Cell",
    "DrawOptions",
    "SplitResult",
    "SplitSet",
    "SplitsReport",
    "draw_split_sets",
    "run_benchmark",
    "write_splits",
]
