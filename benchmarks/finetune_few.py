"""Fine-tuning on few images against heads on frozen features of the same images.

    python benchmarks/finetune_few.py DATA [--classes a,b,...] [--per-class 3,5,10]
        [--model NAME] [--weights PATH] [--seeds 3] [--init frozen|noise]

DATA is a folder of class folders. For each number of training images and each seed:
accuracy on --test images a class of the frozen heads and of the network fine-tuned
with the defaults. Prints one row each, and the mean over the seeds.
"""

import argparse
import csv
import tempfile
import warnings
from pathlib import Path
from statistics import mean

from cnnfeat import CnnfeatWarning, FinetuneOptions, finetune_network, list_images


def write_manifest(path, data, names):
    """List the images of some classes; return the path."""
    table = list_images(data)
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["path", "label"])
        for row, label in enumerate(table.labels):
            name = table.class_names[label]
            if not names or name in names:
                lines.writerow([table.absolute_path(row), name])
    return path


def measure(manifest, options):
    """Return accuracies in percent: frozen SVM, frozen softmax, fine-tuned."""
    output = manifest.parent / "tuned.safetensors"
    report = finetune_network(str(manifest), str(output), options)
    return [100 * row["accuracy"] for row in report.comparison]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--classes", default="")
    parser.add_argument("--per-class", default="3,5,10")
    parser.add_argument("--test", type=int, default=10)
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--init", default="frozen")
    asked = parser.parse_args()
    warnings.simplefilter("ignore", CnnfeatWarning)
    print("per class  seed  frozen SVM  frozen softmax  fine-tuned")
    with tempfile.TemporaryDirectory() as folder:
        names = [name for name in asked.classes.split(",") if name]
        manifest = write_manifest(Path(folder) / "images.csv", asked.data, names)
        for n in map(int, asked.per_class.split(",")):
            found = []
            for seed in range(asked.seeds):
                options = FinetuneOptions(
                    model=asked.model,
                    weights=asked.weights,
                    init=asked.init,
                    train_per_class=n,
                    test_per_class=asked.test,
                    seed=seed,
                    workers=0,
                    overwrite=True,
                )
                found.append(measure(manifest, options))
                print_row(n, seed, found[-1])
            print_row(n, "mean", [mean(column) for column in zip(*found, strict=True)])


def print_row(n, seed, values):
    shown = "  ".join(f"{v:{w}.1f}" for v, w in zip(values, (10, 14, 10), strict=True))
    print(f"{n:9}  {seed:>4}  {shown}", flush=True)


if __name__ == "__main__":
    main()
