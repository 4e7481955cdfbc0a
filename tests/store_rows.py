"""The feature file that the tests of the store write, in any batches."""

import itertools

import h5py
import numpy as np

from cnnfeat.image_table import ImageTable
from cnnfeat.layer_spec import LayerSpec
from cnnfeat.store import Contents, FeatureWriter

N = 23
JOB = {"model": "tiny", "images": "abc"}


def contents(n=N, dtype="float32", **changes):
    table = {
        "root": "/images",
        "paths": tuple(f"bée/{k:03}.png" for k in range(n)),
        "labels": np.arange(n, dtype=np.int32) % 2,
        "class_names": ("bée", "ant"),
    }
    fields = {
        "layers": (
            LayerSpec("fc7:pre", "classifier.4", (5,), "none", True, dtype),
            LayerSpec("conv1", "features.0", (3, 2, 4), "avg", False, dtype),
        ),
        "provenance": {"model": "tiny", "preprocessing": '{"resize": 8}'},
        "command": "cnnfeat extract images",
    }
    table |= {key: changes.pop(key) for key in table if key in changes}
    return Contents(**{"table": ImageTable(**table), **fields, **changes})


def features(start, stop, seed=0):
    """The same rows whatever the batch they come in."""
    rows = [np.random.default_rng([seed, k]) for k in range(start, stop)]
    return {
        "fc7:pre": np.array([rng.normal(size=5) for rng in rows], np.float32),
        "conv1": np.array([rng.normal(size=(3, 2, 4)) for rng in rows], np.float32),
    }


def write(writer, start, stop):
    ok = np.array([k % 5 != 3 for k in range(start, stop)], dtype=bool)
    errors = ["" if good else f"bad image {k}" for k, good in enumerate(ok, start)]
    digests = [f"{k:032x}" if good else "" for k, good in enumerate(ok, start)]
    writer.write(start, features(start, stop), ok, errors, digests)


def finish(path, batches, **options):
    with FeatureWriter(path, contents(), fingerprint=JOB, **options) as writer:
        for start, stop in itertools.pairwise(batches):
            write(writer, start, stop)
            writer.commit()
        writer.finish()


def datasets(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: (item.dtype.str, item[()].tolist())})
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    return found


def leftovers(folder):
    return sorted(path.name for path in folder.iterdir())


def interrupt(path, committed, written, **options):
    """Leave a .part as a killed process would: without close()."""
    writer = FeatureWriter(path, contents(), fingerprint=JOB, **options)
    if committed:
        write(writer, 0, committed)
        writer.commit()
    if written > committed:
        write(writer, committed, written)
    writer._file.close()
    writer._journal.close()
