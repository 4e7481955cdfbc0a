"""The images whose features are nearest to others' (Krizhevsky et al. 2012, fig. 4)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnfeat import extraction, report, scoring, similarity, store
from cnnfeat.errors import DataError, InputError
from cnnfeat.image_table import ImageTable
from cnnfeat.images import (
    list_images,
    printable,
    read_thumbnail,
    settle_range,
    thumbnail_reader,
)
from cnnfeat.value_range import FULL
from cnnfeat.visualize._look import Look, published
from cnnfeat.visualize._options import NeighboursOptions

Progress = Callable[[int, int, int], None]
_MOST_DRAWN = 24  # queries on a sheet


@dataclass(frozen=True, eq=False)
class _Query:
    """What neighbours are sought of: a row of the file, or an image of its own."""

    path: str
    row: int = -1
    table: ImageTable | None = None


def find_neighbours(
    queries: Sequence[str],
    features_path: str,
    options: NeighboursOptions | None = None,
    *,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Return the images of a feature file that are nearest to others, and draw them.

    Parameters
    ----------
    queries : sequence of str
        Rows of the file, by their paths in it or where the images lie; or other images,
        which go through the network that the file names. A row is not its own
        neighbour.
    features_path : str
    options : NeighboursOptions, optional
    progress : callable (n_done, n_rows, n_failed), optional

    Returns
    -------
    dict
        `layer`, `distance`, `n_rows`, and `queries`: of each `path`, `label` where it
        is a row, and `neighbours`, the nearest first: `path`, `label`, and `cosine` or
        `distance`. `label_share` is the share of neighbours that have the label of
        their query, None where no query has one.

    Raises
    ------
    InputError
        If a query is neither a row nor an image that can be read.
    DataError
        If a query's row has no features, the file has too few rows, or features are
        not finite.
    StoreError, LayerError, ProvenanceError, WeightsError, DeviceError, OutputError
        As their names say.
    """
    options = options or NeighboursOptions()

    def look() -> Look:
        with store.open_features(features_path) as features:
            return _look(queries, features, options, progress)

    files = [path for path in queries if os.path.isfile(path)]
    return published(options, [features_path, *files], look)


def _look(
    queries: Sequence[str],
    features: store.FeatureFile,
    options: NeighboursOptions,
    progress: Progress | None,
) -> Look:
    names = features.resolve(options.layer)
    asked = _asked(queries, features)
    rows = np.flatnonzero(features.ok)
    if len(rows) <= options.top:
        raise DataError(
            f"{features.path}: {len(rows)} images have features; ask for fewer than "
            f"that, not `top={options.top}`"
        )

    def read(which: np.ndarray) -> np.ndarray:
        X = features.read(names, rows[which])
        features.refuse_non_finite(X, rows[which])
        return X

    def tell(n_done: int, n_all: int) -> None:
        if progress:
            progress(n_done, n_all, 0)

    found = similarity.nearest_rows(
        _features_of(asked, features, names, options),
        read,
        len(rows),
        k=options.top,
        distance=options.distance,
        skipped=_places(asked, rows),
        progress=tell,
    )
    told = [
        _told(query, features, rows[near], values, options.distance)
        for query, near, values in zip(asked, found.rows, found.values, strict=True)
    ]
    share = _label_share(told)
    record = {
        "layer": "+".join(names),
        "distance": options.distance,
        "n_rows": len(rows),
        "label_share": share,
        "queries": told,
    }
    answer = "" if share is None else f"{100 * share:.0f} % have their query's label."
    settings = {"features": str(features.path), "layer": record["layer"]}
    return Look(
        record=record,
        draw=lambda: _drawn(asked, told, features, rows[found.rows]),
        title=f"Nearest images by {record['layer']}",
        answer=answer,
        alt="Each query at the left, and the images nearest to it.",
        origins={"Features": {**settings, "distance": options.distance}},
    )


def _asked(queries: Sequence[str], features: store.FeatureFile) -> list[_Query]:
    """Return what each query is; none needs the network yet."""
    rows = {path: row for row, path in reversed(list(enumerate(features.paths)))}
    root = os.path.abspath(features.stored_table.root)
    asked = []
    for query in queries:
        below = printable(os.path.relpath(os.path.abspath(query), root))
        row = rows.get(printable(query), rows.get(below, -1))
        if row >= 0:
            if not features.ok[row]:
                raise DataError(
                    f"{printable(query)}: a row of {features.path} without features: "
                    f"{features.errors[row]}"
                )
            asked.append(_Query(features.paths[row], row))
            continue
        if not os.path.isfile(query):
            raise InputError(
                f"{printable(query)}: expected an image, or a row of {features.path}, "
                f"such as {features.paths[0]}"
            )
        asked.append(_Query(printable(query), table=list_images(query)))
    return asked


