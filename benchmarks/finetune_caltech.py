"""Frozen softmax against fine-tuning on 20 classes of Caltech-101.

    python benchmarks/finetune_caltech.py DATA WEIGHTS [--seeds 3] [--epochs 8]

DATA is the folder of Caltech-101's class folders, WEIGHTS a weights file of
squeezenet1_1. 30 training images a class, the rest are the test; every fifth class.
The classifier starts from a softmax trained on frozen features of the same training
images. Prints one Markdown row a method: mean per-class accuracy, mean and standard
deviation over the seeds.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

import numpy as np

from cnnfeat.extract import ExtractOptions, extract_features
from cnnfeat.finetune import FinetuneOptions, finetune_network
from cnnfeat.metrics import mean_std
from cnnfeat.train import TrainOptions, train_head

MODEL = "squeezenet1_1"
N_CLASSES = 20
TRAIN_PER_CLASS = 30


def choose_classes(data: Path, folder: Path) -> Path:
    """Link every fifth class into a folder of their own."""
    names = sorted(p.name for p in data.iterdir() if p.is_dir())
    names = [name for name in names if name != "BACKGROUND_Google"]
    chosen = folder / "images"
    chosen.mkdir()
    for name in names[::5][:N_CLASSES]:
        os.symlink((data / name).resolve(), chosen / name)
    return chosen


def train_softmax(images: Path, weights: str, seed: int) -> str:
    """Train the head that the classifier starts from, on the same training images."""
    features, head = f"{images}.h5", f"{images}-{seed}-head.h5"
    if not Path(features).exists():
        extract_features(
            str(images),
            features,
            ExtractOptions(model=MODEL, weights=weights, pool="avg"),
        )
    train_head(
        features,
        head,
        TrainOptions(
            kind="softmax",
            scale="mean-norm",
            train_per_class=TRAIN_PER_CLASS,
            seed=seed,
        ),
    )
    return head


def finetune(
    images: Path, weights: str, head: str, seed: int, augment: str, epochs: int
) -> dict[str, float]:
    """Return mean per-class accuracy by method, on the same held-out images."""
    report = finetune_network(
        str(images),
        f"{images}.safetensors",
        FinetuneOptions(
            model=MODEL,
            weights=weights,
            init=head,
            augment=augment,
            epochs=epochs,
            lr=LR,
            backbone_lr_scale=1.0,
            train_per_class=TRAIN_PER_CLASS,
            seed=seed,
            patience=0,
            overwrite=True,
        ),
    )
    assert report is not None
    return {row["model"]: row["mean_per_class_accuracy"] for row in report.comparison}


# A first guess; not tuned yet. To be chosen on validation rows, never on test rows.
LR = 0.001


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    arguments = parser.parse_args()
    results: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        images = choose_classes(arguments.data, Path(folder))
        for seed in range(arguments.seeds):
            head = train_softmax(images, arguments.weights, seed)
            for augment in ("light", "classic"):
                scores = finetune(
                    images, arguments.weights, head, seed, augment, arguments.epochs
                )
                tuned = scores.pop("fine-tuned all")
                results.setdefault(f"fine-tuned all, {augment}", []).append(tuned)
                for name, value in scores.items():
                    if augment == "light":  # the same heads both times
                        results.setdefault(name, []).append(value)
                print(
                    json.dumps(
                        {
                            "seed": seed,
                            "augment": augment,
                            **scores,
                            "fine-tuned": tuned,
                        }
                    ),
                    flush=True,
                )
    print("| method | mean per-class accuracy (%) |\n|---|---|")
    for name, values in results.items():
        mean, std = mean_std(100 * np.array(values))
        print(f"| {name} | {mean:.1f} ± {std:.1f} |")


if __name__ == "__main__":
    main()
