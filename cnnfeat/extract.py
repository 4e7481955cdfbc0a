"""The verb that turns images into a feature file.

Joins `images` (what, in which order, decoded), `networks` (which network, which taps)
and `store` (where the rows go). It streams: rows leave for the file batch by batch, and
no more than a few batches are in memory, whatever the number of images.
"""

import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnfeat._version import __version__
from cnnfeat.errors import CnnfeatWarning, DeviceError, ImageError

if TYPE_CHECKING:
    import torch

    from cnnfeat.images import Batch, ImageList
    from cnnfeat.networks import Network, Tap, Tapper
    from cnnfeat.store import Contents, FeatureWriter

# Progress is told as (rows done, rows in all, rows failed).
Progress = Callable[[int, int, int], None]

# Rows are made safe on disk (flush and fsync) about this often.
_SECONDS_BETWEEN_COMMITS = 10.0
_CPU_BATCH_SIZE = 32
_GPU_BATCH_SIZE = 256


@dataclass(frozen=True)
class ExtractOptions:
    """How features are extracted; the defaults are those of `cnnfeat extract`.

    `batch_size=None` and `workers=None` choose for the machine at hand; `layers=()`
    is the layer before the classifier.
    """

    model: str = "efficientnet_lite0"
    weights: str = "default"
    weights_seed: int = 0
    layers: tuple[str, ...] = ()
    pool: str = "none"
    crops: str = "center"
    device: str = "auto"
    batch_size: int | None = None
    workers: int | None = None
    precision: str = "fp32"
    dtype: str = "float32"
    on_error: str = "skip"
    resume: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class ExtractReport:
    """What an extraction did; `failures` are (path, reason) pairs."""

    output: str
    n_images: int
    n_ok: int
    n_failed: int
    n_resumed: int
    n_classes: int
    seconds: float
    images_per_second: float
    layers: dict[str, list[int]]
    model: str
    weights: str
    device: str
    failures: list[tuple[str, str]]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return asdict(self)


def extract_features(
    images: str,
    output_path: str,
    options: ExtractOptions | None = None,
    *,
    stdin: Iterable[str] | None = None,
    progress: Progress | None = None,
    command: str = "",
) -> ExtractReport:
    """Extract features of `images` into the file `output_path`.

    Parameters
    ----------
    images : str
        A folder of class folders, a folder of images, a CSV or TSV manifest, a tar, or
        `-` for paths read from `stdin`.
    output_path : str
        The feature file; it appears under this name when it is whole.
    options : ExtractOptions
        Network, layers, pooling, device and what to do on errors.
    stdin : iterable of str, optional
        Lines of paths for `images="-"`.
    progress : callable (n_done, n_images, n_failed), optional
        Called after each batch.
    command : str
        The command line, kept in the file.

    Returns
    -------
    ExtractReport

    Raises
    ------
    InputError, NetworkError, WeightsError, LayerError, DeviceError, OutputError
        As their names say; nothing is left at `output_path`.
    ImageError
        With `on_error="fail"`, at the first image that cannot be read.
    """
    from cnnfeat.images import list_images
    from cnnfeat.networks import Tapper, load_network, resolve_layers

    options = options or ExtractOptions()
    image_list = list_images(images, stdin=stdin)
    network = load_network(
        options.model,
        weights=options.weights,
        seed=options.weights_seed,
        device=options.device,
    )
    _warn_of_finetuning(image_list, network)
    taps = resolve_layers(network, options.layers)
    started = time.monotonic()
    with (
        _open_writer(output_path, image_list, network, taps, options, command) as out,
        Tapper(network, taps, reduce=_pooling(taps, options.pool)) as tapper,
    ):
        n_resumed = out.rows_done
        _run(image_list, network, tapper, out, options, progress)
        failures = [
            (image_list.paths[row], why) for row, why in sorted(out.failures.items())
        ]
        out.finish()
    return _report(
        output_path,
        image_list,
        network,
        {tap.name: _stored_shape(tap, options.pool) for tap in taps},
        failures,
        n_resumed,
        time.monotonic() - started,
    )


