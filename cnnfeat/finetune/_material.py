"""What a run starts from: images, rows, the network with its new classifier."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from cnnfeat.errors import DataError
from cnnfeat.extraction import ArraySink, Extractor, run
from cnnfeat.finetune._initial import init_from_head, warn_of_images_seen
from cnnfeat.finetune._inputs import ImageInputs
from cnnfeat.finetune._listener import Listener
from cnnfeat.finetune._options import FinetuneOptions
from cnnfeat.finetune._split import FinetuneSplit, draw_readable
from cnnfeat.image_table import ImageTable
from cnnfeat.images import (
    PixelStore,
    Sources,
    StoredImages,
    canvas,
    default_workers,
    list_images,
    read_augmentation,
    settle_range,
    take_pages,
)
from cnnfeat.layers import Classifier, find_classifier
from cnnfeat.networks import LoadOptions, Network, load_network, read_preprocessing
from cnnfeat.outputs import MIB
from cnnfeat.seen import SeenImages
from cnnfeat.store import load_head
from cnnfeat.training import World, replace_classifier, trained_modules

Features = dict[int, torch.Tensor]  # by row of the image list, float32 on the CPU
_FORWARD_BATCH = 32  # images


@dataclass(frozen=True, eq=False)
class Material:
    """What a run starts from, read and checked.

    `network` has the new `classifier`; `modules` are the names of what is trained.
    """

    image_list: ImageTable
    split: FinetuneSplit
    network: Network
    classifier: Classifier
    modules: list[str]
    inputs: ImageInputs  # augmented for training, centre crops for the rest

    def classifier_inputs(self, rows: np.ndarray, pool: str = "none") -> Features:
        """Return what the classifier reads for the centre crops of rows.

        Raises
        ------
        DataError
            If some of it is not finite.
        """
        images = StoredImages(self.inputs.centre_crops, rows)
        layer = self.classifier.input_layer
        with Extractor(
            self.network, [layer], pool=pool, batch_size=_FORWARD_BATCH
        ) as extractor:
            sink = ArraySink(images.n_images, extractor.specs)
            run(images, extractor, sink)
        if not sink.ok.all():
            reason = next(filter(None, sink.errors))
            raise DataError(f"{self.network.name!r} cannot be trained: {reason}")
        features = torch.from_numpy(sink.features[layer])
        return dict(zip(rows.tolist(), features, strict=True))


def read_list(
    images: Sources, options: FinetuneOptions, stdin: Iterable[str] | None = None
) -> ImageTable:
    """Return the images that are asked for, with their pages and range of values."""
    table = take_pages(list_images(images, stdin=stdin, options=options), options.pages)
    return settle_range(table, options.value_range)


def read_material(
    image_list: ImageTable, options: FinetuneOptions, world: World, told: Listener
) -> Material:
    """Read the network; draw the rows of the images; replace the classifier."""
    # What cannot be read is refused before any image is decoded.
    augmentation = read_augmentation(options.augmentation)
    if options.init_file:
        load_head(options.init_file)
    told.stage(f"loading {options.model}")
    network = load_network(
        options.model,
        weights=options.weights,
        seed=options.weights_seed,
        device=world.device,
        options=LoadOptions(
            options.allow_missing,
            preprocessing=read_preprocessing(options.preprocessing)
            if options.preprocessing
            else None,
        ),
    )
    network.module.to(memory_format=torch.channels_last)
    # Both are refused before any image is decoded.
    classifier = find_classifier(network)
    modules = trained_modules(network, classifier, options.train)
    preprocessing = network.weights.preprocessing
    workers = default_workers() if options.workers is None else options.workers
    centre_crops, wide = (
        PixelStore(
            image_list, one, workers=workers, memory_bytes=options.cache_mib * MIB
        )
        for one in (preprocessing, canvas(preprocessing))
    )
    to_train = centre_crops if augmentation.changes_nothing else wide
    told.stage(f"reading {len(image_list)} images")
    split = draw_readable(
        image_list,
        options,
        lambda rows, held: to_train.failures(rows) | centre_crops.failures(held),
    )
    world.check(len(split.train), options.batch_size)
    known = to_train.digests | centre_crops.digests
    image_list = image_list.with_digests(
        [known.get(row, "") for row in range(len(image_list))]
    )
    tuned_on = SeenImages.of_weights(network.weights.metadata)
    warn_of_images_seen(
        tuned_on,
        f"`weights={options.weights}`: the network was fine-tuned",
        image_list,
        split,
    )
    generator = torch.Generator().manual_seed(options.seed)
    network, classifier = replace_classifier(
        network, classifier, len(split.class_names), generator
    )
    if options.init_file:
        path = options.init_file
        head = init_from_head(network, classifier, path, split.class_names)
        what = f"`init={path}`: the head was trained"
        warn_of_images_seen(head.seen, what, image_list, split)
    inputs = ImageInputs(network, to_train, centre_crops, augmentation, options.seed)
    return Material(image_list, split, network, classifier, modules, inputs)
