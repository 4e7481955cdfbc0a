"""What the network loses when a part of the image is covered.

Zeiler and Fergus 2014, figure 7: from one set of passes the activation of the strongest
map of a layer, the probability of the true class, and the most probable class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from cnnfeat import extraction, heads, layers, networks, report
from cnnfeat.images import Batch
from cnnfeat.visualize._look import Look, load_network, origins_of, published
from cnnfeat.visualize._occluded import OccludedSource, check_side, cover_of
from cnnfeat.visualize._options import OcclusionOptions
from cnnfeat.visualize._pixels import (
    Seen,
    class_index,
    class_name,
    normalized,
    one_tap,
    see_image,
)

Progress = Callable[[int, int, int], None]
# Where more of the multiply-adds would be left, whole batches are as fast.
_WORTH_IT = 0.6
_AT_ONCE = 32


def occlude_image(
    path: str,
    options: OcclusionOptions | None = None,
    *,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Return what covering each part of an image does, and draw three maps.

    Parameters
    ----------
    path : str
        An image.
    options : OcclusionOptions, optional
    progress : callable (n_done, n_squares, n_failed), optional

    Returns
    -------
    dict
        `class` and `probability` without a square, `layer` and `unit` of its strongest
        map with `activation`, the sum of that map. `maps`, one record for each size:
        `upper` and `left` edges of the squares in pixels of the crop; by row and column
        `activation`, `probability` and `most_probable` (names are in `classes`);
        `lowest`, the square that costs the class most, and its `source_box`, in pixels
        of the image. `computed` is `incremental`, where only what a square can reach
        was computed again, with the `share` of multiply-adds that took, or `batches`.

    Raises
    ------
    LayerError
        If the network has no classifier, no such class, or the layer no maps.
    OptionError
        If a square does not fit into the crop.
    InputError, NetworkError, WeightsError, DeviceError, OutputError
        As their names say.
    """
    options = options or OcclusionOptions()
    return published(options, [path], lambda: _look(path, options, progress))


def _look(path: str, options: OcclusionOptions, progress: Progress | None) -> Look:
    network = load_network(options)
    preprocessing = network.weights.preprocessing
    image = see_image(path, preprocessing)
    for side in options.sizes:
        check_side(side, preprocessing.crop_size)
    class_index(network, "0")  # refuses a network without classes
    (root,) = layers.resolve_layers(network, [layers.ROOT])
    tap = one_tap(network, options.layer)
    pixels = normalized(network, image.pixels[None])
    _, totals = layers.strongest_units(network, tap, pixels)
    _, scores = layers.strongest_units(network, root, pixels)
    probabilities = heads.to_probabilities(scores)[0]
    index = int(probabilities.argmax())
    if options.class_name is not None:
        index = class_index(network, options.class_name)
    unit = int(totals[0].argmax())
    found = [
        _maps(network, (tap, root), image, replace(options, sizes=(side,)), progress)
        for side in options.sizes
    ]
    whole = float(totals[0, unit])
    maps = [_record(network, image, one, unit, index) for one in found]
    record: dict[str, Any] = {
        "image": image.path,
        "model": network.name,
        "class": class_name(network, index),
        "probability": float(probabilities[index]),
        "layer": tap.name,
        "unit": unit,
        "activation": whole,
        "fill": options.fill,
        "maps": maps,
    }
    record["classes"] = {
        str(k): class_name(network, k)
        for k in sorted(
            {k for m in record["maps"] for k in np.unique(m["most_probable"]).tolist()}
        )
    }
    return Look(
        record=record,
        draw=lambda: report.plot_panels(
            _panels(network, tap, image, record), n_columns=5, width=2.7
        ),
        title=f"Occlusion of {image.path}",
        answer=_answer(record),
        alt="The image, the strongest map's projection, and three maps of what "
        "covering each part does.",
        origins=origins_of(network, image=image.path, fill=options.fill),
    )


def _maps(
    network: networks.Network,
    taps: tuple[layers.Tap, layers.Tap],
    image: Seen,
    options: OcclusionOptions,
    progress: Progress | None,
) -> dict[str, Any]:
    """Return the averaged maps and the scores of all squares of one size."""
    (side,) = options.sizes
    cover = cover_of(options.fill, image.pixels, network.weights.preprocessing)
    source = OccludedSource(image.pixels, cover, side, options.stride)
    extractor, how = _extractor(network, taps, source, options)
    sink = extraction.ArraySink(source.n_images, extractor.specs)

    def done(batch: Batch) -> None:
        if progress:
            progress(batch.stop, source.n_images, 0)

    extraction.run(source, extractor, sink, done=done)
    if isinstance(extractor, extraction.IncrementalExtractor):
        how["share"] = extractor.share
    else:
        extractor.close()
    tap, root = taps
    return {
        "source": source,
        "side": side,
        "means": sink.features[tap.name],
        "scores": sink.features[root.name],
        "n_positions": _n_positions(tap),
        **how,
    }


