"""What both kinds of extraction are made of: images, and an extractor for them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from cnnfeat import extraction, networks
from cnnfeat.errors import ImageError
from cnnfeat.extract._options import ExtractOptions
from cnnfeat.image_table import ImageTable
from cnnfeat.images import Batch, list_images


def as_image_list(
    images: str | ImageTable, stdin: Iterable[str] | None = None
) -> ImageTable:
    """Return images that are listed already as they are, and list what a name means."""
    return (
        images if isinstance(images, ImageTable) else list_images(images, stdin=stdin)
    )


def make_extractor(
    options: ExtractOptions,
    network: networks.Network | None = None,
    *,
    engine: str | None = None,
    batch_size: int | None = None,
) -> extraction.Extractor:
    """Return the extractor that the options describe, not opened.

    Parameters
    ----------
    options : ExtractOptions
    network : Network, optional
        In place of the one that the options name.
    engine, batch_size : str and int, optional
        Where the options leave the choice: what an earlier part of the run used.
    """
    request = networks.NetworkRequest(
        options.model, options.weights, options.weights_seed, options.device
    )
    is_open = options.engine == "auto"
    return extraction.Extractor(
        network or request,
        options.layers,
        pool=options.pool,
        tokens=options.tokens,
        crops=options.crops,
        precision=options.precision,
        engine=engine if engine and is_open else options.engine,
        batch_size=options.batch_size or batch_size,
    )


def refuse_failures(
    batch: Batch, image_list: ImageTable, options: ExtractOptions
) -> None:
    """Raise ImageError where an image of a batch failed and `on_error` is "fail"."""
    if options.on_error == "fail" and not batch.ok.all():
        worst = int(np.flatnonzero(~batch.ok)[0])
        path = image_list.paths[batch.start + worst]
        raise ImageError(f"{path}: {batch.errors[worst]} (--on-error skip goes on)")
