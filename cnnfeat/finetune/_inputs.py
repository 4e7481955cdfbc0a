"""What the trained part of the network reads: images, or features computed once."""

from collections.abc import Generator, Iterator, Sequence

import numpy as np
import torch

from cnnfeat.channel import read_ahead
from cnnfeat.finetune._features import Features
from cnnfeat.images import Augmentation, PixelStore, augment_image, image_generator
from cnnfeat.networks import Network

_PREPARED_AHEAD = 2  # batches


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
        with read_ahead(
            lambda is_wanted: self._augmented(epoch, batches), _PREPARED_AHEAD
        ) as ready:
            for _ in batches:
                yield normalized(self._network, ready.get())

    def evaluation(self, batches: Sequence[np.ndarray]) -> Iterator[torch.Tensor]:
        """Yield centre crops (m, 3, h, w), float32."""
        for pixels in self._centre_crops.batches(batches):
            yield normalized(self._network, pixels)

    def _augmented(
        self, epoch: int, batches: Sequence[np.ndarray]
    ) -> Generator[np.ndarray, None, None]:
        preprocessing = self._network.weights.preprocessing
        pixels = self._to_train.batches(batches)
        for rows, stored in zip(batches, pixels, strict=True):
            if self._augmentation.changes_nothing:
                yield stored
                continue
            changed = [
                augment_image(
                    image_nhwc,
                    self._augmentation,
                    preprocessing,
                    image_generator(self._seed, epoch, row),
                )
                for (image_nhwc,), row in zip(stored, rows.tolist(), strict=True)
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


def normalized(network: Network, pixels: np.ndarray) -> torch.Tensor:
    """Return uint8 pixels (m, 1, h, w, 3) as the network takes them.

    Returns
    -------
    tensor of shape (m, 3, h, w), dtype=float32
        On the network's device, channels last in memory.
    """
    images = torch.from_numpy(pixels[:, 0]).to(network.device)
    return network.weights.preprocessing.normalize(images)
