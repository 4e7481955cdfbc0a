"""Digests of what the commands make, to hold two revisions against each other.

    python tests/digests.py IMAGES SQUEEZENET.pth > before.txt     (and after.txt)

IMAGES is Caltech-101. Features, heads, splits, tables and predictions are made by the
commands of the `cnnfeat` on the path and read by h5py alone, so the script outlives
any change of the package. Digests differ between machines: only those of one machine,
the same libraries and the same number of threads can be compared.
"""

import csv
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np

CLASSES = (
    "accordion",
    "anchor",
    "ant",
    "barrel",
    "bass",
    "beaver",
    "binocular",
    "brain",
)
EXTRACTIONS = {
    "squeezenet eager": "squeezenet1_1 WEIGHTS eager 8 features.3 features.12",
    "squeezenet openvino": "squeezenet1_1 WEIGHTS openvino 8 features.3 features.12",
    "squeezenet pooled": "squeezenet1_1 WEIGHTS eager 8 features.3 features.12 "
    "--pool avg",
    "squeezenet pyramid": "squeezenet1_1 WEIGHTS eager 8 features.12 --pool pyramid",
    "squeezenet ten": "squeezenet1_1 WEIGHTS eager 2 features.12 --pool avg "
    "--crops ten",
    "squeezenet ten stacked": "squeezenet1_1 WEIGHTS eager 2 features.12 --pool max "
    "--crops ten-stacked",
    "squeezenet bf16": "squeezenet1_1 WEIGHTS eager 8 features.12 --precision bf16",
    "alexnet eager": "alexnet random eager 8 conv1:pre conv5 fc6:pre fc7",
    "alexnet openvino": "alexnet random openvino 8 conv1:pre conv5 fc6:pre fc7",
    "vit eager": "vit_b_16 random eager 4 encoder.layers.encoder_layer_3 encoder.ln",
    "vit openvino": "vit_b_16 random openvino 4 encoder.ln",
    "lite0 eager": "efficientnet_lite0 default eager 8 blocks.2 global_pool",
    "lite0 openvino": "efficientnet_lite0 default openvino 8 blocks.2 global_pool",
}
FEW = ("vit eager", "vit openvino", "squeezenet ten", "squeezenet ten stacked")


