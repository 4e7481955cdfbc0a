"""Running a benchmark from a feature file to its report."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
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
    initialisations,
)
from cnnfeat.benchmark._compare import find_pairs
from cnnfeat.benchmark._measure import head_settings, measure_layer
from cnnfeat.benchmark._notices import keep_warnings
from cnnfeat.benchmark._options import BenchmarkOptions
from cnnfeat.benchmark._origins import (
    Origin,
    align,
    layers_of,
    names_of,
    refuse_other_images,
)
from cnnfeat.benchmark._publish import claimed_report_dir, publish
from cnnfeat.benchmark._results import Cell, TableRow, averaged
from cnnfeat.benchmark._rows import (
    SplitSet,
    classes_of,
    draw_split_sets,
    used_rows,
)
from cnnfeat.benchmark._summary import BenchmarkReport
from cnnfeat.errors import CnnfeatWarning, InputError
from cnnfeat.image_table import ImageTable
from cnnfeat.images import Sources, relabel, sources_of
from cnnfeat.protocols import get_protocol
from cnnfeat.splits import count_left_out, usable_rows
from cnnfeat.store import FeatureFile, open_features

Progress = Callable[[int, int, int], None]


def run_benchmark(
    features_path: Sources,
    options: BenchmarkOptions | None = None,
    *,
    progress: Progress | None = None,
    command: str = "",
) -> BenchmarkReport:
    """Measure every layer and head of a feature file over a protocol's splits.

    Parameters
    ----------
    features_path : str, or a sequence of them
        A feature file; or several of the same images, whose rows are compared on the
        same splits. Labels and groups are those of the first.
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
    options.check_heads()
    paths = sources_of(features_path)
    get_protocol(options.draw.protocol)
    with ExitStack() as stack:
        files = _open_files(paths, options, stack)
        features = files[0]
        stack.enter_context(claimed_report_dir(files, options))
        told: list[str] = []
        if options.baselines:  # extracting them takes long: refuse first what is wrong
            _check(files, options)
        with keep_warnings(told):
            origins = _open_origins(files, options, stack, progress)
        with keep_warnings(told):
            ok = np.logical_and.reduce([one.ok for one in origins])
            split_sets = _draw(features, ok, options)
        pairs = find_pairs(options.compare, _distinct(origins, split_sets, options))
        with keep_warnings(told):
            for origin in origins[: len(files)]:
                _warn_of_images_seen(origin, split_sets)
            cells = _measure(origins, split_sets, options, progress)
            heads.warn_of_edges(
                [
                    (cell.name, one.C, one.C_grid)
                    for cell in cells
                    for one in cell.splits
                    if one.C is not None
                ]
            )
        used = classes_of(split_sets, features.labels)
        report = BenchmarkReport(
            protocol=get_protocol(options.draw.protocol),
            cells=tuple(averaged(cells)),
            split_sets=tuple(split_sets),
            class_names=tuple(features.class_names[label] for label in used),
            left_out=_left_out(features.table, ok, split_sets),
            sources=_sources(origins),
            settings=_settings(options),
            provenance={"features": str(features.path), **features.provenance},
            others={
                one.name: dict(one.features.provenance)
                for one in origins[1 : len(files)]
            },
            asked=tuple(pairs),
            warnings=tuple(told),
            made=_made(command),
            splits_file=options.draw.splits_file,
        )
        return publish(report, features, options)


def _open_files(
    paths: Sequence[str], options: BenchmarkOptions, stack: ExitStack
) -> list[FeatureFile]:
    """Return the feature files, the first with the labels and groups asked for."""
    if len({os.path.realpath(path) for path in paths}) < len(paths):
        raise InputError(f"a feature file is named twice: {', '.join(paths)}")
    files = [stack.enter_context(open_features(path)) for path in paths]
    table = relabel(files[0].table, options.draw)
    files[0].table = table.grouped_by(options.draw.group)
    return files


def _file_origins(
    files: Sequence[FeatureFile], options: BenchmarkOptions
) -> list[Origin]:
    """Return the feature files with their layers, row beside row."""
    first = files[0]
    origins = [
        Origin(name, features, layers, align(first.table, features))
        for name, features, layers in zip(
            names_of(files), files, layers_of(files, options.layers), strict=True
        )
    ]
    for origin in origins[1:]:
        refuse_other_images(first, origin)
    return origins


