"""Write patches of 19 photographs as class folders: which one is a patch from?

The photographs come inside scikit-image (17) and scikit-learn (2), so nothing is
downloaded. Training patches are cut from the left half of a photograph and test patches
from its right half; each has a scale, quarter turns, brightness and contrast at random.
`splits.csv` in the folder divides them into three splits that share no patch.
Usage: python data/make_photographs.py FOLDER
"""

import csv
import os
import sys
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

IN_SKIMAGE = (
    *("astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png"),
    *("coffee.png", "coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg"),
    *("ihc.png", "moon.png", "motorcycle_left.png", "page.png", "retina.jpg"),
    *("rocket.jpg", "text.png"),
)
IN_SKLEARN = ("china.jpg", "flower.jpg")
N_SPLITS = 3
N_PATCHES = 20
"""Of each half, for each split."""
SIDE = 96
"""Pixels of a patch's side, as written."""


def find_photographs() -> dict[str, Image.Image]:
    """Return the photographs by short name, as installed; neither package is imported.

    Raises
    ------
    FileNotFoundError
        If a package or a photograph of it is missing.
    """
    found = {}
    for package, folder, names in (
        ("skimage", "data", IN_SKIMAGE),
        ("sklearn", "datasets/images", IN_SKLEARN),
    ):
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise FileNotFoundError(
                f"{package} is not installed: install cnnfeat[demo]"
            )
        for name in names:
            path = Path(spec.origin).parent / folder / name
            found[path.stem.partition("_")[0]] = Image.open(path).convert("RGB")
    return found


def draw_patch(half: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return a square of the half, its side 0.3 to 0.7 of the shorter side of it."""
    side = round(rng.uniform(0.3, 0.7) * min(half.size))
    x, y = (int(rng.integers(0, length - side + 1)) for length in half.size)
    square = half.crop((x, y, x + side, y + side)).resize((SIDE, SIDE))
    pixels = np.rot90(np.asarray(square, dtype=float), k=int(rng.integers(4)))
    contrast, brightness = rng.uniform(0.6, 1.4), rng.uniform(-40, 40)
    pixels = 127.5 + contrast * (pixels - 127.5) + brightness
    return Image.fromarray(np.clip(np.round(pixels), 0, 255).astype(np.uint8))


def halves(photograph: Image.Image) -> Iterator[tuple[str, Image.Image]]:
    """Yield the part and the half of the photograph that it is cut from."""
    width, height = photograph.size
    yield "train", photograph.crop((0, 0, width // 2, height))
    yield "test", photograph.crop((width - width // 2, 0, width, height))


def write_patches(
    photographs: Iterable[tuple[str, Image.Image]], folder: Path, *, seed: int = 0
) -> None:
    """Write `<photograph>/<part>-<split>-<n>.png` and splits.csv: whole or not at all.

    A photograph's patches depend on the seed and its place in `photographs` alone.
    """
    partial = folder.with_name(folder.name + ".part")
    rows = []
    for place, (name, photograph) in enumerate(photographs):
        (partial / name).mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng([seed, place])
        for part, half in halves(photograph):
            for index in range(N_SPLITS):
                for n in range(N_PATCHES):
                    path = f"{name}/{part}-{index}-{n:02d}.png"
                    draw_patch(half, rng).save(partial / path)
                    rows.append((path, part, index))
    with (partial / "splits.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([("path", "split", "split_index"), *rows])
    os.replace(partial, folder)


if __name__ == "__main__":
    write_patches(sorted(find_photographs().items()), Path(sys.argv[1]))
