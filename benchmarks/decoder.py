"""What `--decoder fast` changes on 12-megapixel JPEGs: speed, features, accuracy.

    python benchmarks/decoder.py IMAGES [--classes 10] [--per-class 40] [--weights PATH]

Images of some classes are enlarged (Lanczos) to JPEGs of quality 90 in a temporary
folder, features are extracted from them with both decoders by the command itself, and a
linear SVM is trained and tested on both, on the same splits. Tables are markdown.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from cnnfeat.heads import FeatureTransform, LinearSVM

N_SPLITS = 5


def enlarge(pair, megapixels):
    """Write one image with so many pixels."""
    source, target = pair
    with Image.open(source) as image:
        scale = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
        size = round(image.width * scale), round(image.height * scale)
        large = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    large.save(target, quality=90)


def write_images(images, folder, n_classes, per_class, megapixels):
    """Write the enlarged images: the classes are spread over those large enough."""
    found = {
        path: sorted(path.glob("*.jpg")) for path in sorted(Path(images).iterdir())
    }
    enough = [path for path, files in found.items() if len(files) >= per_class]
    picked = np.linspace(0, len(enough) - 1, n_classes).astype(int)
    pairs = []
    for path in (enough[k] for k in picked):
        (folder / path.name).mkdir(parents=True)
        pairs += [(f, folder / path.name / f.name) for f in found[path][:per_class]]
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(enlarge, megapixels=megapixels), pairs))
    return len(pairs)


def extract(folder, output, decoder, options):
    """Return what `cnnfeat extract --json` printed, features and labels."""
    command = [sys.executable, "-m", "cnnfeat", "extract", folder, "-o", output]
    how = ["--decoder", decoder, "--engine", "eager", "--workers", "2", "--quiet"]
    done = subprocess.run(
        [*command, *how, *options, "--json"], check=True, capture_output=True
    )
    with h5py.File(output) as file:
        X = next(iter(file["features"].values()))[:]
        y = file["images/label"][:]
    return json.loads(done.stdout), X.reshape(len(X), -1), y


def accuracies(X, y, n_train):
    """Return the accuracy on each split: `n_train` a class, tested on the rest."""
    found = []
    for seed in range(N_SPLITS):
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(y))
        train = np.concatenate([order[y[order] == k][:n_train] for k in np.unique(y)])
        test = np.setdiff1d(order, train)
        scale = FeatureTransform("l2").fit(X[train])
        head = LinearSVM(C=1.0).fit(scale.transform(X[train]), y[train])
        found.append((head.predict(scale.transform(X[test])) == y[test]).mean())
    return 100 * np.array(found)


def report(exact, fast, n_train):
    """Print speed, difference of the features, and accuracy."""
    (report_a, X, y), (report_b, Z, _) = exact, fast
    norms = np.linalg.norm(X, axis=1) * np.linalg.norm(Z, axis=1)
    cosine = (X * Z).sum(axis=1, dtype=np.float64) / norms
    low, tenth, middle = np.quantile(cosine, [0, 0.1, 0.5])
    change = np.abs(X - Z) / np.ptp(X)
    cost = [1000 * r["time"]["decode"] / len(y) for r in (report_a, report_b)]
    print("| decoder | decode, ms an image | accuracy, % |\n| --- | --- | --- |")
    results = [accuracies(features, y, n_train) for features in (X, Z)]
    for name, ms, found in zip(("pil", "fast"), cost, results, strict=True):
        print(f"| {name} | {ms:.0f} | {found.mean():.2f} ± {found.std(ddof=1):.2f} |")
    gain = results[1] - results[0]
    print(f"\nfast decodes {cost[0] / cost[1]:.1f} x as fast")
    print(f"cosine of rows: least {low:.4f}, 10 % {tenth:.4f}, median {middle:.4f}")
    print(f"change of a value, of the range: mean {change.mean():.4f}, ", end="")
    print(f"largest {change.max():.3f}")
    print(
        f"accuracy, fast - pil, on the same splits: {gain.mean():+.2f} points ", end=""
    )
    print(f"({gain.min():+.2f} to {gain.max():+.2f}), {n_train} trained on a class")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", help="a folder of class folders, such as Caltech-101")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--per-class", type=int, default=40)
    parser.add_argument("--megapixels", type=float, default=12.0)
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--weights", default="default")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cnnfeat-decoder-") as name:
        folder = Path(name)
        counts = chosen.classes, chosen.per_class
        n = write_images(chosen.images, folder / "images", *counts, chosen.megapixels)
        print(f"{n} JPEGs of {chosen.megapixels:g} megapixels, {chosen.model}\n")
        options = ["--model", chosen.model, "--weights", chosen.weights]
        exact, fast = (
            extract(folder / "images", folder / f"{decoder}.h5", decoder, options)
            for decoder in ("pil", "fast")
        )
        report(exact, fast, n_train=chosen.per_class // 2)


if __name__ == "__main__":
    main()
