"""Which network to load: said once, kept in files, and asked for again from them."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from cnnfeat.errors import NetworkError, WeightsError
from cnnfeat.networks._architectures import find_architecture
from cnnfeat.networks._factories import is_import_path
from cnnfeat.networks._network import Network
from cnnfeat.networks._pixels import PIXELS
from cnnfeat.networks._registry import load_network
from cnnfeat.networks._sizes import LoadOptions, given_preprocessing
from cnnfeat.networks._weights import file_digest


@dataclass(frozen=True)
class NetworkRequest:
    """Which network to load, and where: the arguments of `load_network`, kept."""

    model: str
    weights: str = "default"
    seed: int = 0
    device: str = "auto"
    options: LoadOptions = field(default_factory=LoadOptions)

    @classmethod
    def of_provenance(
        cls, told: Mapping[str, str], device: str = "auto"
    ) -> "NetworkRequest":
        """Return the request for the network that a file's provenance names.

        A weights file that is gone gives way to the published weights where these are
        the same ones.

        Raises
        ------
        WeightsError
            If they are not: nothing else is fetched in their place.
        NetworkError
            If it names code by an import path: no file makes us run any.
        """
        if is_import_path(told["model"]):
            raise NetworkError(
                f"the features are of {told['model']!r}, code of somebody's own, which "
                "is not run because a file names it; extract features and evaluate them"
            )
        source, model = told.get("weights", "default"), told["model"]
        is_there = source == "random" or os.path.isfile(source)
        if not is_there and _is_path(source) and not _is_published(told):
            raise WeightsError(
                f"weights {source!r}: no such file, and the features were computed "
                f"with it; put it back, or run where that path leads to it"
            )
        seed = int(told.get("weights_seed") or 0)
        globs = told.get("weights_allow_missing", "")
        side = told.get("input_size", "")
        is_given = "preprocessing_given" in told
        options = LoadOptions(
            allow_missing=tuple(globs.split(",")) if globs else (),
            input_size=int(side) if side.isdecimal() else None,
            preprocessing=given_preprocessing(told["preprocessing"])
            if is_given
            else None,
        )
        return cls(model, source if is_there else "default", seed, device, options)

    def load(self) -> Network:
        """Return the network; see `load_network`."""
        return load_network(
            self.model,
            weights=self.weights,
            seed=self.seed,
            device=self.device,
            options=self.options,
        )


def _is_path(source: str) -> bool:
    """Tell the path of a file from where published weights come from."""
    return source != "default" and not re.match(r"[a-z-]{2,}:", source)


def _is_published(told: Mapping[str, str]) -> bool:
    """Tell whether the published weights have the digest that a provenance names."""
    if told["model"] == PIXELS:
        return True
    architecture, digest = find_architecture(told["model"]), told["weights_sha256"]
    if architecture.digest_prefix is not None:
        return digest.startswith(architecture.digest_prefix)
    path = architecture.cached()
    return path is not None and file_digest(path) == digest
