"""What the trained part of the network reads: images, or features computed once."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from cnnfeat.channel import read_ahead
from cnnfeat.images import Augmentation, PixelStore, augment_image, image_generator
from cnnfeat.networks import Network

Pixels = Generator[np.ndarray, None, None]  # uint8 (m, 1, h, w, 3)
_PREPARED_AHEAD = 2  # batches


@dataclass(frozen=True, eq=False)
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

    network: Network
    to_train: PixelStore
    centre_crops: PixelStore
    augmentation: Augmentation
    seed: int

    def training(
        self, epoch: int, batches: Sequence[np.ndarray]
    ) -> Iterator[torch.Tensor]:
        """Yield augmented images (m, 3, h, w), float32."""
        return self._read_ahead(partial(self._augmented, epoch, batches), len(batches))

    def evaluation(self, batches: Sequence[np.ndarray]) -> Iterator[torch.Tensor]:
        """Yield centre crops (m, 3, h, w), float32."""
        crops = partial(self.centre_crops.batches, batches)
        return self._read_ahead(crops, len(batches))

    def _read_ahead(
        self, pixels: Callable[[Callable[[], bool]], Pixels], n_batches: int
    ) -> Iterator[torch.Tensor]:
        """Yield batches of images that a thread makes while the network computes."""
        with read_ahead(pixels, _PREPARED_AHEAD) as ready:
            for _ in range(n_batches):
                yield normalized(self.network, ready.get())

    def _augmented(
        self,
        epoch: int,
        batches: Sequence[np.ndarray],
        is_wanted: Callable[[], bool],
    ) -> Pixels:
        preprocessing = self.network.weights.preprocessing
        pixels = self.to_train.batches(batches, is_wanted)
        for rows, stored in zip(batches, pixels, strict=True):
            if self.augmentation.changes_nothing:
                yield stored
                continue
            changed = [
                augment_image(
                    image_nhwc,
                    self.augmentation,
                    preprocessing,
                    image_generator(self.seed, epoch, row),
                )
                for (image_nhwc,), row in zip(stored, rows.tolist(), strict=True)
            ]
            yield np.stack(changed)[:, None]  # (m, 1, h, w, 3)


@dataclass(frozen=True, eq=False)
class FeatureInputs:
    """The classifier's inputs by row, computed once and kept in memory."""

    features: Mapping[int, torch.Tensor]
    device: torch.device

    def evaluation(self, batches: Sequence[np.ndarray]) -> Iterator[torch.Tensor]:
        """Yield features (m, ...), float32."""
        for batch in batches:
            rows = [self.features[row] for row in batch.tolist()]
            yield torch.stack(rows).to(self.device)

    def training(
        self, epoch: int, batches: Sequence[np.ndarray]
    ) -> Iterator[torch.Tensor]:
        """Yield the same in every epoch."""
        return self.evaluation(batches)


def normalized(network: Network, pixels: np.ndarray) -> torch.Tensor:
    """Return uint8 pixels (m, 1, h, w, 3) as the network takes them.

    Returns
    -------
    tensor of shape (m, 3, h, w), dtype=float32
        On the network's device, channels last in memory.
    """
    images = torch.from_numpy(pixels[:, 0]).to(network.device)
    return network.weights.preprocessing.normalize(images)
