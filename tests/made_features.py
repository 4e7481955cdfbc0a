"""A feature file of two made layers, and the options of a small benchmark of it."""

import numpy as np

from cnnfeat.benchmark import BenchmarkOptions, DrawOptions
from cnnfeat.image_table import ImageTable
from cnnfeat.layer_spec import LayerSpec
from cnnfeat.store import Contents, FeatureWriter

DRAW = (
    "seed",
    "splits_file",
    "train_per_class",
    "n_splits",
    "n_folds",
    "train_sizes",
    "test_per_class",
    "protocol",
)


def write_features(
    path, n_per_class=12, n_classes=4, seed=0, poison=None, n_features=16
):
    """Write a feature file of two made layers, the second easier than the first."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n_classes), n_per_class).astype(np.int32)
    names = [f"class{k}" for k in range(n_classes)]
    paths = [f"{names[k]}/{i:03d}.png" for i, k in enumerate(labels)]
    means = rng.normal(size=(n_classes, n_features))
    noise = rng.normal(size=(len(labels), n_features))
    layers = {
        "layer2": (means[labels] * 0.7 + noise).astype(np.float32),
        "layer10": (means[labels] * 2.0 + noise).astype(np.float32),
    }
    if poison is not None:
        layers = {name: poison(X.copy()) for name, X in layers.items()}
    specs = [LayerSpec(name, name, (n_features,)) for name in layers]
    provenance = {"model": "made", "images_sha256": "0" * 64}
    table = ImageTable(str(path.parent), paths, labels, names)
    contents = Contents(table, specs, provenance, "")
    with FeatureWriter(path, contents, fingerprint={}) as writer:
        ok = np.ones(len(labels), bool)
        writer.write(0, layers, ok, [""] * len(labels))
        writer.finish()
    return path


def options(**changes):
    draw = {"protocol": "folder", "train_per_class": 6, "n_splits": 3}
    draw |= {key: changes.pop(key) for key in list(changes) if key in DRAW}
    return BenchmarkOptions(draw=DrawOptions(**draw), **changes)
