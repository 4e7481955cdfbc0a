"""Load a network by name with its weights; list what can be loaded.

`load_network` is the only way in: it joins an architecture with weights from the
published file, a file of the user's, or a seed, and returns a frozen `Network`.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnfeat.errors import CnnfeatWarning, NetworkError, WeightsError
from cnnfeat.images import Preprocessing
from cnnfeat.machine import resolve_device
from cnnfeat.networks import _weights as state_dicts
from cnnfeat.networks._architectures import (
    EMBEDDED_PARAMETERS,
    Architecture,
    cached_timm,
    find_architecture,
    hub_and_url,
    network_names,
    timm,
    torchvision,
    unknown_network,
)
from cnnfeat.networks._classifier import restore_classifier
from cnnfeat.networks._fitting import (
    class_count,
    classifier_width,
    load_state_dict,
    strip_prefix,
    told_of_fit,
)
from cnnfeat.networks._known import (
    EMBEDDED,
    TIMM_PREFIX,
    NetworkEntry,
    matching_names,
)
from cnnfeat.networks._network import Network, WeightsRecord
from cnnfeat.networks._official import official_names, official_path
from cnnfeat.networks._pixels import PIXELS, load_pixels
from cnnfeat.networks._sizes import LoadOptions, changed


def load_network(
    name: str,
    *,
    weights: str | Path = "default",
    seed: int = 0,
    device: str = "auto",
    options: LoadOptions | None = None,
) -> Network:
    """Return the network `name`, frozen, with its weights record.

    Parameters
    ----------
    name : str
        A torchvision classification network, `timm/NAME`, `efficientnet_lite0`,
        `pixels` (the image itself, for comparison), or the import path of a callable
        that returns an `nn.Module`, `package.module:factory`. That runs it.
    weights : str or Path, default="default"
        `default` for the published ImageNet weights (those that a factory's module
        has), `random` for the architecture's
        own initialisation, or the path of a `.pth` or `.safetensors` file or of an
        index of several (`.index.json`), or of a folder with the published file.
    seed : int, default=0
        Of the random weights. Torch's own generators are left as they were.
    device : str, default="auto"
        `auto`, `cpu`, `cuda` or `cuda:N`.
    options : LoadOptions, optional
        Another size of input, another preprocessing, names that may be missing.

    Raises
    ------
    NetworkError
        If there is no such network, its import path does not lead to one, it does not
        take the size, or nobody says how its images are prepared.
    WeightsError
        If the weights cannot be fetched or read, or belong to another architecture.
    DeviceError
        If the device is not there.

    Warns
    -----
    CnnfeatWarning
        If a file's names had a prefix, or were not all the network's: one line.
    """
    target = resolve_device(device)
    if name == PIXELS:
        return load_pixels(str(weights), target)
    architecture = find_architecture(name)
    options = options or LoadOptions()
    if weights == "default" and architecture.is_own:
        network = _load_own(architecture, target)
    elif weights == "random":
        network = _load_random(architecture, seed, target)
    elif weights == "default":
        network = _load_default(architecture, target)
    else:
        network = _load_file(architecture, Path(weights), target, options.allow_missing)
    is_told = options.preprocessing or "preprocessing" in network.weights.metadata
    if architecture.is_own and not is_told:
        raise NetworkError(
            f"network {name!r}: no weights record says how its images are prepared; "
            "give `preprocessing=FILE.json`, or the name of a network whose it has"
        )
    return changed(network, options)


def _load_random(
    architecture: Architecture, seed: int, device: torch.device
) -> Network:
    with _seeded(seed):
        module = architecture.build(None)
    record = WeightsRecord(
        name=f"random (seed {seed})",
        source="random",
        sha256=state_dicts.state_digest(module.state_dict()),
        preprocessing=architecture.preprocessing,
        seed=seed,
    )
    return _network_of(architecture, module, record, device)


def _load_own(architecture: Architecture, device: torch.device) -> Network:
    """Return what the user's code builds, with the weights that it has."""
    with _seeded(0):
        module = architecture.build(None)
    record = WeightsRecord(
        name=architecture.weights_name,
        source=architecture.source,
        sha256=state_dicts.state_digest(module.state_dict()),
        preprocessing=architecture.preprocessing,
    )
    return _network_of(architecture, module, record, device)


def _network_of(
    architecture: Architecture,
    module: nn.Module,
    record: WeightsRecord,
    device: torch.device,
) -> Network:
    n_classes = _network_width(architecture, module)
    return Network(architecture.name, module, record, device, n_classes)


def _network_width(architecture: Architecture, module: nn.Module) -> int:
    """Return the number of class scores; of the user's own it is looked up."""
    return classifier_width(module) if architecture.is_own else architecture.n_classes


def _load_default(
    architecture: Architecture, device: torch.device, given: Path | None = None
) -> Network:
    """Return the network with its published weights, or their copy that is given."""
    path = given or architecture.fetch()
    state, _ = state_dicts.read_state_dict(path)
    with _seeded(0):
        module = _build_default(architecture, state, path)
    record = WeightsRecord(
        name=architecture.weights_name,
        source=os.path.abspath(given) if given else architecture.source,
        sha256=state_dicts.file_digest(path),
        preprocessing=architecture.preprocessing,
        class_names=architecture.class_names,
        published=architecture.published,
    )
    return Network(architecture.name, module, record, device, architecture.n_classes)


