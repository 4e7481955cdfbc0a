"""What is trained on what: the whole network on images, or its tail on features."""

from dataclasses import replace

import numpy as np
import torch

from cnnfeat.extraction import Extractor
from cnnfeat.finetune._frozen import fit_start
from cnnfeat.finetune._initial import put_head
from cnnfeat.finetune._inputs import FeatureInputs, normalized
from cnnfeat.finetune._listener import Listener
from cnnfeat.finetune._material import Features, Material
from cnnfeat.finetune._options import FinetuneOptions
from cnnfeat.heads import MEAN_NORM
from cnnfeat.images import read_augmentation
from cnnfeat.outputs import MIB
from cnnfeat.training import Tail, TrainingRun, World, prepare, split_tail

_N_LOOKED_AT = 128  # training images that show what the classifier will read


def prepare_run(
    material: Material, options: FinetuneOptions, world: World, told: Listener
) -> tuple[TrainingRun, Features]:
    """Return what is trained on what, and the frozen features for the comparison."""
    network, classifier, split = material.network, material.classifier, material.split
    tail = _find_tail(material)
    alone = tail is not None and _suffices(material, options)
    features: Features = {}
    compares = options.frozen and world.is_first and len(split.test) > 0
    starts = options.init == "frozen" and world.is_first
    if alone or compares or starts:
        tested = split.test if alone or compares else split.test[:0]
        everything = np.concatenate([split.training, tested])
        told.stage(f"computing frozen features of {len(everything)} images")
        # Heads read the average over the image.
        pool = "none" if alone else "avg"
        features = material.classifier_inputs(everything, pool)
    if starts:  # other processes take over the first one's weights
        told.stage("fitting the frozen head to start from")
        head = fit_start(features, split, material.image_list, options.seed)
        put_head(classifier, head, split.class_names, "frozen")
    # Rows are sorted by class: take them from all over.
    some = split.training[:: max(1, len(split.training) // _N_LOOKED_AT)]
    stored = features if alone else material.classifier_inputs(some)
    inputs = torch.stack([stored[row] for row in some.tolist()]).to(network.device)
    # The extractor has laid 1 x 1 weights out channels last; stored maps (m, d, h, w)
    # would have to be turned at every step.
    classifier.module.to(memory_format=torch.contiguous_format)
    if tail is not None:
        tail.lift_above_relu(inputs)
    # Nothing before the classifier acts where it is trained on stored features.
    acting = replace(classifier, dropouts=()) if alone else classifier
    own_norm = getattr(classifier.module, "input_norm", None)
    run = TrainingRun(
        model=tail if tail is not None and alone else network.module,
        trained=prepare(network, acting, material.modules, options, world),
        inputs=FeatureInputs(features, network.device) if alone else material.inputs,
        train=split.train,
        validation=split.validation,
        y=split.y,
        n_classes=len(split.class_names),
        input_scale=(own_norm or mean_norm(inputs)) / MEAN_NORM,
        settings=options,
        world=world,
        device=network.device,
    )
    return run, features


def _find_tail(material: Material) -> Tail | None:
    """Return the network behind its classifier's input, tried on noise."""
    network, classifier = material.network, material.classifier
    height, width = network.weights.preprocessing.crop_size
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, (1, 1, height, width, 3), dtype=np.uint8)
    with Extractor(network, [classifier.input_layer]) as extractor:
        inputs = extractor(noise)[classifier.input_layer]
    return split_tail(
        network,
        classifier,
        images=normalized(network, noise),
        inputs=torch.from_numpy(inputs).to(network.device),
    )


def _suffices(material: Material, options: FinetuneOptions) -> bool:
    """Return whether the tail is all that is trained, on features that fit memory."""
    n_rows = len(material.split.training) + len(material.split.test)
    n_bytes = 4 * n_rows * int(np.prod(material.classifier.input_shape))
    return (
        options.train == "head"
        and read_augmentation(options.augmentation).changes_nothing
        and n_bytes <= options.cache_mib * MIB
    )


def mean_norm(inputs: torch.Tensor) -> float:
    """Return the mean Euclidean norm of features; spatial ones are averaged first."""
    if inputs.ndim == 4:  # a convolution reads (m, c, h, w)
        inputs = inputs.mean(dim=(2, 3))
    return float(inputs.flatten(0, -2).norm(dim=1).mean())
