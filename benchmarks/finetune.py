"""Images a second of the training loop beside the bare loop, in one run.

    python benchmarks/finetune.py [--model squeezenet1_1] [--images 128] [--device cpu]

The bare loop takes one synthetic batch forward and backward again and again; ours
decodes, augments, trains and counts. Read the ratios: rates depend on the machine. The
last line holds `--train head` against one extraction of the same images.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cnnfeat.extract import ExtractOptions, extract_features
from cnnfeat.finetune import FinetuneOptions, finetune_network
from cnnfeat.networks import load_network
from cnnfeat.training import autocast


def make_images(folder: Path, n_images: int) -> Path:
    """Write noisy JPEG images of two classes, 300 x 260 pixels."""
    rng = np.random.default_rng(0)
    for k in range(n_images):
        place = folder / "images" / ("even", "odd")[k % 2]
        place.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((300, 260)).save(place / f"{k}.jpg")
    return folder / "images"


def bare_rate(arguments: argparse.Namespace, seconds: float = 10.0) -> float:
    """Return images a second of the plainest loop, on one batch of noise."""
    network = load_network(arguments.model, weights="random", device=arguments.device)
    module = network.module.to(memory_format=torch.channels_last).requires_grad_(True)
    height, width = network.weights.preprocessing.crop_size
    images = torch.randn(arguments.batch_size, 3, height, width, device=network.device)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.zeros(len(images), dtype=torch.long, device=network.device)
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-6, momentum=0.9)

    def steps(n_steps: int) -> float:
        started = time.perf_counter()
        for _ in range(n_steps):
            with autocast(network.device, arguments.precision):
                loss = torch.nn.functional.cross_entropy(module(images), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        float(loss.detach())  # a GPU is waited for once, as in ours
        return time.perf_counter() - started

    steps(1)
    n_steps = max(3, round(seconds / steps(2) * 2))
    return n_steps * len(images) / steps(n_steps)


def our_rate(images: Path, arguments: argparse.Namespace, augment: str) -> float:
    """Return images a second of all epochs but the first."""
    options = FinetuneOptions(
        model=arguments.model,
        weights="random",
        augment=augment,
        epochs=3,
        batch_size=arguments.batch_size,
        lr=1e-6,
        batch_norm="frozen",
        validation=0.0,
        test_share=0.0,
        device=arguments.device,
        precision=arguments.precision,
        frozen=False,
        overwrite=True,
    )
    report = finetune_network(str(images), f"{images}.safetensors", options)
    assert report is not None
    return float(np.mean([r["images_per_second"] for r in report.history[1:]]))


def head_against_extraction(images: Path, arguments: argparse.Namespace) -> float:
    """Return the seconds of `--train head` over those of one extraction."""
    extraction = extract_features(
        str(images),
        f"{images}.h5",
        ExtractOptions(
            model=arguments.model, weights="random", device=arguments.device
        ),
    )
    options = FinetuneOptions(
        model=arguments.model,
        weights="random",
        train="head",
        epochs=20,
        lr=1e-3,
        device=arguments.device,
        frozen=False,
        validation=0.0,
        test_share=0.0,
        overwrite=True,
    )
    report = finetune_network(str(images), f"{images}.safetensors", options)
    assert report is not None
    return report.seconds / extraction.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="squeezenet1_1")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="fp32")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        images = make_images(Path(folder), arguments.images)
        bare = bare_rate(arguments)
        ours = {
            name: our_rate(images, arguments, name)
            for name in ("none", "light", "classic")
        }
        again = bare_rate(arguments)
        head = head_against_extraction(images, arguments)
    bare = (bare + again) / 2  # a drifting machine shows in both
    result = {
        "bare_images_per_second": round(bare, 1),
        "ours_over_bare": {name: round(rate / bare, 3) for name, rate in ours.items()},
        "head_over_extraction": round(head, 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
