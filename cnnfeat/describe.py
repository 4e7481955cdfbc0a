"""The verb that tells what is there: files of ours, layers of a network, networks."""

import difflib
from dataclasses import asdict
from typing import Any

# Rooms, not names from them: describing a head file must not wait for torch.
from cnnfeat import layers, networks, store, suffixes
from cnnfeat.errors import LayerError

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
        f"{layer['name']}: `pool={layer['pool']}` of an earlier version took all "
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


def describe_layers(
    model: str,
    pattern: str | None = None,
    *,
    every: bool = False,
    input_size: int | None = None,
    preprocessing: str | None = None,
) -> list[dict[str, Any]]:
    """Return the fields of `LayerInfo` for layers of the network called `model`.

    Parameters
    ----------
    model : str
        Networks of the shipped table answer at once, others are built.
    pattern : str, optional
        A glob, or a part of the name; all that match.
    every : bool, default=False
        All that computes, in place of blocks, stages, pools and classifier.
    input_size : int, optional
        Side of the images in pixels, in place of the network's own.
    preprocessing : str, optional
        As for `read_preprocessing`; a network of the user's own needs it.

    Raises
    ------
    NetworkError
        If there is no such network; the nearest names are offered.
    LayerError
        If no layer matches.
    """
    is_own_size = input_size is None and preprocessing is None
    rows = layers.known_layers(model) if is_own_size else None
    if rows is None:
        told = networks.read_preprocessing(preprocessing) if preprocessing else None
        options = networks.LoadOptions((), input_size, told)
        network = networks.load_network(
            model, weights="random", device="cpu", options=options
        )
        rows = layers.all_layers(network)
    if pattern:
        found = layers.matching_layers(rows, pattern)
        if not found:
            near = difflib.get_close_matches(pattern, [row.name for row in rows], 3)
            hint = f"nearest: {', '.join(near)}; " if near else ""
            raise LayerError(
                f"no layer of {model!r} matches {pattern!r}; {hint}"
                f"cnnfeat layers {model} --all lists them"
            )
    else:
        found = layers.computing_layers(rows) if every else layers.main_layers(rows)
    return [asdict(row) for row in found]


def describe_models(pattern: str | None = None) -> list[dict[str, Any]]:
    """Return the fields of `NetworkEntry` for each network that matches a pattern.

    The shipped table is searched, and where nothing in it matches, the libraries.

    Raises
    ------
    NetworkError
        If nothing matches; the nearest names are offered.
    """
    found = networks.search_networks(pattern) or networks.list_networks(pattern)
    return [asdict(entry) for entry in found]


def known_models() -> list[str]:
    """Return the names of the networks in the shipped table."""
    return list(networks.known_networks())


def known_layer_names(model: str) -> list[str]:
    """Return the layers of a network in the shipped table; none of any other."""
    return [row.name for row in layers.known_layers(model) or ()]
