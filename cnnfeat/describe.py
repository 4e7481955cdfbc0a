"""The verb that tells what is there: files of ours, layers of a network, networks."""

from dataclasses import asdict
from typing import Any

# Rooms, not names from them: describing a head file must not wait for torch.
from cnnfeat import layers, networks, store, suffixes

# Whose names say that they are of tokens, for files that do not.
_TOKEN_FAMILIES = ("vit_", "deit", "eva", "beit", "cait", "test_vit")


def describe_file(path: str) -> dict[str, Any]:
    """Return what a feature, head or weights file holds, as JSON can hold it.

    Raises
    ------
    StoreError, WeightsError
        If the file is none of these, or damaged.
    """
    if suffixes.suffix_of(path) in suffixes.WEIGHTS:
        return networks.weights_summary(path)
    summary = store.file_summary(path)
    notes = [
        f"{layer['name']}: --pool {layer['pool']} of an earlier version took all "
        "tokens, those before the patches among them; extract again for the patches "
        "alone"
        for layer in summary["layers"]
        if _is_of_all_tokens(summary["provenance"], layer)
    ]
    return {**summary, "notes": notes} if notes else summary


def _is_of_all_tokens(provenance: dict[str, str], layer: dict[str, Any]) -> bool:
    """Say whether an earlier version averaged a transformer's tokens.

    It wrote nothing down of tokens; the model's name has to tell.
    """
    is_pooled = layer["pool"] in ("avg", "max") and len(layer["shape"]) == 1
    model = provenance.get("model", "").removeprefix("timm/")
    is_earlier = "averaged_tokens" not in provenance
    return is_earlier and is_pooled and model.startswith(_TOKEN_FAMILIES)


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