def _open_origins(
    files: Sequence[FeatureFile],
    options: BenchmarkOptions,
    stack: ExitStack,
    progress: Progress | None,
) -> list[Origin]:
    """Return the feature files and the baselines, which may have to be extracted."""
    first, origins = files[0], _file_origins(files, options)
    for baseline in options.baselines:
        for seed in initialisations(baseline):
            made = baseline_features(first, baseline, progress, seed=seed)
            opened = stack.enter_context(made)
            origins.append(_baseline_origin(baseline, opened, origins[0]))
    for origin in origins[1:]:
        n_lost = int(np.count_nonzero(first.ok & ~origin.ok))
        if n_lost:
            warnings.warn(
                f"{n_lost} images have no features for {origin.name}: they are left "
                "out of every row of the table",
                CnnfeatWarning,
                stacklevel=3,
            )
    return origins


def _baseline_origin(baseline: str, opened: FeatureFile, first: Origin) -> Origin:
    layers = baseline_layers(baseline, first.layers)
    return Origin(baseline_name(baseline), opened, layers, first.row_of)


def _check(files: Sequence[FeatureFile], options: BenchmarkOptions) -> None:
    """Raise what drawing the rows and finding those to compare will raise."""
    origins = _file_origins(files, options)
    for baseline in options.baselines:
        origins.append(_baseline_origin(baseline, files[0], origins[0]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CnnfeatWarning)
        ok = np.logical_and.reduce([one.ok for one in origins])
        split_sets = _draw(files[0], ok, options)
    find_pairs(options.compare, _distinct(origins, split_sets, options))


def _draw(
    features: FeatureFile, ok: np.ndarray, options: BenchmarkOptions
) -> list[SplitSet]:
    """Return the splits of rows that are `ok`, divided once more to choose C."""
    table = features.table
    usable = usable_rows(replace(table, ok=ok))
    split_sets = draw_split_sets(table, usable, options.draw)
    if not any(head_settings(kind, options).needs_folds for kind in options.heads):
        return split_sets
    protocol = get_protocol(options.draw.protocol)
    return [
        one.with_folds(table, protocol.inner_held_out(one.train_per_class))
        for one in split_sets
    ]


def _rows(
    origins: Sequence[Origin],
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


def _distinct(
    origins: Sequence[Origin],
    split_sets: Sequence[SplitSet],
    options: BenchmarkOptions,
) -> list[TableRow]:
    """Return them with those of several initialisations as one."""
    return list(dict.fromkeys(_rows(origins, split_sets, options)))


def _sources(origins: Sequence[Origin]) -> dict[str, str]:
    """Return the feature files by what the table calls them."""
    sources: dict[str, str] = {}
    for at, one in enumerate(origins):
        n_before = sum(other.name == one.name for other in origins[:at])
        number = f", initialisation {n_before + 1}" if n_before else ""
        sources[f"{one.name}{number}"] = str(one.features.path)
    return sources


def _measure(
    origins: Sequence[Origin],
    split_sets: Sequence[SplitSet],
    options: BenchmarkOptions,
    progress: Progress | None,
) -> list[Cell]:
    table = origins[0].features.table
    n_all = len(_rows(origins, split_sets, options))
    cells: list[Cell] = []

    def tell() -> None:
        if progress:
            progress(len(cells) + 1, n_all, 0)

    for origin in origins:
        for layers in origin.layers:
            for cell in measure_layer(origin, layers, table, split_sets, options, tell):
                cells.append(cell)
    return cells


def _warn_of_images_seen(origin: Origin, split_sets: Sequence[SplitSet]) -> None:
    """Warn where a network was fine-tuned on images that some split tests on."""
    features = origin.features
    tested = np.unique(
        np.concatenate([split.test for one in split_sets for split in one.splits])
    )
    rows = origin.row_of[tested]
    n_seen = len(networks.rows_tuned_on(features.table, features.provenance, rows))
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
    return {
        "scale": options.scale,
        "signed_sqrt": options.signed_sqrt,
        "power": options.power,
        "n_components": options.n_components,
        "heads": {k: head_settings(k, options).to_dict() for k in options.heads},
    }
