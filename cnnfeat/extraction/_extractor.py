"""A network and its taps as one thing: pixels in, rows of features out."""

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Self

import numpy as np
import torch

from cnnfeat._version import __version__
from cnnfeat.errors import CnnfeatWarning, DataError, LayerError
from cnnfeat.extraction._engines import ENGINES, TOLERANCES, Engine
from cnnfeat.extraction._interfaces import Source
from cnnfeat.extraction._planning import Planner
from cnnfeat.extraction._sources import ImageSource
from cnnfeat.extraction._tap_module import TapModule, stored_shape
from cnnfeat.image_table import ImageTable
from cnnfeat.images import N_CROPS, Preprocessing, check_decoder
from cnnfeat.layer_spec import LayerSpec
from cnnfeat.layers import (
    TOKEN_POOLS,
    Tap,
    check_has_tokens,
    last_tokens,
    resolve_layers,
    tapped_macs,
)
from cnnfeat.networks import Network, NetworkRequest, WeightsRecord


@dataclass
class _Opened:
    """What an extractor holds while it is open."""

    network: Network
    taps: list[Tap]
    module: TapModule
    pool: str
    engine: Engine | None = None


class Extractor:
    """Computes the features of a network's layers; the only one who taps.

    Opened on first use: the network is then loaded, and holds hooks until `close`. Use
    it as a context manager. Pickled, it is closed again: a worker elsewhere opens it.

    Parameters
    ----------
    network : Network or NetworkRequest
        A request is loaded when the extractor is opened, on the machine that does so.
    layers : sequence of str, default=()
        As for `resolve_layers`; () is the layer before the classifier.
    pool : {"none", "auto", "avg", "max", "pyramid"}
        Over the positions of the image; tokens before the patches are left out. `auto`
        is `avg` where no layer is named and the one before the classifier is a map of
        more than one position, else `none`.
    tokens : {"cls", "mean", "cls+mean", "patches", "registers", "all"}, optional
        Of a transformer, in place of `pool`; () then is the last layer with tokens.
    crops : {"center", "ten", "ten-stacked"}
        Ten are averaged, or stacked along a first axis.
    precision : {"fp32", "bf16", "fp16"}
    engine : {"eager", "auto", "compile", "openvino"}
        `auto` is settled by `plan`.
    batch_size : int, optional
        Images at once; None is settled by `plan`.

    Raises
    ------
    DataError
        For crops, a precision or an engine that there is not.
    NetworkError, WeightsError, DeviceError, LayerError
        When it is opened: as `load_network` and `resolve_layers`.
    """

    def __init__(
        self,
        network: Network | NetworkRequest,
        layers: Sequence[str] = (),
        *,
        pool: str = "none",
        tokens: str | None = None,
        crops: str = "center",
        precision: str = "fp32",
        engine: str = "eager",
        batch_size: int | None = None,
    ) -> None:
        for name, value, known in (
            ("crops", crops, N_CROPS),
            ("precision", precision, TOLERANCES),
            ("engine", engine, ("auto", *ENGINES)),
        ):
            if value not in known:
                expected = ", ".join(known)
                raise DataError(f"{name} {value!r} is not one of {expected}")
        self._network = network
        self.layers = tuple(layers)
        self.pool = pool if tokens is None else TOKEN_POOLS[tokens]
        self.tokens = tokens
        self.crops = crops
        self.precision = precision
        self.engine = engine
        self.batch_size = batch_size
        self._opened: _Opened | None = None

    # An open one holds hooks and an engine, which belong to this process.
    def __getstate__(self) -> dict[str, Any]:
        if self._opened is not None and isinstance(self._network, Network):
            raise DataError("an extractor that is open cannot be pickled: close it")
        return {**self.__dict__, "_opened": None}

    def open(self) -> Self:
        """Load the network and hook its layers, where that has not been done."""
        self._open()
        return self

    def _open(self) -> _Opened:
        if self._opened is None:
            wanted = self._network
            network = wanted.load() if isinstance(wanted, NetworkRequest) else wanted
            taps = self._taps(network)
            pool = self._settle_pool(taps)
            module = TapModule(
                network,
                taps,
                pool=pool,
                crops=self.crops,
                precision=self.precision,
            )
            self._opened = _Opened(network, taps, module, pool)
        return self._opened

    def _taps(self, network: Network) -> list[Tap]:
        """Return the taps of the layers asked for, fit for what is asked of them."""
        if self.tokens is None:
            taps = resolve_layers(network, self.layers)
            _warn_of_unknown_tokens(taps, self.pool)
            return taps
        default = last_tokens(network)
        if not self.layers and default is None:
            raise LayerError(
                f"`tokens`: {network.name!r} is not known to have tokens; use `pool`"
            )
        taps = resolve_layers(network, self.layers or [str(default)])
        for tap in taps:
            check_has_tokens(tap)
        return taps

    def _settle_pool(self, taps: Sequence[Tap]) -> str:
        """Return what `auto` stands for, else the pooling asked for."""
        if self.pool != "auto":
            return self.pool
        is_spatial = not self.layers and len(taps[0].shape) == 3
        n_channels = taps[0].shape[-1 if taps[0].channels_last else 0]
        return "avg" if is_spatial and np.prod(taps[0].shape) > n_channels else "none"

    @property
    def network(self) -> Network:
        """The network, loaded."""
        return self._open().network

    @property
    def module(self) -> TapModule:
        """The operations from uint8 crops to the features of the taps."""
        return self._open().module

    @property
    def preprocessing(self) -> Preprocessing:
        """What pixels have to go through before they come here."""
        return self.network.weights.preprocessing

    @property
    def specs(self) -> tuple[LayerSpec, ...]:
        """Name, tapped module and shape of one row for each layer, in order."""
        return tuple(
            LayerSpec(
                name=tap.name,
                layer=tap.address,
                shape=stored_shape(tap, self._open().pool, self.crops),
                pool=self._open().pool,
                before_nonlinearity=tap.before_nonlinearity,
                token_grid=tap.tokens.grid if tap.tokens else None,
                n_prefix_tokens=tap.tokens.n_prefix if tap.tokens else None,
            )
            for tap in self._open().taps
        )

    def source(
        self, table: ImageTable, *, workers: int | None = None, decoder: str = "pil"
    ) -> ImageSource:
        """Return listed images as this extractor's network wants them.

        Parameters
        ----------
        table : ImageTable
        workers, decoder
            As for `ImageSource`.

        Raises
        ------
        DeviceError
            If the decoder cannot be had on the network's device.
        """
        device = self.network.device
        check_decoder(decoder, device)
        return ImageSource(
            table,
            self.preprocessing,
            crops=self.crops,
            workers=workers,
            decoder=decoder,
            device=device,
        )

    def plan(self, source: Source) -> None:
        """Settle engine and batch size for all of a source.

        Where the engine is left open, the length of the run decides. Every engine but
        the eager one is held against it on the source's first images.

        Raises
        ------
        DeviceError
            If an engine asked for by name cannot be had here.
        """

        def first_images(n: int) -> np.ndarray:
            batches = source.batches(n, 0, lambda: True)
            try:
                return next(batches).images_nhwc
            finally:
                batches.close()

        self._plan(source.n_images, first_images)

    def _plan(self, n_images: int, first_images: Callable[[int], np.ndarray]) -> Engine:
        opened = self._open()
        n_macs = tapped_macs(opened.network, opened.taps)
        planner = Planner(opened.module, n_macs, n_images, first_images)
        plan = planner.plan(self.engine, self.batch_size)
        opened.engine = plan.engine
        self.engine, self.batch_size = plan.engine.name, plan.batch_size
        return plan.engine

    def _ready(self, images_nhwc: np.ndarray) -> Engine:
        """Return the engine; without a plan, one for batches of this size."""
        engine = self._open().engine
        if engine is not None:
            return engine
        return self._plan(len(images_nhwc), lambda n: images_nhwc[:n])

    @property
    def depth(self) -> int:
        """How many batches may be in flight at once."""
        engine = self._open().engine
        return 1 if engine is None else engine.depth

    def start(self, images_nhwc: np.ndarray) -> Any:
        """Begin a batch (m, n_crops, h, w, 3), uint8; return a ticket for `finish`."""
        return self._ready(images_nhwc).start(images_nhwc)

    def finish(self, ticket: Any) -> dict[str, np.ndarray]:
        """Return float32 features (m, ...) by layer, the oldest ticket first."""
        engine = self._open().engine
        assert engine is not None  # there is no ticket without a start
        return engine.finish(ticket)

    def __call__(self, images_nhwc: np.ndarray) -> dict[str, np.ndarray]:
        """Return the features of one batch.

        Parameters
        ----------
        images_nhwc : ndarray of shape (m, n_crops, h, w, 3), dtype=uint8
            As `preprocessing` makes them.

        Returns
        -------
        dict of str to ndarray of shape (m, ...), dtype=float32
            By layer, pooled, the crops joined.
        """
        return self.finish(self.start(images_nhwc))

    def provenance(self) -> dict[str, str]:
        """Return everything needed to compute the same again, as strings."""
        network = self.network
        record, device = network.weights, network.device
        libraries = ["torch", "torchvision", "timm", "pillow"]
        if self.engine == "openvino":
            libraries.append("openvino")
        return {
            "model": network.name,
            "weights": record.source,
            "weights_sha256": record.sha256,
            "weights_seed": "" if record.seed is None else str(record.seed),
            **_told_of_match(record),
            "preprocessing": json.dumps(record.preprocessing.to_dict(), sort_keys=True),
            "crops": self.crops,
            # Earlier versions averaged over all tokens, and do not say so.
            "averaged_tokens": "patches",
            "precision": self.precision,
            "device": device.type,
            "device_name": _device_name(device),
            "engine": self.engine,
            "batch_size": str(self.batch_size),
            "cnnfeat": __version__,
            **{name: version(name) for name in libraries},
        }

    def close(self) -> None:
        """Take the hooks off the network; the next use opens it again."""
        if self._opened is not None:
            self._opened.module.close()
            self._opened = None

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *exception: object) -> None:
        self.close()


def _warn_of_unknown_tokens(taps: Sequence[Tap], pool: str) -> None:
    for tap in taps:
        if pool in ("avg", "max") and len(tap.shape) == 2 and tap.tokens is None:
            warnings.warn(
                f"layer {tap.name!r}: it is not known which of its {tap.shape[0]} "
                f"tokens are patches, so `pool={pool}` takes all of them",
                CnnfeatWarning,
                stacklevel=5,
            )


def _told_of_match(record: WeightsRecord) -> dict[str, str]:
    """Return what a file's names needed to fit the network, if anything."""
    told = {
        "weights_match": record.match,
        "weights_allow_missing": ",".join(record.allow_missing),
        "input_size": str(record.input_size or ""),
        "preprocessing_given": "yes" if record.is_preprocessing_given else "",
    }
    return {key: text for key, text in told.items() if text}


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
