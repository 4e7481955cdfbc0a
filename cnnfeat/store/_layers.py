"""The layers of a feature file: as they are stored, and as a user names them."""

import difflib
import re
from collections.abc import Mapping

import h5py

from cnnfeat.errors import LayerError
from cnnfeat.layer_spec import LayerSpec
from cnnfeat.readback import Field, Items, Json, Malformed, Number, Record, Text, Truth
from cnnfeat.store._schema import check_shape, find, read_attributes

_PARTS = re.compile(r"(\d+)").split  # text and numbers in turn, text first
LAYER_FIELDS: dict[str, Field] = {
    "layer": Text(),
    "shape": Items(Number(1, whole=True), at_least=1),
    "pool": Text(),
    "before_nonlinearity": Truth(),
}
TOKEN_FIELDS: dict[str, Field] = {
    "token_grid": Items(Number(1, whole=True), at_least=2, at_most=2),
    "n_prefix_tokens": Number(0, whole=True),
}


def read_layers(file: h5py.File, n_images: int) -> dict[str, LayerSpec]:
    """Return the layers by their datasets' names, in the order they were asked for.

    Raises
    ------
    Malformed
        If there is none, or a dataset is not what its attributes say; no row is read.
    """
    group = find(file, "/features", h5py.Group, "a group")
    specs = {name: _read_spec(group, name, n_images) for name in group}
    if not specs:
        raise Malformed("/features holds no layer")
    told = read_attributes(file, Record({}, {"layer_order": Json(Items(Text()))}))
    order: list[str] = told.get("layer_order", [])

    def place(name: str) -> tuple[int, list]:
        # Without a recorded order: as people count, features.3 before features.12.
        counted = [int(part) if part.isdecimal() else part for part in _PARTS(name)]
        return order.index(name) if name in order else len(order), counted

    return {name: specs[name] for name in sorted(specs, key=place)}


def _read_spec(group: h5py.Group, name: str, n_images: int) -> LayerSpec:
    dataset = find(group, name, h5py.Dataset, "a dataset")
    told = read_attributes(dataset, Record(LAYER_FIELDS, TOKEN_FIELDS))
    ours = {k: v for k, v in told.items() if k in LAYER_FIELDS or k in TOKEN_FIELDS}
    stored = {"name": Text().check("/features", name), "dtype": str(dataset.dtype)}
    spec = LayerSpec.from_dict({**stored, **ours})
    check_shape(dataset, (n_images, *spec.shape), {})
    return spec


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
