"""What both kinds of extraction are made of: images, and an extractor for them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from cnnfeat import extraction, networks
from cnnfeat.errors import ImageError
from cnnfeat.extract._options import ExtractOptions
from cnnfeat.image_table import ImageTable
from cnnfeat.images import (
    Batch,
    Sources,
    list_images,
    settle_range,
    take_pages,
)
from cnnfeat.value_range import AUTO


def as_image_list(
    images: Sources | ImageTable,
    options: ExtractOptions,
    stdin: Iterable[str] | None = None,
) -> ImageTable:
    """Return the pages asked for of images that are listed, or of what a name means."""
    if not isinstance(images, ImageTable):
        images = list_images(images, stdin=stdin, options=options)
    return take_pages(images, options.pages)


def with_range(
    image_list: ImageTable, asked: str, network: networks.Network
) -> ImageTable:
    """Return the images with their range of values settled.

    A network that was fine-tuned takes the range of its own images, unless another one
    is asked for.
    """
    own = str(network.weights.metadata.get("range", AUTO))
    return settle_range(image_list, own if asked == AUTO else asked)


def load_options(options: ExtractOptions) -> networks.LoadOptions:
    """Return how the network is loaded other than its weights say."""
    told = options.preprocessing
    return networks.LoadOptions(
        options.allow_missing,
        options.input_size,
        networks.read_preprocessing(told) if told else None,
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
        options.model,
        options.weights,
        options.weights_seed,
        options.device,
        load_options(options),
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
        raise ImageError(f"{path}: {batch.errors[worst]} (`on_error=skip` goes on)")
