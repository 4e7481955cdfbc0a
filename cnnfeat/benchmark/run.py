"""Running a benchmark from a feature file to its report."""

import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from cnnfeat.benchmark.controls import control_features, control_layers, control_name
from cnnfeat.benchmark.measure import measure_layer
from cnnfeat.benchmark.options import BenchmarkOptions
from cnnfeat.benchmark.publish import check_report_dir, publish
from cnnfeat.benchmark.results import BenchmarkReport, Cell
from cnnfeat.benchmark.rows import SplitSet, classes_of, draw_split_sets
from cnnfeat.errors import CnnfeatWarning
from cnnfeat.protocols import get_protocol
from cnnfeat.splits import usable_rows
from cnnfeat.store import open_features

if TYPE_CHECKING:
    from cnnfeat.store import FeatureFile

Progress = Callable[[int, int, int], None]


def run_benchmark(
    features_path: str,
    options: BenchmarkOptions | None = None,
    *,
    progress: Progress | None = None,
) -> BenchmarkReport:
    """Measure every layer and head of a feature file over a protocol's splits.

    Parameters
    ----------
    features_path : str
        A feature file.
    options : BenchmarkOptions, optional
        Protocol, layers, heads, controls, and where the report goes.
    progress : callable (n_done, n_all, n_failed), optional
        Called after each cell, and while a control is extracted.

    Returns
    -------
    BenchmarkReport

    Raises
    ------
    StoreError, LayerError, SplitError, DataError, InputError, ProvenanceError
        As their names say.
    OutputError
        If the report's files exist already and are not to be replaced.

    Warns
    -----
    CnnfeatWarning
        Where the protocol cannot be met in full.
    """
    options = options or BenchmarkOptions()
    protocol = get_protocol(options.draw.protocol)
    if options.report_dir is not None:
        check_report_dir(options.report_dir, overwrite=options.overwrite)
    with ExitStack() as stack:
        features = stack.enter_context(open_features(features_path))
        split_sets, told = _draw(features, options)
        sources = [(_network_name(features), features, _layers(features, options))]
        for control in options.controls:
            opened = control_features(features, control, progress)
            layers = control_layers(opened, control, sources[0][2])
            sources.append((control_name(control), stack.enter_context(opened), layers))
        cells = _measure(
            sources, split_sets, options, protocol.inner_held_out, progress
        )
        told += _edges(cells)
        used = classes_of(split_sets, features.labels)
        report = BenchmarkReport(
            protocol=protocol,
            cells=tuple(cells),
            class_names=tuple(features.class_names[label] for label in used),
            n_left_out=int((~features.ok).sum()),
            provenance={"features": str(features.path), **features.provenance},
            warnings=tuple(told),
        )
        return publish(report, features, split_sets, options)


def _draw(
    features: "FeatureFile", options: BenchmarkOptions
) -> tuple[list[SplitSet], list[str]]:
    """Return the splits and what was warned of; the warnings go on to the caller."""
    usable = usable_rows(features.labels, features.ok, features.class_names)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        split_sets = draw_split_sets(features, usable, options.draw)
    told = [str(one.message) for one in caught if one.category is CnnfeatWarning]
    for message in told:
        warnings.warn(message, CnnfeatWarning, stacklevel=3)
    return split_sets, told


def _edges(cells: Sequence[Cell]) -> list[str]:
    """Warn where the largest C that was tried was the best; return what was said."""
    n_fits = sum(len(cell.splits) for cell in cells)
    at_edge = [
        cell.name
        for cell in cells
        for split in cell.splits
        if split.validation and max(split.validation) == split.C
    ]
    if not at_edge:
        return []
    message = (
        f"the largest C that was tried was the best in {len(at_edge)} of {n_fits} fits "
        f"(first: {at_edge[0]}): try larger ones with --C"
    )
    warnings.warn(message, CnnfeatWarning, stacklevel=3)
    return [message]


def _network_name(features: "FeatureFile") -> str:
    return features.provenance["model"]


def _layers(features: "FeatureFile", options: BenchmarkOptions) -> tuple[str, ...]:
    """Return the layers asked for, checked; all of the file's by default."""
    if not options.layers:
        return tuple(features.layers)
    return tuple("+".join(features.resolve(layer)) for layer in options.layers)


def _measure(
    sources: Sequence[tuple[str, "FeatureFile", tuple[str, ...]]],
    split_sets: Sequence[SplitSet],
    options: BenchmarkOptions,
    held_out: float,
    progress: Progress | None,
) -> list[Cell]:
    per_layer = len(options.heads) * len(split_sets)
    n_all = sum(len(layers) for _, _, layers in sources) * per_layer
    cells: list[Cell] = []

    def tell() -> None:
        if progress:
            progress(len(cells) + 1, n_all, 0)

    for name, features, layers in sources:
        for layer in layers:
            for cell in measure_layer(
                name, layer, features, split_sets, options, held_out, tell
            ):
                cells.append(cell)
    return cells
