"""Running a benchmark from a feature file to its report."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np

from cnnfeat import heads, networks
from cnnfeat._version import __version__
from cnnfeat.benchmark._baselines import (
    baseline_features,
    baseline_layers,
    baseline_name,
)
from cnnfeat.benchmark._compare import find_pairs
from cnnfeat.benchmark._measure import head_settings, measure_layer
from cnnfeat.benchmark._notices import keep_warnings
from cnnfeat.benchmark._options import BenchmarkOptions
from cnnfeat.benchmark._publish import claimed_report_dir, publish
from cnnfeat.benchmark._results import Cell, TableRow
from cnnfeat.benchmark._rows import (
    SplitSet,
    classes_of,
    draw_split_sets,
    used_rows,
)
from cnnfeat.benchmark._summary import BenchmarkReport
from cnnfeat.errors import CnnfeatWarning
from cnnfeat.image_table import ImageTable
from cnnfeat.protocols import get_protocol
from cnnfeat.splits import count_left_out, usable_rows
from cnnfeat.store import FeatureFile, open_features

Progress = Callable[[int, int, int], None]


@dataclass(frozen=True, eq=False)
class _Origin:
    """An open feature file, what the table calls it, and the layers to measure.

    Each of `layers` names one dataset, or several that are joined.
    """

    name: str
    features: FeatureFile
    layers: tuple[tuple[str, ...], ...]


def run_benchmark(
    features_path: str,
    options: BenchmarkOptions | None = None,
    *,
    progress: Progress | None = None,
    command: str = "",
) -> BenchmarkReport:
    """Measure every layer and head of a feature file over a protocol's splits.

    Parameters
    ----------
    features_path : str
        A feature file.
    options : BenchmarkOptions, optional
        Protocol, layers, heads, baselines, and where the report goes.
    progress : callable (n_done, n_all, n_failed), optional
        Called after each cell, and while a baseline is extracted.
    command : str
        The command line, kept in the report.

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
        Where the protocol cannot be met in full, images of a baseline cannot be read, a
        head did not converge, or the largest C was the best. The report keeps them.
    """
    options = options or BenchmarkOptions()
    get_protocol(options.draw.protocol)
    with ExitStack() as stack:
        features = stack.enter_context(open_features(features_path))
        stack.enter_context(claimed_report_dir(features, options))
        told: list[str] = []
        if options.baselines:  # extracting them takes long: refuse first what is wrong
            _check(features, options)
        with keep_warnings(told):
            origins = _open_origins(features, options, stack, progress)
        with keep_warnings(told):
            ok = np.logical_and.reduce([one.features.ok for one in origins])
            split_sets = _draw(features, ok, options)
        pairs = find_pairs(options.compare, _rows(origins, split_sets, options))
        with keep_warnings(told):
            _warn_of_images_seen(features, split_sets)
            cells = _measure(origins, split_sets, options, progress)
            heads.warn_of_edges(
                [
                    (cell.name, one.C, one.C_grid)
                    for cell in cells
                    for one in cell.splits
                ]
            )
        used = classes_of(split_sets, features.labels)
        report = BenchmarkReport(
            protocol=get_protocol(options.draw.protocol),
            cells=tuple(cells),
            split_sets=tuple(split_sets),
            class_names=tuple(features.class_names[label] for label in used),
            left_out=_left_out(features.table, ok, split_sets),
            sources={one.name: str(one.features.path) for one in origins},
            settings=_settings(options),
            provenance={"features": str(features.path), **features.provenance},
            asked=tuple(pairs),
            warnings=tuple(told),
            made=_made(command),
        )
        return publish(report, features, options)


def _open_origins(
    features: FeatureFile,
    options: BenchmarkOptions,
    stack: ExitStack,
    progress: Progress | None,
) -> list[_Origin]:
    """Return the feature file and its baselines, which may have to be extracted."""
    layers = _layers(features, options)
    origins = [_Origin(features.told("model"), features, layers)]
    for baseline in options.baselines:
        opened = stack.enter_context(baseline_features(features, baseline, progress))
        n_lost = int(np.count_nonzero(features.ok & ~opened.ok))
        if n_lost:
            warnings.warn(
                f"{n_lost} images have no features for {baseline_name(baseline)}: they "
                "are left out of every row of the table",
                CnnfeatWarning,
                stacklevel=3,
            )
        own_layers = baseline_layers(baseline, layers)
        origins.append(_Origin(baseline_name(baseline), opened, own_layers))
    return origins


def _layers(
    features: FeatureFile, options: BenchmarkOptions
) -> tuple[tuple[str, ...], ...]:
    """Return the datasets of each layer asked for; all of the file's by default."""
    if not options.layers:
        return tuple((name,) for name in features.layers)
    return tuple(dict.fromkeys(map(features.resolve, options.layers)))


