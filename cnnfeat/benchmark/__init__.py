"""The verb that repeats a paper's experiment: layers × heads over random splits.

Joins `store`, `protocols`, `splits`, `heads`, `metrics` and `report`. `rows` draws,
`measure` fits and scores, `controls` makes the comparison with raw pixels and random
weights, `results` holds a cell, `compare` sets two side by side,
`published` the papers' numbers, `summary` is all of it, `publish` writes it down.
"""

from cnnfeat.benchmark.options import CONTROLS, HEADS, BenchmarkOptions, DrawOptions
from cnnfeat.benchmark.results import Cell, SplitResult, TableRow
from cnnfeat.benchmark.rows import SplitSet, SplitsReport, draw_split_sets, write_splits
from cnnfeat.benchmark.run import run_benchmark
from cnnfeat.benchmark.summary import BenchmarkReport

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
    "TableRow",
    "draw_split_sets",
    "run_benchmark",
    "write_splits",
]