def _warn_of_finetuning(image_list: "ImageList", network: "Network") -> None:
    """Say so when the weights were fine-tuned on some of the images."""
    from cnnfeat.networks.saving import finetuned_images

    seen = finetuned_images(network.weights.metadata)
    root = image_list.root
    n_seen = sum(f"{root}/{path}" in seen for path in image_list.paths) if seen else 0
    if n_seen:
        warnings.warn(
            f"{n_seen} of {len(image_list)} images are among those that "
            f"{network.weights.source} was fine-tuned on: a score on them is not a "
            "test accuracy",
            CnnfeatWarning,
            stacklevel=3,
        )


def _open_writer(
    output_path: str,
    image_list: "ImageList",
    network: "Network",
    taps: "list[Tap]",
    options: ExtractOptions,
    command: str,
) -> "FeatureWriter":
    from cnnfeat.store import Contents, FeatureWriter, LayerSpec

    layers = [
        LayerSpec(
            name=tap.name,
            layer=tap.address,
            shape=_stored_shape(tap, options.pool),
            pool=options.pool,
            before_nonlinearity=tap.before_nonlinearity,
            dtype=options.dtype,
        )
        for tap in taps
    ]
    contents = Contents(
        root=image_list.root,
        paths=image_list.paths,
        labels=image_list.labels,
        class_names=image_list.class_names,
        layers=layers,
        provenance=_provenance(image_list, network, options),
        command=command,
    )
    return FeatureWriter(
        output_path,
        contents,
        overwrite=options.overwrite,
        resume=options.resume,
        fingerprint=_fingerprint(contents),
    )


def _fingerprint(contents: "Contents") -> dict[str, str]:
    """Return what must be the same for one run to go on where another stopped."""
    layers = [f"{spec.layer} {spec.pool} {spec.dtype}" for spec in contents.layers]
    return {
        "layers": ", ".join(layers),
        **{key: contents.provenance[key] for key in _SAME_JOB},
    }


# A run may only go on from another when these fields of the provenance agree.
_SAME_JOB = (
    "images_sha256",
    "model",
    "weights_sha256",
    "preprocessing",
    "crops",
    "precision",
    "device",
    "decoder",
    "engine",
)


def _provenance(
    image_list: "ImageList", network: "Network", options: ExtractOptions
) -> dict[str, str]:
    """Return everything needed to redo the work, as strings."""
    import json

    record = network.weights
    return {
        "images_sha256": image_list.fingerprint(),
        "model": network.name,
        "weights": record.source,
        "weights_sha256": record.sha256,
        "weights_seed": str(options.weights_seed)
        if options.weights == "random"
        else "",
        "preprocessing": json.dumps(record.preprocessing.to_dict(), sort_keys=True),
        "crops": options.crops,
        "precision": options.precision,
        "device": network.device.type,
        "device_name": _device_name(network.device),
        "decoder": "pil",
        "engine": "eager",
        "cnnfeat": __version__,
        **{name: version(name) for name in ("torch", "torchvision", "timm", "pillow")},
    }


def _device_name(device: "torch.device") -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def _stored_shape(tap: "Tap", pool: str) -> tuple[int, ...]:
    from cnnfeat.networks import pooled_shape

    return pooled_shape(tap.shape, pool, channels_last=tap.channels_last)


def _pooling(
    taps: "list[Tap]", pool: str
) -> "Callable[[Tap, torch.Tensor], torch.Tensor]":
    """Return what is done to each activation on the device, inside the pass."""
    from cnnfeat.networks import pool_activation

    return lambda tap, activation: pool_activation(
        activation, pool, channels_last=tap.channels_last
    )