def _check(features: FeatureFile, options: BenchmarkOptions) -> None:
    """Raise what drawing the rows and finding those to compare will raise."""
    layers = _layers(features, options)
    origins = [
        _Origin(features.provenance["model"], features, layers),
        *(
            _Origin(baseline_name(one), features, baseline_layers(one, layers))
            for one in options.baselines
        ),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CnnfeatWarning)
        split_sets = _draw(features, features.ok, options)
    find_pairs(options.compare, _rows(origins, split_sets, options))


def _draw(
    features: FeatureFile, ok: np.ndarray, options: BenchmarkOptions
) -> list[SplitSet]:
    """Return the splits of rows that are `ok`, divided once more to choose C."""
    table = features.table
    usable = usable_rows(replace(table, ok=ok))
    split_sets = draw_split_sets(table, usable, options.draw)
    if not options.chooses_C:
        return split_sets
    protocol = get_protocol(options.draw.protocol)
    return [
        one.with_folds(table, protocol.inner_held_out(one.train_per_class))
        for one in split_sets
    ]


def _rows(
    origins: Sequence[_Origin],
    split_sets: Sequence[SplitSet],
    options: BenchmarkOptions,
) -> list[TableRow]:
    """Return what the rows of the table will be, in its order."""
    return [
        TableRow(origin.name, "+".join(layers), head, one.train_per_class)
        for origin in origins
        for layers in origin.layers
        for head in options.heads
        for one in split_sets
    ]


def _measure(
    origins: Sequence[_Origin],
    split_sets: Sequence[SplitSet],
    options: BenchmarkOptions,
    progress: Progress | None,
) -> list[Cell]:
    n_all = len(_rows(origins, split_sets, options))
    cells: list[Cell] = []

    def tell() -> None:
        if progress:
            progress(len(cells) + 1, n_all, 0)

    for origin in origins:
        for layers in origin.layers:
            for cell in measure_layer(
                origin.name, layers, origin.features, split_sets, options, tell
            ):
                cells.append(cell)
    return cells


def _warn_of_images_seen(features: FeatureFile, split_sets: Sequence[SplitSet]) -> None:
    """Warn where the network was fine-tuned on images that some split tests on."""
    tested = np.unique(
        np.concatenate([split.test for one in split_sets for split in one.splits])
    )
    n_seen = len(networks.rows_tuned_on(features.table, features.provenance, tested))
    if n_seen:
        warnings.warn(
            f"{n_seen} of {len(tested)} test images are among those that the network "
            "was fine-tuned on: these are not test accuracies",
            CnnfeatWarning,
            stacklevel=3,
        )


def _left_out(
    table: ImageTable, ok: np.ndarray, split_sets: Sequence[SplitSet]
) -> dict[str, int]:
    """Count the images that stand in no split; `ok` says where all files are."""
    return count_left_out(
        table, used_rows(split_sets), {"unreadable_in_a_baseline": ~ok}
    )


def _made(command: str) -> dict[str, str]:
    """Return by which command, when and with what the report is made."""
    libraries = ("torch", "scikit-learn", "numpy")
    return {
        "command": command,
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "cnnfeat": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in libraries},
    }


def _settings(options: BenchmarkOptions) -> dict[str, Any]:
    """Return what decides a fit beside its rows; C and seed stand with each split."""
    heads = {}
    for kind in options.heads:
        heads[kind] = head_settings(kind, options).estimator().get_params()
        for own in ("C", "random_state"):
            del heads[kind][own]
    return {
        "scale": options.scale,
        "signed_sqrt": options.signed_sqrt,
        "n_components": options.n_components,
        "heads": heads,
    }
