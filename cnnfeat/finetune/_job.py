"""What is trained on what: the whole network on images, or its tail on features."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from cnnfeat.finetune._distributed import World
from cnnfeat.finetune._initial import lift_above_relu
from cnnfeat.finetune._material import Material, classifier_inputs
from cnnfeat.finetune._options import FinetuneOptions
from cnnfeat.finetune._rows import fits
from cnnfeat.finetune._sources import Features, FeatureSource, Source
from cnnfeat.finetune._surgery import (
    decide_statistics,
    find_classifier,
    prepare,
    trained_modules,
)
from cnnfeat.finetune._tail import Tail, split_tail
from cnnfeat.finetune._training import Job
from cnnfeat.images import read_augmentation

_N_LOOKED_AT = 128  # training images that show what the classifier will read


def prepare_job(
    material: Material,
    options: FinetuneOptions,
    world: World,
    save: Callable[[dict[str, Any]], None],
) -> tuple[Job, Features]:
    """Return what is trained on what, and the frozen features for the comparison."""
    network = material.network
    on_cuda = network.device.type == "cuda"
    statistics = decide_statistics(
        options.batch_norm, options.batch_size, world.size, on_cuda
    )
    if statistics and world.size > 1:
        nn.SyncBatchNorm.convert_sync_batchnorm(network.module)
    tail = split_tail(network)
    features = _features_to_keep(material, options, tail, world)
    alone = _runs_tail_alone(material, options, tail)
    inputs = _some_inputs(material, features if alone else {}).to(network.device)
    if tail is not None:
        lift_above_relu(tail, inputs)
    model: nn.Module = network.module
    source: Source = material.images
    if tail is not None and alone:
        model, source = tail, FeatureSource(features, network.device)
    job = Job(
        model=model,
        module=network.module,
        trained=prepare(
            network,
            trained_modules(network, options.train, options.n_stages),
            dropout=options.dropout,
            statistics=statistics,
            tail_only=model is tail,
        ),
        source=source,
        rows=material.rows,
        y=material.y,
        n_classes=len(material.class_names),
        options=options,
        world=world,
        device=network.device,
        save=save,
        feature_norm=_norm_read(find_classifier(network).module, inputs),
    )
    return job, features


def _some_inputs(material: Material, stored: Features) -> torch.Tensor:
    """Return what the classifier reads for some training images, (m, ...)."""
    training = material.rows.training
    # Rows are sorted by class: take them from all over.
    rows = training[:: max(1, len(training) // _N_LOOKED_AT)]
    stored = stored or classifier_inputs(material, rows)
    return torch.stack([stored[row] for row in rows.tolist()])


def _norm_read(classifier: nn.Module, inputs: torch.Tensor) -> float:
    """Return the mean norm of what the classifier multiplies with its weights."""
    own = getattr(classifier, "input_norm", None)
    return mean_norm(inputs) if own is None else float(own)


def mean_norm(inputs: torch.Tensor) -> float:
    """Return the mean Euclidean norm of features; spatial ones are averaged first."""
    if inputs.ndim == 4:  # a convolution reads (m, c, h, w)
        inputs = inputs.mean(dim=(2, 3))
    return float(inputs.flatten(0, -2).norm(dim=1).mean())


def _runs_tail_alone(
    material: Material, options: FinetuneOptions, tail: Tail | None
) -> bool:
    """Return whether what is frozen runs once, and its features fit the memory."""
    rows = material.rows
    shape = find_classifier(material.network).input
    row_bytes = 4 * int(np.prod(shape.shape if shape else (1,)))
    return (
        options.train == "head"
        and tail is not None
        and read_augmentation(options.augmentation).changes_nothing
        and fits(len(rows.training) + len(rows.test), row_bytes, options.cache_mib)
    )


def _features_to_keep(
    material: Material, options: FinetuneOptions, tail: Tail | None, world: World
) -> Features:
    """Return the classifier's inputs of all rows, where someone needs them.

    Whole for a tail that is trained alone; averaged over the image for the comparison.
    """
    alone = _runs_tail_alone(material, options, tail)
    compares = options.frozen and world.is_first and len(material.rows.test)
    if not alone and not compares:
        return {}
    everything = np.concatenate([material.rows.training, material.rows.test])
    return classifier_inputs(material, everything, pool=not alone)
