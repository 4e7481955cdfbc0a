"""What a layer gives for stored images, by the network as it stands."""

from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
import torch

from cnnfeat.errors import DataError
from cnnfeat.extraction import ArraySink, Extractor, run
from cnnfeat.images import Batch, PixelStore
from cnnfeat.networks import Network

Features = dict[int, torch.Tensor]  # by row of the image list, float32 on the CPU
_BATCH = 32  # images


@dataclass(frozen=True, eq=False)
class StoredImages:
    """Rows of a PixelStore, which can all be decoded, as a Source."""

    store: PixelStore
    rows: np.ndarray

    @property
    def n_images(self) -> int:
        """Rows in all."""
        return len(self.rows)

    def batches(
        self,
        batch_size: int,
        first_row: int = 0,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> Generator[Batch, None, None]:
        """Yield batches of nearly equal sizes from `first_row` on."""
        rows = self.rows[first_row:]
        parts = np.array_split(rows, max(1, -(-len(rows) // batch_size)))
        for part, pixels in zip(parts, self.store.batches(parts), strict=True):
            m = len(part)
            yield Batch(first_row, pixels, np.ones(m, dtype=bool), ("",) * m)
            first_row += m


def layer_features(
    network: Network, layer: str, images: StoredImages, pool: str = "none"
) -> Features:
    """Return a layer's features by row.

    Parameters
    ----------
    network : Network
    layer : str
        As `resolve_layers` takes it.
    images : StoredImages
    pool : str, default="none"
        As for `Extractor`.

    Raises
    ------
    DataError
        If some are not finite.
    """
    with Extractor(network, [layer], pool=pool, batch_size=_BATCH) as extractor:
        sink = ArraySink(images.n_images, extractor.specs)
        run(images, extractor, sink)
    if not sink.ok.all():
        reason = next(filter(None, sink.errors))
        raise DataError(f"{network.name!r} cannot be trained: {reason}")
    features = torch.from_numpy(sink.features[layer])
    return dict(zip(images.rows.tolist(), features, strict=True))
