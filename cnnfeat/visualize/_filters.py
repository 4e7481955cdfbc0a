"""The kernels of a layer as a sheet.

Krizhevsky et al. 2012, figure 3, show those of the first layer as colours; Zeiler and
Fergus 2014, figure 6, those of two networks side by side, where dead ones show.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from cnnfeat import layers, networks, report
from cnnfeat.errors import LayerError
from cnnfeat.visualize._look import Look, load_network, origins_of, published
from cnnfeat.visualize._options import FiltersOptions

_WEAK = 0.1  # of the median norm: such a filter says hardly anything
_TILE = 24  # pixels that a kernel is drawn on, at least
_MOST_SLICES = 24  # units, and inputs of each, whose slices are drawn


def look_at_filters(options: FiltersOptions | None = None) -> dict[str, Any]:
    """Return the norms of a layer's kernels, and draw the kernels.

    Parameters
    ----------
    options : FiltersOptions, optional

    Returns
    -------
    dict
        `networks`, one record for each set of weights: `weights`, `layer`, `shape`
        of the kernels (c_out, c_in, h, w), `norms` in the order of the units, and the
        units that are `weak`: whose norm is below a tenth of the median.

    Raises
    ------
    LayerError
        If the layer has no kernels, or they cannot be drawn so.
    NetworkError, WeightsError, DeviceError, OptionError, OutputError
        As their names say.
    """
    options = options or FiltersOptions()
    return published(options, options.beside, lambda: _look(options))


def _look(options: FiltersOptions) -> Look:
    given = [options, *(replace(options, weights=path) for path in options.beside)]
    loaded = [load_network(one) for one in given]
    kernels = [_kernels(network, options.layer) for network in loaded]
    records = [
        _record(network, name, weight)
        for network, (name, weight) in zip(loaded, kernels, strict=True)
    ]
    way = _way(options.way, kernels[0][0], kernels[0][1])
    panels = [
        _panel(record, weight, way, options)
        for record, (_, weight) in zip(records, kernels, strict=True)
    ]
    n_weak = len(records[0]["weak"])
    name = kernels[0][0]
    return Look(
        record={"way": way, "networks": records},
        draw=lambda: report.plot_panels(
            panels, n_columns=2, width=5.0 if len(panels) > 1 else 6.0
        ),
        title=f"Kernels of {name} of {loaded[0].name}",
        answer=f"{n_weak} of {len(records[0]['norms'])} kernels are shorter than a "
        "tenth of their median.",
        alt=f"The kernels of {name} as tiles, {way}.",
        origins=origins_of(loaded[0], layer=name, scale=options.scale),
    )


def _kernels(network: networks.Network, layer: str | None) -> tuple[str, np.ndarray]:
    """Return the name of the layer and its weight (c_out, c_in, h, w)."""
    found = layers.kernel_layers(network)
    if layer is None:
        layer = next((name for name, w in found.items() if w.ndim == 4), None)
    if layer is None:
        raise LayerError(f"{network.name!r} has no convolution: give `layer`")
    name = layers.resolve_layers(network, [layer])[0].module
    if name not in found:
        near = [other for other in found if layers.is_inside(other, name)]
        offered = near or list(found)
        raise LayerError(
            f"{layer!r} has no kernels; these have: {', '.join(offered[:8])}"
            + (", …" if len(offered) > 8 else "")
        )
    weight = found[name].detach().float().cpu().numpy()
    return name, weight[:, :, None, None] if weight.ndim == 2 else weight


def _way(way: str, name: str, weight: np.ndarray) -> str:
    c_in, height, width = weight.shape[1:]
    if way == "auto":
        return "colours" if c_in == 3 and height * width > 1 else "norms"
    if way == "colours" and c_in != 3:
        raise LayerError(
            f"{name} reads {c_in} maps, not R, G and B: use `way=norms` or `way=slices`"
        )
    if way == "slices" and height * width == 1:
        raise LayerError(f"the kernels of {name} are of 1 x 1: use `way=norms`")
    return way


def _record(network: networks.Network, name: str, weight: np.ndarray) -> dict[str, Any]:
    norms = np.sqrt((weight.astype(np.float64) ** 2).sum((1, 2, 3)))
    weak = np.flatnonzero(norms < _WEAK * np.median(norms))
    return {
        "model": network.name,
        "weights": network.weights.source,
        "layer": name,
        "shape": list(weight.shape),
        "norms": [float(f"{norm:.6g}") for norm in norms],
        "weak": weak.tolist(),
    }


def _panel(
    record: dict[str, Any], weight: np.ndarray, way: str, options: FiltersOptions
) -> report.Panel:
    order = np.arange(len(weight))
    if options.sort == "norm":
        order = np.argsort(-np.array(record["norms"]), kind="stable")
    heading = f"{record['layer']}, {len(order)} kernels, {len(record['weak'])} weak"
    if options.beside:
        heading = f"{record['weights'].rpartition('/')[2]}: {heading}"
    if way == "norms":
        norms = np.sqrt((weight[order] ** 2).sum((2, 3)))
        return report.Panel(norms, f"{heading}; rows: units, columns: inputs", "heat")
    if way == "colours":
        tiles, n_columns = np.moveaxis(weight[order], 1, -1), None
    else:
        part = weight[order][:_MOST_SLICES, :_MOST_SLICES]
        n_columns = part.shape[1]
        tiles = np.repeat(part.reshape(-1, *part.shape[2:], 1), 3, axis=-1)
        heading += "; rows: units, columns: inputs, the first of each"
    limit = float(np.abs(tiles).max()) if options.scale == "shared" else None
    times = max(1, _TILE // tiles.shape[1])
    drawn = [
        report.signed_image(tile, limit or float(np.abs(tile).max()))
        .repeat(times, 0)
        .repeat(times, 1)
        for tile in tiles
    ]
    return report.Panel(report.mosaic(drawn, n_columns), heading)
