"""What the trained part of the network reads: images, or features computed once."""

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch

from cnnfeat.finetune._features import Features, normalized
from cnnfeat.images import Augmentation, PixelStore, augment_image, image_generator
from cnnfeat.networks import Network

_PREPARED_AHEAD = 2  # batches

T = TypeVar("T")


class ImageInputs:
    """Normalised images, augmented for training while the network computes.

    Parameters
    ----------
    network : Network
        Its preprocessing and device.
    to_train, centre_crops : PixelStore
        Images to augment; crops to evaluate on. The same where nothing is augmented.
    augmentation : Augmentation
    seed : int
    """

    def __init__(
        self,
        network: Network,
        to_train: PixelStore,
        centre_crops: PixelStore,
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        self._network = network
        self._to_train = to_train
        self._centre_crops = centre_crops
        self._augmentation = augmentation
        self._seed = seed

    def training(
        self, epoch: int, batches: Sequence[np.ndarray]
    ) -> Iterator[torch.Tensor]:
        """Yield augmented images (m, 3, h, w), float32."""
        pixels = self._to_train.batches(batches)
        if not self._augmentation.changes_nothing:
            pixels = self._augmented(epoch, batches, pixels)
        return (normalized(self._network, part) for part in prepare_ahead(pixels))

    def evaluation(self, batches: Sequence[np.ndarray]) -> Iterator[torch.Tensor]:
        """Yield centre crops (m, 3, h, w), float32."""
        pixels = self._centre_crops.batches(batches)
        return (normalized(self._network, part) for part in pixels)

    def _augmented(
        self, epoch: int, batches: Sequence[np.ndarray], pixels: Iterator[np.ndarray]
    ) -> Iterator[np.ndarray]:
        preprocessing = self._network.weights.preprocessing
        for rows, part in zip(batches, pixels, strict=True):
            changed = [
                augment_image(
                    image_nhwc,
                    self._augmentation,
                    preprocessing,
                    image_generator(self._seed, epoch, row),
                )
                for (image_nhwc,), row in zip(part, rows.tolist(), strict=True)
            ]
            yield np.stack(changed)[:, None]  # (m, 1, h, w, 3)


class FeatureInputs:
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
