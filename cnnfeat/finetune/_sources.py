"""What the trained part of the network reads: images, or features computed once."""

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from cnnfeat.finetune._rows import PixelStore
from cnnfeat.images import Augmentation, Preprocessing, augment_image, image_generator
from cnnfeat.layers import Tapper, resolve_layers
from cnnfeat.networks import Network

_PREPARED_AHEAD = 2  # batches

T = TypeVar("T")
Features = dict[int, torch.Tensor]  # by row of the image list, float32 on the CPU


class Source(Protocol):
    """Gives batches of inputs, on the device, for batches of rows."""

    def training(
        self, epoch: int, batches: Sequence[np.ndarray]
    ) -> Iterator[torch.Tensor]:
        """Yield inputs to train on in one epoch."""
        ...

    def evaluation(self, batches: Sequence[np.ndarray]) -> Iterator[torch.Tensor]:
        """Yield the same inputs in every epoch."""
        ...


class ImageSource:
    """Normalised images, augmented for training while the network computes."""

    def __init__(
        self,
        preprocessing: Preprocessing,
        stores: tuple[PixelStore, PixelStore],
        augmentation: Augmentation,
        seed: int,
        device: torch.device,
    ) -> None:
        self._preprocessing = preprocessing
        self._training, self._testing = stores
        self._augmentation = augmentation
        self._seed = seed
        self._device = device

    def training(
        self, epoch: int, batches: Sequence[np.ndarray]
    ) -> Iterator[torch.Tensor]:
        """Yield augmented images (m, 3, h, w), float32."""
        pixels = prepare_ahead(self._augmented(epoch, batches))
        return map(self._normalize, pixels)

    def evaluation(self, batches: Sequence[np.ndarray]) -> Iterator[torch.Tensor]:
        """Yield centre crops (m, 3, h, w), float32."""
        return map(self._normalize, self._testing.batches(batches))

    def _augmented(
        self, epoch: int, batches: Sequence[np.ndarray]
    ) -> Iterator[torch.Tensor]:
        stored = self._training.batches(batches)
        for rows, pixels in zip(batches, stored, strict=True):
            if self._augmentation.changes_nothing:
                yield pixels
                continue
            changed = [
                augment_image(
                    image,
                    self._augmentation,
                    self._preprocessing.crop_size,
                    fill_colour(self._preprocessing),
                    image_generator(self._seed, epoch, row),
                )
                for image, row in zip(pixels, rows.tolist(), strict=True)
            ]
            yield torch.stack(changed)

    def _normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        pixels = pixels.to(self._device, memory_format=torch.channels_last)
        return self._preprocessing.normalize(pixels.movedim(1, -1))


class FeatureSource:
    """The classifier's inputs, computed once and kept in memory."""

    def __init__(self, features: Features, device: torch.device) -> None:
        self._features = features
        self._device = device

    def training(
        self, epoch: int, batches: Sequence[np.ndarray]
    ) -> Iterator[torch.Tensor]:
        """Yield features (m, ...), float32."""
        return self.evaluation(batches)

    def evaluation(self, batches: Sequence[np.ndarray]) -> Iterator[torch.Tensor]:
        """Yield features (m, ...), float32."""
        for batch in batches:
            rows = [self._features[row] for row in batch.tolist()]
            yield torch.stack(rows).to(self._device)


def compute_features(
    network: Network,
    layer: str,
    source: Source,
    batches: Sequence[np.ndarray],
    *,
    pool: bool = False,
) -> Features:
    """Return one layer's features by row, float32 on the CPU.

    `pool` averages spatial activations over the image.
    """
    from cnnfeat.layers import pool_activation

    taps = resolve_layers(network, [layer] if layer else [])
    tap = taps[0]
    features: Features = {}
    with Tapper(network, taps) as tapper:
        for rows, images in zip(batches, source.evaluation(batches), strict=True):
            activation = tapper(images)[tap.name]
            if pool:
                activation = pool_activation(
                    activation, "avg", channels_last=tap.channels_last
                )
            # Tensors made in inference mode cannot take part in training.
            kept = activation.float().cpu().clone().numpy().copy()
            features.update(zip(rows.tolist(), torch.from_numpy(kept), strict=True))
    return features


def fill_colour(preprocessing: Preprocessing) -> list[float]:
    """Return the colour (0 to 255) that is zero once normalised."""
    return [255.0 * value for value in preprocessing.mean]


def prepare_ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield the same items, the next few made by a thread in the meantime."""
    ready: queue.Queue[Any] = queue.Queue(_PREPARED_AHEAD)
    stopping = threading.Event()
    end = object()

    def put(item: Any) -> None:
        while not stopping.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def run() -> None:
        try:
            for item in items:
                put(item)
                if stopping.is_set():
                    return
            put(end)
        # Whatever it is, the reader must hear of it and not wait.
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=run, name="cnnfeat-augment", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not end:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopping.set()
        thread.join()
