"""Listed images as a Source: decoded here, by worker processes, or on a GPU."""

from collections.abc import Callable, Generator
from dataclasses import dataclass

import torch

from cnnfeat.image_table import ImageTable
from cnnfeat.images import (
    Batch,
    Preprocessing,
    default_workers,
    load_batches,
)

# Up to so many images are decoded here before worker processes would have started.
_DECODED_HERE = 64


@dataclass(frozen=True)
class ImageSource:
    """The images of a list, as a network's weights want them.

    Parameters
    ----------
    image_list : ImageTable
    preprocessing : Preprocessing
    crops : {"center", "ten", "ten-stacked"}
    workers : int or None
        Processes that decode; None: as many as pay.
    decoder : {"pil", "fast", "nvjpeg"}
    device : torch.device, optional
        The GPU of "nvjpeg".
    """

    image_list: ImageTable
    preprocessing: Preprocessing
    crops: str = "center"
    workers: int | None = None
    decoder: str = "pil"
    device: torch.device | None = None

    @property
    def n_images(self) -> int:
        """Rows in all."""
        return len(self.image_list)

    def batches(
        self,
        batch_size: int,
        first_row: int = 0,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> Generator[Batch, None, None]:
        """Return the batches from `first_row` on; see `load_batches`."""
        return load_batches(
            self.image_list,
            self.preprocessing,
            batch_size=batch_size,
            crops=self.crops,
            workers=self._n_workers(self.n_images - first_row),
            first_row=first_row,
            decoder=self.decoder,
            device=self.device,
            is_wanted=is_wanted,
        )

    def _n_workers(self, n_images: int) -> int:
        if self.workers is not None:
            return self.workers
        return default_workers() if n_images > _DECODED_HERE else 0
