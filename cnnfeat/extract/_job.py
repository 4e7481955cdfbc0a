"""One extraction before its first row: images, network, taps, and what the file says.

Provenance is everything needed to redo the work; the fingerprint is the part of it that
must be the same for one run to go on where another stopped.
"""

import json
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
import torch

from cnnfeat._version import __version__
from cnnfeat.extraction import Plan, Planner, TapModule, earlier_choices, stored_shape
from cnnfeat.images import Batch, ImageList, check_decoder, list_images, load_batches
from cnnfeat.layer_spec import LayerSpec
from cnnfeat.layers import Tap, resolve_layers
from cnnfeat.networks import Network, load_network
from cnnfeat.store import Contents, FeatureWriter

if TYPE_CHECKING:
    from cnnfeat.extract._run import ExtractOptions

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
# As the fingerprint calls it: a row's last bits depend on its place in the batch.
_BATCH_SIZE = "rows per batch"


@dataclass(frozen=True)
class Job:
    """Everything that is known before engine and batch size are chosen.

    Attributes
    ----------
    batch_size : int or None
        Images that go through the network at once, where that is settled: asked for, or
        told by the unfinished file to resume.
    engine : str
        In the same way; `auto` where it is open.
    """

    options: "ExtractOptions"
    image_list: ImageList
    network: Network
    taps: list[Tap]
    module: TapModule
    batch_size: int | None
    engine: str

    def shape_of(self, tap: Tap) -> tuple[int, ...]:
        """Return the shape of one image's features."""
        return stored_shape(tap, self.options.pool, self.options.crops)

    def batches(
        self, batch_size: int, first_row: int, workers: int
    ) -> Generator[Batch, None, None]:
        """Return the batches from `first_row` on, decoded by `workers` processes."""
        return load_batches(  # type: ignore[return-value]
            self.image_list,
            self.network.weights.preprocessing,
            batch_size=batch_size,
            crops="center" if self.options.crops == "center" else "ten",
            workers=workers,
            first_row=first_row,
            decoder=self.options.decoder,
            device=self.network.device,
        )

    def plan(self) -> Plan:
        """Return the engine and the batch size asked for, or those that suit."""

        def first_images(n: int) -> np.ndarray:
            batches = self.batches(n, 0, workers=0)
            images = next(batches).images
            return images.transpose(0, 1, 3, 4, 2)  # (m, n_crops, h, w, 3), as it lies

        planner = Planner(self.module, len(self.image_list), first_images)
        return planner.plan(self.engine, self.batch_size)

    def open_writer(self, path: str, plan: Plan, command: str) -> FeatureWriter:
        """Return the writer of the output, at the row where the run begins."""
        contents = Contents(
            root=self.image_list.root,
            paths=self.image_list.paths,
            labels=self.image_list.labels,
            class_names=self.image_list.class_names,
            layers=[self._spec(tap) for tap in self.taps],
            provenance=self.provenance(plan),
            command=command,
        )
        return FeatureWriter(
            path,
            contents,
            overwrite=self.options.overwrite,
            resume=self.options.resume,
            fingerprint={
                _BATCH_SIZE: str(plan.batch_size),
                **{key: contents.provenance[key] for key in _SAME_JOB},
            },
        )

    def _spec(self, tap: Tap) -> LayerSpec:
        return LayerSpec(
            name=tap.name,
            layer=tap.address,
            shape=self.shape_of(tap),
            pool=self.options.pool,
            before_nonlinearity=tap.before_nonlinearity,
            dtype=self.options.dtype,
        )

    def provenance(self, plan: Plan) -> dict[str, str]:
        """Return everything needed to redo the work, as strings."""
        options, record = self.options, self.network.weights
        is_random = options.weights == "random"
        libraries = ["torch", "torchvision", "timm", "pillow"]
        if plan.engine.name == "openvino":
            libraries.append("openvino")
        return {
            "images_sha256": self.image_list.fingerprint(),
            "model": self.network.name,
            "weights": record.source,
            "weights_sha256": record.sha256,
            "weights_seed": str(options.weights_seed) if is_random else "",
            "preprocessing": json.dumps(record.preprocessing.to_dict(), sort_keys=True),
            "crops": options.crops,
            "precision": options.precision,
            "device": self.network.device.type,
            "device_name": _device_name(self.network.device),
            "decoder": options.decoder,
            "engine": plan.engine.name,
            "batch_size": str(plan.batch_size),
            "cnnfeat": __version__,
            **{name: version(name) for name in libraries},
        }


def prepare_job(
    images: str | ImageList,
    stdin: Iterable[str] | None,
    options: "ExtractOptions",
    output_path: str,
) -> Job:
    """List the images, load the network, find the layers.

    The job's `module` holds hooks on the network until it is closed.
    """
    image_list = (
        images if isinstance(images, ImageList) else list_images(images, stdin=stdin)
    )
    network = load_network(
        options.model,
        weights=options.weights,
        seed=options.weights_seed,
        device=options.device,
    )
    check_decoder(options.decoder, network.device)
    taps = resolve_layers(network, options.layers)
    earlier = earlier_choices(output_path) if options.resume else {}
    is_auto = options.engine == "auto"
    return Job(
        options,
        image_list,
        network,
        taps,
        TapModule(
            network,
            taps,
            pool=options.pool,
            crops=options.crops,
            precision=options.precision,
        ),
        options.batch_size or int(earlier.get(_BATCH_SIZE, 0)) or None,
        earlier.get("engine", "auto") if is_auto else options.engine,
    )


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
