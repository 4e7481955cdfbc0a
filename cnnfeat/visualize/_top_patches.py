"""The strongest activations of each unit over many images (Zeiler and Fergus, fig. 2).

One pass over the images, or over a file of features that were not pooled; patches are
cut from the original images where the unit's receptive field lies.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from cnnfeat import extraction, layers, networks, report, store, suffixes
from cnnfeat.errors import LayerError, OptionError, StoreError
from cnnfeat.image_table import ImageTable
from cnnfeat.images import (
    Batch,
    Sources,
    image_files,
    list_images,
    refuse_too_many_failed,
    relist_images,
    settle_range,
    sources_of,
)
from cnnfeat.outputs import refuse_inputs
from cnnfeat.visualize._look import Look, load_network, origins_of, published
from cnnfeat.visualize._options import TopPatchesOptions
from cnnfeat.visualize._patches import Patch, cut_originals, project_patches
from cnnfeat.visualize._pixels import grid_of
from cnnfeat.visualize._strongest import StrongestSink

Progress = Callable[[int, int, int], None]
_MOST_DRAWN = 64  # units of a layer on a sheet
_ROWS_AT_ONCE = 64  # of a feature file


@dataclass(frozen=True, eq=False)
class _Found:
    """What one pass has found: the images, the taps, and a filled sink."""

    network: networks.Network
    table: ImageTable
    taps: tuple[layers.Tap, ...]
    sink: StrongestSink


def find_top_patches(
    images: Sources,
    options: TopPatchesOptions | None = None,
    *,
    stdin: Iterable[str] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Return the strongest patches of units over all images, and draw them.

    Parameters
    ----------
    images : str, or a sequence of them
        As for `extract_features`; or one feature file that holds layers unpooled,
        which is read in place of the network. An image gives a unit one patch.
    options : TopPatchesOptions, optional
    stdin : iterable of str, optional
        The lines that `-` reads.
    progress : callable (n_done, n_images, n_failed), optional

    Returns
    -------
    dict
        `n_images`, `n_failed`, and `layers`: of each `units`, whose `patches` have
        `path`, `label`, `activation`, `position` in the map, and `region` in pixels of
        the crop, strongest first. Where a sheet is drawn they have `source_box`, in
        pixels of the image. `n_dead` units are never above 0, `n_tied` have one value
        in all their patches, as at the limit of a ReLU6. `class_share` is the
        share of a unit's patches that are of its most frequent class, the mean over
        all units that respond; `method` what is drawn beside.

    Raises
    ------
    LayerError
        If a layer has no maps, or there is no such unit.
    OptionError
        If the units cannot be read, or options contradict a feature file.
    StoreError, InputError, NetworkError, WeightsError, DeviceError, OutputError
        As their names say.
    """
    options = options or TopPatchesOptions()
    _units_named(options.units)

    def look() -> Look:
        return _look(images, options, stdin, progress)

    return published(options, sources_of(images), look)


def parse_units(text: str, n_units: int) -> list[int]:
    """Return the units that a text names: `0-15,40`, `random:16` or `all`.

    Raises
    ------
    OptionError
        If it names none.
    LayerError
        If a unit is not there.
    """
    n_drawn, ranges = _units_named(text)
    if text == "all":
        return list(range(n_units))
    if n_drawn:
        drawn = np.random.default_rng(0).permutation(n_units)[:n_drawn]
        return sorted(drawn.tolist())
    last = max(last for _, last in ranges)
    if last >= n_units:
        raise LayerError(f"there are {n_units} units, 0 to {n_units - 1}; found {last}")
    units = (unit for first, last in ranges for unit in range(first, last + 1))
    return list(dict.fromkeys(units))


def _units_named(text: str) -> tuple[int, list[tuple[int, int]]]:
    """Return how many units are to be drawn, and the ranges of a list."""
    drawn = re.fullmatch(r"random:([1-9]\d{0,8})", text)
    if drawn or text == "all":
        return int(drawn[1]) if drawn else 0, []
    ranges = []
    for part in text.split(","):
        ends = re.fullmatch(r"\s*(\d{1,9})(?:-(\d{1,9}))?\s*", part)
        if not ends or int(ends[2] or ends[1]) < int(ends[1]):
            raise OptionError(
                f"`units={text}` are none: expected 0-15, a list such as 3,7-9, "
                "random:16 or all"
            )
        ranges.append((int(ends[1]), int(ends[2] or ends[1])))
    return 0, ranges


