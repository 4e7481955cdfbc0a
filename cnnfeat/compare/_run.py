"""From feature files to a table of how alike their layers are."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from cnnfeat import benchmark, report
from cnnfeat.compare._options import CompareOptions
from cnnfeat.errors import DataError, OptionError
from cnnfeat.outputs import claimed_outputs, write_output
from cnnfeat.similarity import LEAST, MEASURES, half_sample_intervals, likeness_matrix
from cnnfeat.store import open_features

_COLUMNS = ("a", "b", "measure", "likeness", "low", "high")


@dataclass(frozen=True)
class Likeness:
    """How alike sets `a` and `b` are, with a 95 % interval; NaN without draws."""

    a: str
    b: str
    measure: str
    likeness: float
    low: float
    high: float


@dataclass(frozen=True)
class CompareReport:
    """How alike each two sets are, on the `n_images` used of `n_common`.

    `n_unmatched` counts images that some file lacks or could not read.
    """

    sets: tuple[str, ...]
    n_images: int
    n_common: int
    n_unmatched: int
    pairs: tuple[Likeness, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return asdict(self)

    def to_csv(self) -> str:
        """Return a line for each two sets and measure as CSV."""
        columns = [report.Column(name) for name in _COLUMNS]
        return report.Table(self.pairs, columns).to_csv()

    def matrix(self, measure: str) -> np.ndarray:
        """Return one measure's numbers (n_sets, n_sets), 1 on the diagonal."""
        found = np.eye(len(self.sets))
        place = {name: k for k, name in enumerate(self.sets)}
        for one in self.pairs:
            if one.measure == measure:
                i, j = place[one.a], place[one.b]
                found[i, j] = found[j, i] = one.likeness
        return found


def compare_features(
    paths: Sequence[str], options: CompareOptions | None = None
) -> CompareReport:
    """Compare the layers of feature files of the same images.

    Parameters
    ----------
    paths : sequence of str
        One or more feature files.
    options : CompareOptions, optional

    Raises
    ------
    StoreError, LayerError
        As their names say.
    ProvenanceError
        If a file has none of the first one's images, or others under their names.
    DataError
        If fewer than two sets are left, too few images, or features are not finite.
    OutputError, OptionError
        If an output cannot be written, or a measure is unknown.
    """
    options = options or CompareOptions()
    for measure in options.measures:
        if measure not in MEASURES:
            known = ", ".join(MEASURES)
            raise OptionError(f"`measures={measure}` is none of {known}")
    with claimed_outputs(options.outputs, paths, overwrite=options.overwrite):
        found = _compare(paths, options)
        if options.output_path:
            text = found.to_csv().encode("utf-8")
            write_output(options.output_path, text, overwrite=True)
        if options.plot_path:
            _draw(found, options.measures[0], options.plot_path)
    return found


def _compare(paths: Sequence[str], options: CompareOptions) -> CompareReport:
    with ExitStack() as stack:
        files = [stack.enter_context(open_features(path)) for path in paths]
        origins = [
            benchmark.Origin(name, one, layers, benchmark.align(files[0].table, one))
            for name, one, layers in zip(
                benchmark.names_of(files),
                files,
                benchmark.layers_of(files, options.layers),
                strict=True,
            )
        ]
        for origin in origins[1:]:
            benchmark.refuse_other_images(files[0], origin)
        common = np.flatnonzero(np.logical_and.reduce([one.ok for one in origins]))
        n_sets = sum(len(one.layers) for one in origins)
        if n_sets < 2 or len(common) < 2 * LEAST:
            raise DataError(
                f"there are {n_sets} sets of features of {len(common)} images that all "
                f"have: expected two sets, such as two layers, of {2 * LEAST} images"
            )
        rows = _drawn(common, options)
        sets = {
            _name(origin, layers, origins): _read(origin, layers, rows)
            for origin in origins
            for layers in origin.layers
        }
        n_all = len({path for one in files for path in one.paths})
    return CompareReport(
        sets=tuple(sets),
        n_images=len(rows),
        n_common=len(common),
        n_unmatched=n_all - len(common),
        pairs=tuple(
            pair
            for measure in options.measures
            for pair in _pairs(sets, measure, options)
        ),
    )


def _drawn(common: np.ndarray, options: CompareOptions) -> np.ndarray:
    if len(common) <= options.n_images:
        return common
    rng = np.random.default_rng(options.seed)
    return np.sort(rng.choice(common, max(options.n_images, 2 * LEAST), replace=False))


def _name(
    origin: benchmark.Origin,
    layers: tuple[str, ...],
    origins: Sequence[benchmark.Origin],
) -> str:
    layer = "+".join(layers)
    return layer if len(origins) == 1 else f"{origin.name} {layer}"


def _read(
    origin: benchmark.Origin, layers: tuple[str, ...], rows: np.ndarray
) -> np.ndarray:
    own = origin.row_of[rows]
    X = origin.features.read(layers, own)
    origin.features.refuse_non_finite(X, own)
    return X


def _pairs(
    sets: dict[str, np.ndarray], measure: str, options: CompareOptions
) -> list[Likeness]:
    arrays = list(sets.values())
    value = likeness_matrix(arrays, measure)
    low = high = np.full(value.shape, np.nan)
    if options.n_draws:
        low, high = half_sample_intervals(
            arrays, value, measure, n_draws=options.n_draws, seed=options.seed
        )
    return [
        Likeness(a, b, measure, *(float(one[i, j]) for one in (value, low, high)))
        for (i, a), (j, b) in combinations(enumerate(sets), 2)
    ]


def _draw(found: CompareReport, measure: str, path: str) -> None:
    title = f"{measure} on {found.n_images:,} images"
    drawn = report.plot_likeness_matrix(found.matrix(measure), found.sets, title=title)
    report.save_figure(drawn, path)