def _places(asked: Sequence[_Query], rows: np.ndarray) -> np.ndarray:
    """Return where the queries stand in `rows`; -1 for those that do not."""
    wanted = np.array([query.row for query in asked])
    return np.where(wanted >= 0, np.searchsorted(rows, wanted), -1)


def _features_of(
    asked: Sequence[_Query],
    features: store.FeatureFile,
    names: Sequence[str],
    options: NeighboursOptions,
) -> np.ndarray:
    """Return the features (n_queries, d) of rows and of images."""
    Q = np.empty((len(asked), features.n_features(names)), np.float32)
    is_row = np.array([query.table is None for query in asked])
    own = np.array([query.row for query in asked])[is_row]
    Q[is_row] = features.read(names, own)
    features.refuse_non_finite(Q[is_row], own)
    others = [(k, query) for k, query in enumerate(asked) if query.table is not None]
    if others:
        specs = [features.layers[name] for name in names]
        device = scoring.ScoringOptions(device=options.device, engine="eager")
        path, told = str(features.path), features.provenance
        with scoring.extractor_of(path, told, specs, device) as extractor:
            for k, query in others:
                Q[k] = _computed(query, extractor, told)
    return Q


def _computed(
    query: _Query, extractor: extraction.Extractor, told: dict[str, str]
) -> np.ndarray:
    """Return the features (d,) of an image, computed as those in the file were."""
    if query.table is None or len(query.table) != 1:
        raise InputError(f"{query.path}: expected one image")
    table = settle_range(query.table, told.get("range", FULL))
    decoder = told.get("decoder", "pil")
    source = extractor.source(table, workers=0, decoder=decoder)
    sink = extraction.ArraySink(1, extractor.specs)
    extraction.run(source, extractor, sink)
    if not sink.ok[0]:
        raise InputError(f"{query.path}: {sink.errors[0]}")
    return np.concatenate([sink.features[s.name].ravel() for s in extractor.specs])


def _told(
    query: _Query,
    features: store.FeatureFile,
    rows: np.ndarray,
    values: np.ndarray,
    distance: str,
) -> dict[str, Any]:
    key = "cosine" if distance == "cosine" else "distance"
    return {
        "path": query.path,
        "label": _label(features, query.row),
        "neighbours": [
            {
                "path": features.paths[row],
                "label": _label(features, row),
                key: float(value),
            }
            for row, value in zip(rows.tolist(), values, strict=True)
        ],
    }


def _label(features: store.FeatureFile, row: int) -> str | None:
    label = int(features.labels[row]) if row >= 0 else -1
    return features.class_names[label] if label >= 0 else None


def _label_share(told: Sequence[dict[str, Any]]) -> float | None:
    shares = [
        np.mean([near["label"] == one["label"] for near in one["neighbours"]])
        for one in told
        if one["label"] is not None
    ]
    return float(np.mean(shares)) if shares else None


def _drawn(
    asked: Sequence[_Query],
    told: Sequence[dict[str, Any]],
    features: store.FeatureFile,
    rows: np.ndarray,
) -> Any:
    """Return a sheet: a row for each query, itself first."""
    reader = thumbnail_reader(features.stored_table)
    images: list[np.ndarray | None] = []
    captions = []
    for query, one, near in zip(asked, told, rows.tolist(), strict=True):
        if len(images) >= _MOST_DRAWN * (rows.shape[1] + 1):
            break
        own = query.table
        images.append(read_thumbnail(own, 0) if own is not None else reader(query.row))
        captions.append(f"query: {one['label'] or query.path.split('/')[-1]}")
        images += [reader(row) for row in near]
        captions += [_caption(other) for other in one["neighbours"]]
    return report.plot_contact_sheet(images, captions, n_columns=rows.shape[1] + 1)


def _caption(near: dict[str, Any]) -> str:
    value = near.get("cosine", near.get("distance"))
    return f"{value:.3g} {near['label'] or ''}"