def _look(
    images: Sources,
    options: TopPatchesOptions,
    stdin: Iterable[str] | None,
    progress: Progress | None,
) -> Look:
    sources = sources_of(images)
    is_file = len(sources) == 1 and suffixes.suffix_of(sources[0]) in suffixes.FEATURES
    if is_file and os.path.isfile(sources[0]):
        found = _read(sources[0], options)
    else:
        found = _run(images, options, stdin, progress)
    refuse_too_many_failed(found.table, found.sink.failures, len(found.table))
    patches = {tap.name: _patches(found, tap, options) for tap in found.taps}
    method = options.method if options.is_drawn else "none"
    told = [_record(found, tap, patches[tap.name]) for tap in found.taps]
    record: dict[str, Any] = {
        "n_images": len(found.table),
        "n_failed": len(found.sink.failures),
        "model": found.network.name,
        "method": method,
        "layers": told,
    }
    panels = _panels(found, patches, record, options) if options.is_drawn else []
    shares = [
        f"{one['layer']}: {100 * one['class_share']:.0f} %"
        for one in told
        if one["class_share"] is not None
    ]
    answer = (
        f"Share of a unit's strongest patches that are of one class: "
        f"{', '.join(shares)}."
        if shares
        else ""
    )
    return Look(
        record=record,
        draw=lambda: report.plot_panels(panels, n_columns=4, width=2.9),
        title=f"Strongest patches of {found.network.name}",
        answer=answer,
        alt="For each unit patches of images, and beside each its projection.",
        origins=origins_of(found.network, images=", ".join(sources), top=options.top),
    )


def _run(
    images: Sources,
    options: TopPatchesOptions,
    stdin: Iterable[str] | None,
    progress: Progress | None,
) -> _Found:
    """Take all images through the network into the sink."""
    table = list_images(images, stdin=stdin)
    refuse_inputs(options.outputs, image_files(table))
    network = load_network(options)
    names = options.layers or (layers.last_maps(network),)
    extractor = extraction.Extractor(
        network,
        names,
        pool=layers.PEAKS,
        engine=options.engine,
        batch_size=options.batch_size,
    )
    with extractor:
        taps = tuple(layers.resolve_layers(network, names))
        heights = {tap.name: _height(tap) for tap in taps}
        source = extractor.source(settle_range(table, "auto"), workers=options.workers)
        extractor.plan(source)
        sink = StrongestSink(extractor.specs, heights, options.top)

        def done(batch: Batch) -> None:
            if progress:
                progress(batch.stop, len(table), len(sink.failures))

        extraction.run(source, extractor, sink, done=done)
    return _Found(network, source.image_list, taps, sink)


def _read(path: str, options: TopPatchesOptions) -> _Found:
    """Take the rows of a feature file into the sink; the network computes nothing."""
    with store.open_features(path) as features:
        names = [one for name in options.layers for one in features.resolve(name)]
        names = names or [
            name
            for name, spec in features.layers.items()
            if spec.pool == "none" and len(spec.shape) > 1
        ]
        if not names:
            raise StoreError(
                f"{path}: no layer in it has maps; extract with `pool=none` a layer "
                "that has"
            )
        specs = [features.layers[name] for name in names]
        request = networks.NetworkRequest.of_provenance(
            features.provenance, options.device
        )
        network = request.load()
        taps = tuple(
            replace(one, name=spec.name)
            for spec in specs
            for one in layers.resolve_layers(network, [spec.layer])
        )
        for tap, spec in zip(taps, specs, strict=True):
            if spec.pool != "none" or tuple(spec.shape) != tuple(tap.shape):
                raise StoreError(
                    f"{path}: {spec.name} is stored as {spec.pool}, shape "
                    f"{spec.shape}, which has no positions; extract it with "
                    "`pool=none`"
                )
        peaks = [
            replace(spec, shape=layers.pooled_shape(tap, layers.PEAKS))
            for tap, spec in zip(taps, specs, strict=True)
        ]
        heights = {tap.name: _height(tap) for tap in taps}
        sink = StrongestSink(peaks, heights, options.top)
        for tap in taps:
            _read_layer(features, tap, sink)
        table = relist_images(features.table)
    return _Found(network, table, taps, sink)


def _read_layer(
    features: store.FeatureFile, tap: layers.Tap, sink: StrongestSink
) -> None:
    for rows, block in features.blocks(tap.name, None, _ROWS_AT_ONCE):
        activation = torch.from_numpy(block).unflatten(1, tap.shape)
        peaks = layers.pool_activation(activation, layers.PEAKS, tap).numpy()
        ok, errors = features.ok[rows], features.errors[rows]
        sink.write(rows.start, {tap.name: peaks}, ok, errors)


def _height(tap: layers.Tap) -> int:
    if tap.tokens is not None:
        return tap.tokens.grid[0]
    if len(tap.shape) != 3:
        raise LayerError(
            f"{tap.name}, an activation of shape {tuple(tap.shape)}, has no maps; "
            "`layers` takes those whose shape has a height and a width"
        )
    return tap.shape[0] if tap.channels_last else tap.shape[1]


