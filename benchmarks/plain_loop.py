"""The loop that a user would write: torchvision, DataLoader, one HDF5 write at end.

Prints one JSON object: images, seconds, images_per_second. Run by `extract.py`.
"""

import argparse
import json
import os
import time

import h5py
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.models.feature_extraction import create_feature_extractor

from cnnfeat import list_images, load_network


class Images(Dataset):
    def __init__(self, image_list, constants):
        root, paths = image_list.root, image_list.paths
        self.paths = [os.path.join(root, path) for path in paths]
        mode = transforms.InterpolationMode(constants.interpolation)
        self.transform = transforms.Compose(
            [
                transforms.Resize(constants.resize_size, mode),
                transforms.CenterCrop(constants.crop_size),
                transforms.ToTensor(),
                transforms.Normalize(constants.mean, constants.std),
            ]
        )

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, k):
        return self.transform(Image.open(self.paths[k]).convert("RGB"))


def feature_function(module, layer):
    """Return a function from images to the layer's activations, as the docs tell."""
    if layer == "global_pool" and hasattr(module, "reset_classifier"):
        module.reset_classifier(0)  # timm's own way; torchvision's cannot trace it
        return module.eval()
    extractor = create_feature_extractor(module, {layer: "features"}).eval()
    return lambda images: extractor(images)["features"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("images")
    parser.add_argument("output")
    parser.add_argument("--model", required=True)
    parser.add_argument("--weights", default="default")
    parser.add_argument("--layer", required=True)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--device", default="auto")
    chosen = parser.parse_args()
    started = time.monotonic()
    # The loaders are cnnfeat's, so that both sides have the same weights and images.
    network = load_network(chosen.model, weights=chosen.weights, device=chosen.device)
    images = Images(list_images(chosen.images), network.weights.preprocessing)
    extract = feature_function(network.module, chosen.layer)
    loader = DataLoader(images, chosen.batch_size, num_workers=chosen.workers)
    features = []
    with torch.no_grad():
        for batch in loader:
            features.append(extract(batch.to(network.device)).cpu().numpy())
    with h5py.File(chosen.output, "w") as file:
        file["features"] = np.concatenate(features)
    seconds = time.monotonic() - started
    print(json.dumps({"n_images": len(images), "seconds": seconds}))


if __name__ == "__main__":
    main()