def _build_default(
    architecture: Architecture, state: state_dicts.StateDict, path: Path
) -> nn.Module:
    where = f"weights {str(path)!r} for {architecture.name!r}"
    if architecture.build_from is not None:
        try:
            return architecture.build_from(state)
        except (RuntimeError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise WeightsError(f"{where}: of another architecture: {reason}") from error
    module = architecture.build(None)
    load_state_dict(module, architecture.adapt(state, module), where)
    return module


def _load_file(
    architecture: Architecture,
    path: Path,
    device: torch.device,
    allow_missing: tuple[str, ...] = (),
) -> Network:
    if os.path.isdir(path):  # not `is_dir`, which fails for a name too long
        path = official_path(architecture, path)
    if architecture.build_from is not None and path.name in official_names(
        architecture
    ):
        return _load_default(architecture, device, path)
    stored = state_dicts.read_weights(path)
    metadata = stored.metadata
    where = f"weights {str(path)!r} for {architecture.name!r}"
    if metadata.get("model", architecture.name) != architecture.name:
        raise WeightsError(
            f"{where}: the file says it is of {metadata['model']!r}; "
            f"use `model={metadata['model']}`"
        )
    with _seeded(0):
        module = architecture.build(None)
        stripped = strip_prefix(stored.state, module.state_dict(), where)
        state = architecture.adapt(stripped.state, module)
        n_classes = class_count(state, module)
        if n_classes is not None:
            module = architecture.build(n_classes)
    fit = load_state_dict(module, state, where, allow_missing)
    restore_classifier(module, metadata, where)
    if n_classes is None:
        n_classes = _network_width(architecture, module)
    record = _file_record(
        architecture, path, metadata, n_classes if fit.has_classifier else 0, where
    )
    is_plain = not (stripped.prefix or fit.missing or fit.left_out or stored.others)
    if not is_plain:
        told = told_of_fit(fit, stripped, stored)
        record = replace(record, match=told, allow_missing=allow_missing)
        warnings.warn(f"{where}: {told}", CnnfeatWarning, stacklevel=3)
    return Network(architecture.name, module, record, device, n_classes)


def _file_record(
    architecture: Architecture,
    path: Path,
    metadata: dict[str, Any],
    n_classes: int,
    where: str,
) -> WeightsRecord:
    """Return the record: the file's own word first, then the published weights'.

    Published accuracies are kept only where the digest shows that it is that file, and
    class names only where the file has scores for them (`n_classes` is not 0).
    """
    digest = state_dicts.weights_digest(path)
    prefix = architecture.digest_prefix
    same_count = n_classes == architecture.n_classes
    try:
        class_names = tuple(
            metadata.get("class_names", architecture.class_names if same_count else ())
        )
        preprocessing = architecture.preprocessing
        if "preprocessing" in metadata:
            preprocessing = Preprocessing.from_dict(metadata["preprocessing"])
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise WeightsError(f"{where}: its cnnfeat metadata is damaged") from error
    if class_names and len(class_names) != n_classes:
        raise WeightsError(
            f"{where}: {len(class_names)} class names for {n_classes} classes"
        )
    is_published = prefix is not None and digest.startswith(prefix)
    return WeightsRecord(
        name=path.name,
        source=os.path.abspath(path),  # found again from any folder
        sha256=digest,
        preprocessing=preprocessing,
        class_names=class_names,
        published=architecture.published if is_published else {},
        metadata=metadata,
    )


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's CPU generator, and give it back as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        yield


def list_networks(pattern: str | None = None) -> list[NetworkEntry]:
    """Return the networks of the installed libraries that match, without building any.

    Parameters
    ----------
    pattern : str, optional
        A glob, or a part of the name; see `matching_names`. By default the embedded
        one and all of torchvision's.

    Raises
    ------
    NetworkError
        If nothing matches; the nearest names are offered.
    """
    names = matching_names(network_names(), pattern)
    if not names:
        raise unknown_network(pattern or "*")
    return [
        _timm_entry(name) if name.startswith(TIMM_PREFIX) else _entry(name)
        for name in names
    ]


def _entry(name: str) -> NetworkEntry:
    architecture = find_architecture(name)
    path = architecture.cached()
    return NetworkEntry(
        name=name,
        source="package" if name == EMBEDDED else "torchvision",
        n_parameters=_n_parameters(name),
        top_1=architecture.published.get("top_1"),
        offline=path is not None,
        weights_path=None if path is None else str(path),
    )


def _n_parameters(name: str) -> int:
    if name == EMBEDDED:
        return EMBEDDED_PARAMETERS
    return int(torchvision.models.get_model_weights(name).DEFAULT.meta["num_params"])


def _timm_entry(name: str) -> NetworkEntry:
    config = timm.get_pretrained_cfg(name.removeprefix(TIMM_PREFIX))
    path = cached_timm(*hub_and_url(config))
    found = None if path is None else str(path)
    return NetworkEntry(name, "timm", None, None, path is not None, found)
