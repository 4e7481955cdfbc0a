"""The verb that tells what is there: files of ours, layers of a network, networks."""

from dataclasses import asdict
from typing import Any

# Rooms, not names from them: describing a head file must not wait for torch.
from cnnfeat import layers, networks, store, suffixes


def describe_file(path: str) -> dict[str, Any]:
    """Return what a feature, head or weights file holds, as JSON can hold it.

    Raises
    ------
    StoreError, WeightsError
        If the file is none of these, or damaged.
    """
    if suffixes.suffix_of(path) in suffixes.WEIGHTS:
        return networks.weights_summary(path)
    return store.file_summary(path)


def describe_layers(model: str) -> list[dict[str, Any]]:
    """Return the fields of `LayerInfo` for each layer of the network called `model`.

    Raises
    ------
    NetworkError
        If there is no such network; the nearest names are offered.
    """
    network = networks.load_network(model, weights="random", device="cpu")
    return [asdict(info) for info in layers.layer_table(network)]


def describe_models(pattern: str | None = None) -> list[dict[str, Any]]:
    """Return the fields of `NetworkEntry` for each network that matches a pattern.

    Raises
    ------
    NetworkError
        If nothing matches; the nearest names are offered.
    """
    return [asdict(entry) for entry in networks.list_networks(pattern)]
