"""Features as arrays in memory, for notebooks and scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cnnfeat import extraction, networks
from cnnfeat.extract._options import ExtractOptions, most_failures
from cnnfeat.extract._work import (
    as_image_list,
    make_extractor,
    refuse_failures,
    with_range,
)
from cnnfeat.image_table import ImageTable
from cnnfeat.images import Sources, refuse_too_many_failed


@dataclass(frozen=True, eq=False)
class FeatureArrays:
    """Features of some images, row by row.

    Attributes
    ----------
    features : dict of str to ndarray of shape (n_images, ...), dtype=float32
        By layer, in the order asked for; zeros where not ok.
    labels : ndarray of shape (n_images,), dtype=int32
        Index into `class_names`; -1 where there is none.
    paths : tuple of n_images str
    class_names : tuple of str
    ok : ndarray of shape (n_images,), dtype=bool
        False where the image could not be read.
    errors : tuple of n_images str
        Why not; empty where ok.
    provenance : dict of str
        What it takes to compute the same again.
    """

    features: dict[str, np.ndarray]
    labels: np.ndarray
    paths: tuple[str, ...]
    class_names: tuple[str, ...]
    ok: np.ndarray
    errors: tuple[str, ...]
    provenance: dict[str, str]


def extract_arrays(
    network: networks.Network | str,
    images: Sources | ImageTable,
    layers: Sequence[str] = (),
    *,
    options: ExtractOptions | None = None,
) -> FeatureArrays:
    """Return the features of some layers of a network, in memory.

    Parameters
    ----------
    network : Network or str
        A name as for `load_network`, or any network: `Network.from_module` takes a
        module of the caller's.
    images : str or ImageTable
        As for `extract_features`.
    layers : sequence of str, default=()
        As for `resolve_layers`; () is the layer before the classifier.
    options : ExtractOptions, optional
        Pooling, crops, engine and so on; weights, seed and device for a name. Its
        `layers`, and what it says of output files, are not used.

    Raises
    ------
    InputError
        If images cannot be listed, or more than `options.max_failed` cannot be read.
    NetworkError, WeightsError, LayerError, DeviceError
        As their names say.
    ImageError
        With `on_error="fail"`, at the first image that cannot be read.
    """
    options = replace(options or ExtractOptions(), layers=tuple(layers))
    given = None
    if isinstance(network, networks.Network):
        given = network
    else:
        options = replace(options, model=network)
    image_list = as_image_list(images, options)
    most_failed = most_failures(options.max_failed, len(image_list))
    with make_extractor(options, given) as extractor:
        image_list = with_range(image_list, options.value_range, extractor.network)
        source = extractor.source(
            image_list, workers=options.workers, decoder=options.decoder
        )
        extractor.plan(source)
        sink = extraction.ArraySink(len(image_list), extractor.specs)
        extraction.run(
            source,
            extractor,
            sink,
            done=lambda batch: refuse_failures(batch, image_list, options),
        )
        failures = {row: why for row, why in enumerate(sink.errors) if why}
        refuse_too_many_failed(image_list, failures, most_failed)
        provenance = {
            **extractor.provenance(),
            "decoder": options.decoder,
            "range": image_list.value_range,
        }
    return FeatureArrays(
        features=sink.features,
        labels=image_list.labels,
        paths=image_list.paths,
        class_names=image_list.class_names,
        ok=sink.ok,
        errors=tuple(sink.errors),
        provenance=provenance,
    )
