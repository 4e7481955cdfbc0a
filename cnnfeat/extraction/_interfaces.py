"""What `run` joins: a Source of pixels, an extractor, a Sink for rows of features.

All three are Protocols. A source of shifted copies, a codebook of visual words that was
fitted on training rows first, and a sink that keeps the strongest rows all fit.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from cnnfeat.images import Batch
from cnnfeat.layer_spec import LayerSpec


class Source(Protocol):
    """Gives batches of pixels, in row order, as often as it is asked."""

    @property
    def n_images(self) -> int:
        """Rows in all."""
        ...

    def batches(
        self, batch_size: int, first_row: int, is_wanted: Callable[[], bool]
    ) -> Generator[Batch, None, None]:
        """Yield `Batch`es of uint8 (m, n_crops, h, w, 3) from `first_row` on.

        Run by a thread of its own. Where it waits for something it looks at
        `is_wanted`, and ends once that is false.
        """
        ...


class AnyExtractor(Protocol):
    """Turns pixels into rows of features; `Extractor` is the one for networks.

    Attributes
    ----------
    batch_size : int or None
        Images at once; a row's last bits may depend on it. None: not settled yet.
    depth : int
        Batches that may be started before the first of them is finished.
    """

    batch_size: int | None

    @property
    def depth(self) -> int:
        """How many batches may be in flight."""
        ...

    @property
    def specs(self) -> tuple[LayerSpec, ...]:
        """What comes out: a name and the shape of one row for each layer."""
        ...

    def provenance(self) -> dict[str, str]:
        """Return what it takes to compute the same again, as strings."""
        ...

    def start(self, images_nhwc: np.ndarray) -> Any:
        """Begin a batch (m, n_crops, h, w, 3), uint8; return a ticket for `finish`."""
        ...

    def finish(self, ticket: Any) -> dict[str, np.ndarray]:
        """Return float32 features (m, ...) by layer, the oldest ticket first."""
        ...


class Sink(Protocol):
    """Takes rows of features in order: a feature file, arrays, the top k, a shard."""

    @property
    def rows_done(self) -> int:
        """Rows [0, rows_done) are there already: a run begins behind them."""
        ...

    def write(
        self,
        start: int,
        features: Mapping[str, np.ndarray],
        ok: np.ndarray,
        errors: Sequence[str],
        digests: Sequence[str],
    ) -> None:
        """Take rows [start, start + m): features by layer, bool (m,), reasons, digests.

        `digests` are those of `Batch`: none at all where the pixels come from no file.
        """
        ...

    def commit(self) -> None:
        """Make the rows so far safe, where there is something to be safe from."""
        ...
