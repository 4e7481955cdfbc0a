"""What a run starts from: images, rows, the network with its new classifier."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from cnnfeat.finetune import _distributed as distributed
from cnnfeat.finetune._distributed import World
from cnnfeat.finetune._initial import init_from_head, warn_of_images_seen
from cnnfeat.finetune._options import FinetuneOptions
from cnnfeat.finetune._rows import (
    PixelStore,
    Rows,
    canvas,
    fits,
    read_rows,
    trained_classes,
)
from cnnfeat.finetune._sources import Features, ImageSource, compute_features
from cnnfeat.finetune._surgery import (
    find_classifier,
    replace_classifier,
    trained_modules,
)
from cnnfeat.image_table import ImageTable
from cnnfeat.images import default_workers, list_images, read_augmentation
from cnnfeat.networks import Network, load_network

_FORWARD_BATCH = 32


@dataclass(frozen=True)
class Material:
    """What a run starts from, read and checked."""

    image_list: ImageTable
    network: Network  # with the new classifier
    rows: Rows
    y: np.ndarray
    class_names: list[str]
    testing: PixelStore  # centre crops
    images: ImageSource  # augmented for training, centre crops for the rest


def read_material(
    images: str, options: FinetuneOptions, world: World, stdin: Iterable[str] | None
) -> Material:
    """Read images and network; replace the classifier."""
    augmentation = read_augmentation(options.augmentation)
    image_list = list_images(images, stdin=stdin)
    network = load_network(
        options.model,
        weights=options.weights,
        seed=options.weights_seed,
        device=options.device,
    )
    network.module.to(memory_format=torch.channels_last)
    # Both are refused before any image is decoded.
    find_classifier(network)
    trained_modules(network, options.train, options.n_stages)
    preprocessing = network.weights.preprocessing
    workers = default_workers() if options.workers is None else options.workers
    wide = canvas(preprocessing)
    n_bytes = 3 * int(np.prod(wide.crop_size))
    keep = fits(len(image_list), n_bytes, options.cache_mib)
    testing = PixelStore(image_list, preprocessing, workers, keep=keep)
    training = (
        testing
        if augmentation.changes_nothing
        else PixelStore(image_list, wide, workers, keep=keep)
    )
    rows = read_rows(image_list, training, testing, options)
    distributed.check_world(world, len(rows.train), options.batch_size)
    class_names, y = trained_classes(image_list, rows)
    source = ImageSource(
        preprocessing,
        (training, testing),
        augmentation,
        options.seed,
        network.device,
    )
    generator = torch.Generator().manual_seed(options.seed)
    network = replace_classifier(network, len(class_names), generator)
    if options.init:
        head = init_from_head(network, options.init, class_names)
        warn_of_images_seen(head, options.init, image_list, rows)
    return Material(
        image_list,
        network,
        rows,
        y,
        class_names,
        testing,
        source,
    )


def _parts(rows: np.ndarray) -> list[np.ndarray]:
    return np.array_split(rows, max(1, -(-len(rows) // _FORWARD_BATCH)))


def classifier_inputs(
    material: Material, rows: np.ndarray, *, pool: bool = False
) -> Features:
    """Return the classifier's inputs by row; centre crops are decoded as needed."""
    material.testing.check(rows)
    layer = f"{find_classifier(material.network).name}:in"
    return compute_features(
        material.network, layer, material.images, _parts(rows), pool=pool
    )
