"""A small feature file that has all that other tools' formats must carry."""

import numpy as np

from cnnfeat.image_table import ImageTable
from cnnfeat.layer_spec import LayerSpec
from cnnfeat.store import Contents, FeatureWriter

CLASSES = ("=ant, red", "bee", "käfer")


def write_small(path, n=14):
    """Write rows of two layers, float16 maps among them; row 3 failed, 5 unlabelled."""
    rng = np.random.default_rng(3)
    labels = (np.arange(n) % 3).astype(np.int32)
    labels[5] = -1
    ok = np.arange(n) != 3
    columns = {
        "plate": np.array([f"p{k % 2}" for k in range(n)], dtype=object),
        "ok": np.array(["theirs"] * n, dtype=object),
    }
    paths = [f"{k}/ä {k}.png" for k in range(n)]
    table = ImageTable("/data/x", paths, labels, CLASSES, columns=columns)
    specs = [
        LayerSpec("fc", "head.fc", (5,)),
        LayerSpec("label", "body.1", (2, 2, 3), dtype="float16"),
    ]
    rows = {
        "fc": rng.normal(size=(n, 5)).astype(np.float32),
        "label": rng.normal(size=(n, 2, 2, 3)).astype(np.float16).astype(np.float32),
    }
    provenance = {"model": "made", "weights_sha256": "ab", "images_sha256": "cd"}
    contents = Contents(table, specs, provenance, "cnnfeat made")
    with FeatureWriter(path, contents, fingerprint={}) as writer:
        errors = ["" if one else "cut short" for one in ok]
        writer.write(0, rows, ok, errors, [f"{k:032x}" for k in range(n)])
        writer.finish()
    for values in rows.values():
        values[3] = 0
    return rows
