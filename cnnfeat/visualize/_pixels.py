"""One image as a network sees it, what a layer looks at in it, and class names."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass

import numpy as np
import torch

from cnnfeat import extraction, layers, networks
from cnnfeat.errors import InputError, LayerError
from cnnfeat.images import Preprocessing, list_images, printable, read_original


@dataclass(frozen=True, eq=False)
class Seen:
    """An image as a network sees it.

    Attributes
    ----------
    path : str
    pixels : ndarray of shape (h, w, 3), dtype=uint8
        The centre crop.
    size : (width, height)
        Of the image before it was resized.
    """

    path: str
    pixels: np.ndarray
    size: tuple[int, int]


def see_image(path: str, preprocessing: Preprocessing) -> Seen:
    """Return the image at `path`, cropped as the network's weights want it.

    Raises
    ------
    InputError
        If there is no such image, more than one, or it cannot be read.
    """
    table = list_images(path)
    if len(table) != 1 or os.path.isdir(path):
        raise InputError(
            f"{printable(path)}: expected one image, found {len(table)} images"
        )
    source = extraction.ImageSource(table, preprocessing, workers=0)
    batches = source.batches(1)
    try:
        batch = next(batches)
    finally:
        batches.close()
    if not batch.ok[0]:
        raise InputError(f"{printable(path)}: {batch.errors[0]}")
    height, width = read_original(table, 0).shape[:2]
    return Seen(printable(path), batch.images_nhwc[0, 0], (width, height))


def normalized(network: networks.Network, images_nhwc: np.ndarray) -> torch.Tensor:
    """Return uint8 images (n, h, w, 3) as the network reads them, on its device."""
    pixels = torch.from_numpy(np.ascontiguousarray(images_nhwc)).to(network.device)
    return network.weights.preprocessing.normalize(pixels)


def one_tap(network: networks.Network, layer: str | None) -> layers.Tap:
    """Return the tap of a layer, by default of the last one with maps.

    Raises
    ------
    LayerError
        If the name stands for no layer, or for several.
    """
    taps = layers.resolve_layers(network, [layer or layers.last_maps(network)])
    if len(taps) != 1:
        names = ", ".join(tap.name for tap in taps[:5])
        raise LayerError(
            f"{layer!r} stands for {len(taps)} layers ({names}, …): give one"
        )
    return taps[0]


def grid_of(network: networks.Network, tap: layers.Tap) -> layers.Grid | None:
    """Return what each position of a tapped map sees; None where that is all."""
    call = layers.trace_of(network).find(tap.module, tap.call)
    if call is None:
        return None
    if tap.side == "in":
        return call.input.grid if call.input else None
    output = call.outputs.get(tap.element or "")
    return output.grid if output else None


def class_index(network: networks.Network, name: str) -> int:
    """Return the output that a class name, or a number from 0, stands for.

    Raises
    ------
    LayerError
        If the network has no class scores, or not this class.
    """
    names = network.weights.class_names
    n_classes = network.n_classes
    if not n_classes:
        raise LayerError(
            f"{network.name!r} has no classifier, so `class_name` means nothing: give "
            "`layer` and `unit`"
        )
    if name in names:
        return names.index(name)
    if name.isdecimal() and int(name) < n_classes:
        return int(name)
    near = difflib.get_close_matches(name, names, n=3)
    hint = f"nearest: {', '.join(near)}" if near else f"0 to {n_classes - 1} will do"
    raise LayerError(f"{network.name!r} has no class {name!r}; {hint}")


def class_name(network: networks.Network, index: int) -> str:
    """Return the name of an output, its number where it has none."""
    names = network.weights.class_names
    return names[index] if names else str(index)