def run(*arguments):
    """Run a command of cnnfeat and return what it printed."""
    command = [sys.executable, "-m", "cnnfeat", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


def digest(data):
    """Return a short digest of bytes, text or an array."""
    if isinstance(data, np.ndarray):
        data = (
            f"{data.dtype} {data.shape}".encode() + np.ascontiguousarray(data).tobytes()
        )
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()[
        :16
    ]


def tell(name, *parts):
    """Print one digest."""
    print(f"{name}: {digest(' '.join(map(digest, parts)))}", flush=True)


def manifest(images, path, per_class):
    """Write a manifest of the first images of each class."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        for name in CLASSES:
            for image in sorted((images / name).iterdir())[:per_class]:
                writer.writerow([str(image), name])
    return path


def extract(name, images, weights, output, *more):
    """Extract as `EXTRACTIONS` says, and tell the digest of each layer."""
    model, which, engine, size, *rest = EXTRACTIONS[name].split()
    layers = [part for part in rest if not part.startswith("--")]
    options = (
        rest[rest.index(next(p for p in rest if p.startswith("--"))) :]
        if any(part.startswith("--") for part in rest)
        else []
    )
    layers = layers[: len(layers) - sum(not p.startswith("--") for p in options)]
    run(
        *("extract", images, "-o", output, "--model", model, "--engine", engine),
        *("--weights", weights if which == "WEIGHTS" else which, "--batch-size", size),
        *(part for layer in layers for part in ("--layer", layer)),
        *("--device", "cpu", "--quiet", *options, *more),
    )
    with h5py.File(output) as file:
        for layer in file["features"]:
            tell(f"{name} {layer}", file["features"][layer][:])
        tell(f"{name} images", file["images/label"][:], file["images/ok"][:])


def heads(features, folder):
    """Tell the digests of heads, their evaluation, splits and benchmark tables."""
    for kind in ("svm", "softmax"):
        for number, options in enumerate(
            (
                ("--C", "1"),
                (),
                ("--scale", "mean-norm", "--signed-sqrt"),
                ("--dropout", "0.5", "--C", "1,10"),
            )
        ):
            head = folder / f"{kind}{number}.h5"
            layers = ("--layer", "features.3+features.12" if number else "features.12")
            training = ("--train-per-class", "20", *layers, *options)
            run(f"train-{kind}", features, "-o", head, *training)
            with h5py.File(head) as file:
                arrays = [file["coef"][:], file["intercept"][:]]
                arrays += [file["scaler"][key][()] for key in sorted(file["scaler"])]
                paths = "".join(Path(p).name for p in file["training/path"].asstr())
                C = json.loads(file.attrs["hyperparameters"])["C"]
            tell(f"{head.stem} arrays", *arrays)
            tell(f"{head.stem} rows and C", paths, str(C))
            found = json.loads(run("evaluate", head, features, "--json"))
            tell(f"{head.stem} evaluation", json.dumps(found, sort_keys=True))
    drawing = ("--protocol", "folder", "--train-per-class", "15", "--splits", "3")
    run("splits", features, *drawing, "-o", folder / "splits.csv")
    tell("splits", (folder / "splits.csv").read_bytes())
    for name, options in {
        "benchmark": (),
        "benchmark sizes": (
            "--train-sizes",
            "5,15",
            "--signed-sqrt",
            "--scale",
            "standard",
        ),
        "benchmark dropout": (
            "--dropout",
            "0.5",
            "--C",
            "1,10",
            "--layer",
            "features.12",
        ),
        "benchmark streamed": ("--memory-mib", "1", "--head", "svm"),
    }.items():
        rows = drawing if "sizes" not in name else (*drawing[:2], *drawing[4:])
        both = () if "streamed" in name else ("--head", "svm", "--head", "softmax")
        text = run("benchmark", features, *rows, *both, *options, "--json", "--quiet")
        report = json.loads(text)
        for row in report["rows"]:
            tell(f"{name} {row['name']}", json.dumps(row, sort_keys=True))
        tell(f"{name} splits", json.dumps(report["split_sets"], sort_keys=True))


def finetuning(images, weights, folder):
    """Tell the digests of fine-tuned weights and of the closing table."""
    from safetensors.numpy import load_file

    for train in ("head", "last:1"):
        path = folder / f"{train[:4]}.safetensors"
        text = run(
            *("finetune", images, "-o", path, "--model", "squeezenet1_1"),
            *("--weights", weights, "--train", train, "--epochs", "2"),
            *("--train-per-class", "20", "--json", "--quiet", "--device", "cpu"),
        )
        report = json.loads(text)
        for row in report["comparison"]:
            tell(f"finetune {train} {row['model']}", json.dumps(row, sort_keys=True))
        losses = [[one["loss"], one["validation_loss"]] for one in report["history"]]
        tell(f"finetune {train} losses", json.dumps(losses))
        state = load_file(path)
        tell(f"finetune {train} weights", *(state[key] for key in sorted(state)))
        found = json.loads(run("predict", path, images, "--json", "--quiet"))
        scores = [[one["labels"], one["scores"]] for one in found["predictions"]]
        tell(f"finetune {train} predictions", json.dumps(scores))


def main():
    """Print all digests."""
    images, weights = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        many = manifest(images, folder / "many.csv", 40)
        some, few = (manifest(images, folder / f"{n}.csv", n) for n in (8, 2))
        for number, label in enumerate(EXTRACTIONS):
            chosen = few if label in FEW else some
            extract(label, chosen, weights, folder / f"{number}.h5")
        extract(
            "squeezenet pooled", many, weights, folder / "many.h5", "--workers", "2"
        )
        heads(folder / "many.h5", folder)
        finetuning(many, weights, folder)


if __name__ == "__main__":
    main()
