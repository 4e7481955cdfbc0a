"""The layers of a feature file: as they are stored, and as a user names them."""

import difflib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import h5py

from cnnfeat.errors import LayerError, StoreError
from cnnfeat.layer_spec import LayerSpec

_PARTS = re.compile(r"(\d+)").split  # text and numbers in turn, text first


def read_layers(file: h5py.File) -> dict[str, LayerSpec]:
    """Return the layers by their datasets' names, in the order they were asked for."""
    return {
        name: _read_spec(name, dataset)
        for name, dataset in sorted(file["/features"].items(), key=_place(file))
    }


def _place(file: h5py.File) -> Callable[[tuple[str, h5py.Dataset]], tuple[int, list]]:
    """Return a sort key that puts layers in the order in which they were asked for."""
    order: list[str] = json.loads(file.attrs.get("layer_order", "[]"))

    def key(item: tuple[str, h5py.Dataset]) -> tuple[int, list]:
        name = item[0]
        # Without a recorded order: as people count, features.3 before features.12.
        counted = [int(part) if part.isdecimal() else part for part in _PARTS(name)]
        return order.index(name) if name in order else len(order), counted

    return key


def _read_spec(name: str, dataset: h5py.Dataset) -> LayerSpec:
    if not isinstance(dataset, h5py.Dataset):
        raise StoreError(f"/features/{name} is not a dataset")
    attrs = dataset.attrs
    tokens: dict[str, Any] = {}
    if "token_grid" in attrs:
        height, width = (int(side) for side in attrs["token_grid"])
        tokens["token_grid"] = (height, width)
        tokens["n_prefix_tokens"] = int(attrs["n_prefix_tokens"])
    return LayerSpec(
        name=name,
        layer=str(attrs["layer"]),
        shape=tuple(int(size) for size in attrs["shape"]),
        pool=str(attrs["pool"]),
        before_nonlinearity=bool(attrs["before_nonlinearity"]),
        dtype=str(dataset.dtype),
        **tokens,
    )


def resolve_layer(
    layers: Mapping[str, LayerSpec], layer: str | None
) -> tuple[str, ...]:
    """Return the datasets that a user's word stands for; see `FeatureFile.resolve`.

    Raises
    ------
    LayerError
        What the file has or has not; the caller says which file.
    """
    if layer is None:
        return (_only(list(layers), "give `layer`"),)
    if layer in layers:
        return (layer,)
    return tuple(_named(layers, name) for name in layer.split("+"))


def _named(layers: Mapping[str, LayerSpec], name: str) -> str:
    if name in layers:
        return name
    tapped = [key for key, spec in layers.items() if spec.layer == name]
    if not tapped:
        raise LayerError(no_layer(layers, name))
    return _only(tapped, f"{name!r} names them all; give one")


def no_layer(layers: Mapping[str, LayerSpec], name: str) -> str:
    """Return the words for a file that has no layer of that name."""
    near = difflib.get_close_matches(name, list(layers), 3, 0.4)
    hint = f"; nearest: {', '.join(near)}" if near else ""
    return f"has no layer {name!r}{hint}; it has {', '.join(layers)}"


def _only(names: list[str], cure: str) -> str:
    if len(names) == 1:
        return names[0]
    raise LayerError(f"has {len(names)} layers ({', '.join(names)}): {cure}")