def _run(
    image_list: "ImageList",
    network: "Network",
    tapper: "Tapper",
    writer: "FeatureWriter",
    options: ExtractOptions,
    progress: Progress | None,
) -> None:
    """Take every row that is not in the file yet through the network."""
    committed = time.monotonic()
    for batch in _batches(image_list, network, writer.rows_done, options):
        if options.on_error == "fail" and not batch.ok.all():
            worst = int(np.flatnonzero(~batch.ok)[0])
            path = image_list.paths[batch.start + worst]
            raise ImageError(f"{path}: {batch.errors[worst]} (--on-error skip goes on)")
        features = _forward(network, tapper, batch.images, options)
        writer.write(batch.start, features, batch.ok, batch.errors)
        if time.monotonic() - committed > _SECONDS_BETWEEN_COMMITS:
            writer.commit()
            committed = time.monotonic()
        if progress:
            n_done = batch.start + len(batch.ok)
            progress(n_done, len(image_list), len(writer.failures))


def _batches(
    image_list: "ImageList",
    network: "Network",
    first_row: int,
    options: ExtractOptions,
) -> "Iterator[Batch]":
    from cnnfeat.images import default_workers, load_batches

    on_gpu = network.device.type == "cuda"
    workers = options.workers
    return load_batches(
        image_list,
        network.weights.preprocessing,
        batch_size=options.batch_size
        or (_GPU_BATCH_SIZE if on_gpu else _CPU_BATCH_SIZE),
        crops=options.crops,
        workers=default_workers() if workers is None else workers,
        first_row=first_row,
    )


def _forward(
    network: "Network", tapper: "Tapper", images: np.ndarray, options: ExtractOptions
) -> dict[str, np.ndarray]:
    """Return each tap's features of a batch, uint8 (m, n_crops, 3, h, w), in `dtype`.

    Several crops are averaged in float32 (Krizhevsky et al. 2012, section 4.1, average
    predictions over ten patches; here features).
    """
    import torch

    m, n_crops = images.shape[:2]
    pixels = torch.from_numpy(images).flatten(0, 1).to(network.device)
    batch = network.weights.preprocessing.normalize(pixels)
    batch = batch.to(memory_format=torch.channels_last)
    try:
        with _autocast(network.device, options.precision):
            activations = tapper(batch)
    except torch.OutOfMemoryError:
        return _forward_in_halves(network, tapper, images, options)
    return {
        name: activation.float().unflatten(0, (m, n_crops)).mean(dim=1).cpu().numpy()
        for name, activation in activations.items()
    }


def _autocast(device: "torch.device", precision: str) -> Any:
    import torch

    dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def _forward_in_halves(
    network: "Network", tapper: "Tapper", images: np.ndarray, options: ExtractOptions
) -> dict[str, np.ndarray]:
    """Take a batch that was too large for the device through it in two parts."""
    import torch

    if len(images) == 1:
        raise DeviceError(
            f"{network.device}: not enough memory for one image through "
            f"{network.name}; --device cpu has more"
        )
    torch.cuda.empty_cache()
    half = len(images) // 2
    parts = [
        _forward(network, tapper, part, options)
        for part in (images[:half], images[half:])
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _report(
    output_path: str,
    image_list: "ImageList",
    network: "Network",
    layers: dict[str, tuple[int, ...]],
    failures: list[tuple[str, str]],
    n_resumed: int,
    seconds: float,
) -> ExtractReport:
    n_images = len(image_list)
    return ExtractReport(
        output=os.fspath(output_path),
        n_images=n_images,
        n_ok=n_images - len(failures),
        n_failed=len(failures),
        n_resumed=n_resumed,
        n_classes=len(image_list.class_names),
        seconds=round(seconds, 3),
        images_per_second=round((n_images - n_resumed) / max(seconds, 1e-9), 2),
        layers={name: list(shape) for name, shape in layers.items()},
        model=network.name,
        weights=network.weights.source,
        device=str(network.device),
        failures=failures,
    )
