"""One activation, or a class, taken back to the pixels of an image.

Zeiler and Fergus 2014, section 2, and what came after them; `layers.project` has the
methods. Adebayo et al. 2018 (arXiv 1810.03292) ask whether a method sees the weights at
all: `--sanity` repeats their cascading randomisation.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from cnnfeat import layers, networks, report
from cnnfeat.errors import LayerError, OptionError
from cnnfeat.visualize._look import Look, load_network, origins_of, published
from cnnfeat.visualize._options import ProjectOptions
from cnnfeat.visualize._pixels import (
    Seen,
    class_index,
    class_name,
    grid_of,
    normalized,
    one_tap,
    see_image,
)

_AUTO = "auto"
_STRONGEST, _WHOLE = "strongest", "all"
_CAMS = ("grad-cam", "layer-cam")


@dataclass(frozen=True, eq=False)
class _Target:
    """What is taken back: a unit of a tap; a class for the maps of a layer."""

    tap: layers.Tap
    unit: int
    position: tuple[int, int] | None
    whole: bool
    method: str
    is_class: bool


@dataclass(frozen=True, eq=False)
class _Found:
    """What came back: of CAMs a map, else a signal for each value of the pixels."""

    values: np.ndarray  # (3, h, w), or (h', w') of a CAM
    activation: float
    position: tuple[int, int] | None = None
    completeness: float | None = None
    n_steps: int = 0


def project_image(path: str, options: ProjectOptions | None = None) -> dict[str, Any]:
    """Return what an activation is made of, and draw it.

    Parameters
    ----------
    path : str
        An image.
    options : ProjectOptions, optional

    Returns
    -------
    dict
        `method`, `layer`, `unit`, `class`, `position` and `activation`; `region` is
        what the position sees in pixels of the crop, and `source_box` in those of the
        image: left, upper, right, lower. Of `integrated` `completeness` and `n_steps`.
        With `sanity`, `rank_correlation` (Spearman's, of absolute values) by what had
        been randomised.

    Raises
    ------
    LayerError
        If there is no such layer, unit, position or class, or the method has no
        meaning for the network.
    OptionError
        If options contradict each other.
    InputError, NetworkError, WeightsError, DeviceError, OutputError
        As their names say.
    """
    options = options or ProjectOptions()
    _check(options)
    return published(options, [path], lambda: _look(path, options))


def _check(options: ProjectOptions) -> None:
    is_cam = options.method in _CAMS
    if options.unit is not None and (is_cam or options.class_name or not options.layer):
        raise OptionError(
            "`unit` is of a `layer`: it goes with neither `class_name` nor the maps of "
            "a class, `method=grad-cam` and `method=layer-cam`"
        )
    if options.layer and options.class_name and not is_cam:
        raise OptionError(
            "`layer` and `class_name` contradict each other, save for grad-cam and "
            "layer-cam, whose maps of a class are taken at a layer"
        )
    if options.position != _STRONGEST and (is_cam or not options.layer):
        raise OptionError("`position` is of a `layer`'s map: give `layer` as well")
    _position(options.position)


def _position(text: str) -> tuple[int, int] | None:
    """Return the row and column that are named; None for the strongest and for all."""
    if text in (_STRONGEST, _WHOLE):
        return None
    row, comma, column = text.partition(",")
    if not (comma and row.strip().isdecimal() and column.strip().isdecimal()):
        raise OptionError(
            f"`position={text}` is none: expected strongest, all or ROW,COLUMN"
        )
    return int(row), int(column)


def _look(path: str, options: ProjectOptions) -> Look:
    network = load_network(options)
    image = see_image(path, network.weights.preprocessing)
    pixels = normalized(network, image.pixels[None])
    target = _target(network, pixels, options)
    found = _taken_back(network, target, pixels)
    record = {
        "image": image.path,
        "model": network.name,
        "method": target.method,
        "layer": target.tap.name,
        "unit": None if target.is_class else target.unit,
        "class": class_name(network, target.unit) if target.is_class else None,
        "activation": found.activation,
        **_place(network, image, target, found),
    }
    if found.completeness is not None:
        record |= {"completeness": found.completeness, "n_steps": found.n_steps}
    panels = _panels(image, record, found)
    if options.sanity:
        fixed = replace(target, position=found.position)
        told, more = _sanity(network, fixed, pixels, image, found)
        record, panels = {**record, "rank_correlation": told}, [*panels, *more]
    what = record["class"] or f"unit {target.unit} of {target.tap.name}"
    return Look(
        record=record,
        draw=lambda: report.plot_panels(panels, n_columns=4 if options.sanity else 2),
        title=f"{what}, {target.method}",
        answer=_answer(record),
        alt=f"The image beside what {what} is made of in it.",
        origins=origins_of(network, image=image.path, method=target.method),
    )


def _answer(record: dict[str, Any]) -> str:
    told = record.get("rank_correlation")
    if not told:
        return ""
    last = told[-1]
    return (
        f"With all weights from {last['from']} up randomised, the rank correlation "
        f"with the picture above is {last['value']:.2f}: a method that shows what the "
        "network has learnt would be near 0."
    )


def _target(
    network: networks.Network, pixels: torch.Tensor, options: ProjectOptions
) -> _Target:
    is_cam = options.method in _CAMS
    is_class = is_cam or not options.layer
    (root,) = layers.resolve_layers(network, [layers.ROOT])
    tap = one_tap(network, options.layer) if is_cam or options.layer else root
    unit = options.unit
    if options.class_name is not None:
        unit = class_index(network, options.class_name)
    elif unit is None:
        if is_class:
            class_index(network, "0")  # refuses a network without classes
        largest, _ = layers.strongest_units(network, root if is_class else tap, pixels)
        unit = int(largest[0].argmax())
    method = options.method
    if method == _AUTO:
        method = "deconvnet" if layers.is_rectified(network, tap) else "gradient"
    position = _position(options.position)
    return _Target(tap, unit, position, options.position == _WHOLE, method, is_class)


def _taken_back(
    network: networks.Network, target: _Target, pixels: torch.Tensor
) -> _Found:
    if target.method in _CAMS:
        maps, scores = layers.class_maps(
            network, target.tap, pixels, [target.unit], target.method
        )
        return _Found(maps[0], float(scores[0]))
    places = None if target.position is None else [target.position]
    aim = layers.Aim([target.unit], places, target.whole)
    back = layers.project(network, target.tap, pixels, aim, target.method)
    return _Found(
        back.signal[0],
        float(back.activations[0]),
        None if target.whole else back.positions[0],
        back.completeness,
        back.n_steps,
    )


def _place(
    network: networks.Network, image: Seen, target: _Target, found: _Found
) -> dict[str, Any]:
    """Return the position, and what it sees of the crop and of the image."""
    grid = grid_of(network, target.tap)
    if found.position is None or target.is_class:
        return {}
    place: dict[str, Any] = {"position": list(found.position)}
    if grid is not None:
        region = grid.region(*found.position)
        box = network.weights.preprocessing.source_box(image.size, region)
        place |= {"region": list(region), "source_box": [round(x, 2) for x in box]}
    return place


def _panels(image: Seen, record: dict[str, Any], found: _Found) -> list[report.Panel]:
    what = record["class"] or f"{record['layer']}, unit {record['unit']}"
    shown = _picture(image, found)
    region = record.get("region")
    height, width = image.pixels.shape[:2]
    boxes = [_within(region, width, height)] if region else []
    panels = [
        report.Panel(image.pixels, what, boxes=boxes),
        report.Panel(shown, record["method"], boxes=boxes),
    ]
    if not boxes or boxes[0] == (0, 0, width, height):
        return panels
    left, upper, right, lower = boxes[0]
    rows, columns = slice(upper, lower), slice(left, right)
    return [
        *panels,
        report.Panel(image.pixels[rows, columns], "what the position sees"),
        report.Panel(
            report.signed_image(np.moveaxis(found.values, 0, -1)[rows, columns]),
            "what it is made of",
        ),
    ]


def _within(region: list[int], width: int, height: int) -> tuple[int, int, int, int]:
    left, upper, right, lower = region
    return max(left, 0), max(upper, 0), min(right, width), min(lower, height)


def _picture(image: Seen, found: _Found) -> np.ndarray:
    """Return what came back as an image: of a map, laid over the pixels."""
    if found.values.ndim == 3:
        return report.signed_image(np.moveaxis(found.values, 0, -1))
    return report.heat_over(image.pixels, _enlarged(found.values, image.pixels.shape))


def _enlarged(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return a map interpolated to the pixels of the crop."""
    large = torch.nn.functional.interpolate(
        torch.from_numpy(values)[None, None],
        size=shape[:2],
        mode="bilinear",
        align_corners=False,
    )
    enlarged: np.ndarray = large[0, 0].numpy()
    return enlarged


def _sanity(
    network: networks.Network,
    target: _Target,
    pixels: torch.Tensor,
    image: Seen,
    found: _Found,
) -> tuple[list[dict[str, Any]], list[report.Panel]]:
    """Return the rank correlations as weights go from the top down, and pictures."""
    other = networks.Network(
        network.name,
        copy.deepcopy(network.module),
        network.weights,
        network.device,
        network.n_classes,
    )
    generator = torch.Generator().manual_seed(0)
    told, panels = [], []
    for stage in reversed(layers.stages_below(network, target.tap, target.is_class)):
        for name in stage.modules:
            _randomise(other.module.get_submodule(name), generator)
        now = _taken_back(other, target, pixels)
        value = _rank_correlation(found.values, now.values)
        told.append({"from": stage.name, "value": value})
        panels.append(
            report.Panel(_picture(image, now), f"random from {stage.name}: {value:.2f}")
        )
    if not told:
        raise LayerError(f"there are no weights below {target.tap.name} to randomise")
    return told, panels


def _randomise(module: torch.nn.Module, generator: torch.Generator) -> None:
    """Draw the kernels anew, of the same mean and spread; biases and norms stay."""
    for parameter in module.parameters():
        if parameter.ndim > 1:
            drawn = torch.randn(parameter.shape, generator=generator)
            values = parameter.detach()
            drawn = drawn.to(values) * values.std() + values.mean()
            parameter.data.copy_(drawn)


def _rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return Spearman's, of absolute values, where either signal is not zero."""
    a, b = np.abs(first).ravel(), np.abs(second).ravel()
    there = (a > 0) | (b > 0)
    if np.count_nonzero(there) < 2 or not np.ptp(a[there]) or not np.ptp(b[there]):
        return 0.0
    return float(spearmanr(a[there], b[there]).statistic)