def _extractor(
    network: networks.Network,
    taps: tuple[layers.Tap, layers.Tap],
    source: OccludedSource,
    options: OcclusionOptions,
) -> tuple[extraction.IncrementalExtractor | extraction.Extractor, dict[str, Any]]:
    """Return what computes the squares: only what they reach, where that is less."""
    size = min(options.batch_size or _AT_ONCE, source.n_images)
    args = (network, taps, source.image_nhwc)
    try:
        tried = extraction.IncrementalExtractor(
            *args, source.places[:1], source.side, 1
        )
        middle = source.image_nhwc[None, None]
        tried.start(middle)
        if tried.share <= _WORTH_IT:
            extractor = extraction.IncrementalExtractor(
                *args, source.places, source.side, size
            )
            return extractor, {"computed": "incremental"}
    except extraction.NoFixedGraphError:
        pass
    whole = extraction.Extractor(
        network, [tap.name for tap in taps], pool="avg", batch_size=size
    )
    whole.open().plan(source)
    return whole, {"computed": "batches"}


def _n_positions(tap: layers.Tap) -> int:
    if tap.tokens is not None:
        return tap.tokens.grid[0] * tap.tokens.grid[1]
    sides = tap.shape[:-1] if tap.channels_last else tap.shape[1:]
    return int(np.prod(sides, dtype=int))


def _record(
    network: networks.Network,
    image: Seen,
    found: dict[str, Any],
    unit: int,
    index: int,
) -> dict[str, Any]:
    source: OccludedSource = found["source"]
    upper, left = source.starts
    shape = (len(upper), len(left))
    probabilities = heads.to_probabilities(found["scores"])
    activation = found["means"][:, unit] * found["n_positions"]
    lowest = int(probabilities[:, index].argmin())
    y, x = source.places[lowest]
    side = found["side"]
    region = (x, y, x + side, y + side)
    box = network.weights.preprocessing.source_box(image.size, region)
    return {
        "size": side,
        "n_squares": source.n_images,
        "computed": found["computed"],
        "share": found.get("share"),
        "lowest": {
            "probability": float(probabilities[lowest, index]),
            "region": list(region),
            "source_box": [round(value, 2) for value in box],
            "activation": float(activation[lowest]),
        },
        "upper": upper,
        "left": left,
        "activation": activation.reshape(shape).tolist(),
        "probability": probabilities[:, index].reshape(shape).tolist(),
        "most_probable": probabilities.argmax(1).reshape(shape).tolist(),
    }


def _answer(record: dict[str, Any]) -> str:
    lowest = min(record["maps"], key=lambda one: one["lowest"]["probability"])
    return (
        f"{record['class']} has probability {record['probability']:.3f}, and "
        f"{lowest['lowest']['probability']:.3f} where the worst square of "
        f"{lowest['size']} pixels is covered."
    )


def _panels(
    network: networks.Network, tap: layers.Tap, image: Seen, record: dict[str, Any]
) -> list[report.Panel]:
    method = "deconvnet" if layers.is_rectified(network, tap) else "gradient"
    aim = layers.Aim([record["unit"]], whole=True)
    pixels = normalized(network, image.pixels[None])
    back = layers.project(network, tap, pixels, aim, method)
    projection = report.signed_image(np.moveaxis(back.signal[0], 0, -1))
    names = {int(key): name for key, name in record["classes"].items()}
    panels = []
    for one in record["maps"]:
        region = tuple(one["lowest"]["region"])
        panels += [
            report.Panel(
                image.pixels, f"{record['class']}; the worst square", boxes=[region]
            ),
            report.Panel(
                np.array(one["activation"]),
                f"{record['layer']}, unit {record['unit']}: sum of the map",
                "heat",
            ),
            report.Panel(projection, f"that map by {method}"),
            report.Panel(
                np.array(one["probability"]), f"probability, {one['size']} px", "heat"
            ),
            report.Panel(
                np.array(one["most_probable"]), "most probable", "classes", names=names
            ),
        ]
    return panels