def _patches(
    found: _Found, tap: layers.Tap, options: TopPatchesOptions
) -> dict[int, list[Patch]]:
    """Return the strongest patches of each unit asked for; none of a dead one."""
    sink, grid = found.sink, grid_of(found.network, tap)
    values = sink.values[tap.name]
    height, width = found.network.weights.preprocessing.crop_size
    try:
        units = parse_units(options.units, len(values))
    except LayerError as error:
        raise LayerError(f"{tap.name}: {error}") from error
    patches: dict[int, list[Patch]] = {}
    for unit in units:
        places = sink.places[tap.name][unit].tolist()
        patches[unit] = [
            Patch(
                unit,
                int(sink.rows[tap.name][unit, k]),
                float(values[unit, k]),
                (i, j),
                grid.region(i, j) if grid else (0, 0, width, height),
            )
            for k, (i, j) in enumerate(places)
            # Where a map is 0 all over, no place in it is the strongest.
            if np.isfinite(values[unit, k]) and values[unit, k] != 0
        ]
    return patches


def _record(
    found: _Found, tap: layers.Tap, patches: dict[int, list[Patch]]
) -> dict[str, Any]:
    grid = grid_of(found.network, tap)
    values = found.sink.values[tap.name]
    return {
        "layer": tap.name,
        "n_units": len(values),
        "n_dead": int((values[:, 0] <= 0).sum()),
        "n_tied": int(((values[:, 0] > 0) & (values[:, 0] == values[:, -1])).sum()),
        "receptive_field": grid.receptive_field if grid else None,
        "class_share": _class_share(found, tap),
        "units": [
            {"unit": unit, "patches": [_told(found.table, one) for one in kept]}
            for unit, kept in patches.items()
        ],
    }


def _told(table: ImageTable, patch: Patch) -> dict[str, Any]:
    label = int(table.labels[patch.row])
    return {
        "path": table.paths[patch.row],
        "label": table.class_names[label] if label >= 0 else None,
        "activation": patch.activation,
        "position": list(patch.position),
        "region": list(patch.region),
    }


def _class_share(found: _Found, tap: layers.Tap) -> float | None:
    """Return how often the patches of a unit are of one class, over all units."""
    labels, values = found.table.labels, found.sink.values[tap.name]
    shares = []
    for rows, row_values in zip(found.sink.rows[tap.name], values, strict=True):
        own = labels[rows[np.isfinite(row_values) & (row_values > 0)]]
        if len(own) > 1 and (own >= 0).all():
            shares.append(np.bincount(own).max() / len(own))
    return float(np.mean(shares)) if shares else None


def _panels(
    found: _Found,
    patches: dict[str, dict[int, list[Patch]]],
    record: dict[str, Any],
    options: TopPatchesOptions,
) -> list[report.Panel]:
    panels = []
    method = options.method
    for tap, told in zip(found.taps, record["layers"], strict=True):
        shown = [(unit, kept) for unit, kept in patches[tap.name].items() if kept][
            :_MOST_DRAWN
        ]
        flat = [patch for _, kept in shown for patch in kept]
        tiles, boxes = cut_originals(found.network, found.table, flat)
        method = _method(options.method, found.network, tap)
        record["method"] = method
        beside = tiles
        if method != "none" and flat:
            beside = project_patches(found.network, tap, found.table, flat, method)
        by_unit = {one["unit"]: one["patches"] for one in told["units"]}
        start = 0
        for unit, kept in shown:
            part = slice(start, start + len(kept))
            start = part.stop
            for one, box in zip(by_unit[unit], boxes[part], strict=True):
                one["source_box"] = [round(value, 2) for value in box]
            both = [tiles[part]] if method == "none" else [tiles[part], beside[part]]
            panels.append(_panel(tap.name, unit, kept, both))
    if not panels:
        raise LayerError("no unit responds to any of the images: nothing to draw")
    return panels


def _method(asked: str, network: networks.Network, tap: layers.Tap) -> str:
    if asked != "auto":
        return asked
    return "deconvnet" if layers.is_rectified(network, tap) else "gradient"


def _panel(
    layer: str, unit: int, kept: Sequence[Patch], tiles: Sequence[list[np.ndarray]]
) -> report.Panel:
    strongest, weakest = kept[0].activation, kept[-1].activation
    sheets = [report.mosaic(one) for one in tiles]
    image = report.mosaic(sheets, len(sheets), gap=6)
    return report.Panel(image, f"{layer} {unit}: {strongest:.3g} to {weakest:.3g}")
