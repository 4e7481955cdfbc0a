"""Write scikit-learn's handwritten digits as class folders of 8-bit grey PNG files.

1,797 images of 8 × 8 pixels (Alpaydin & Kaynak, Optical Recognition of Handwritten
Digits, UCI 1998; CC BY 4.0), which come with scikit-learn: nothing is downloaded.
Usage: python data/make_digits.py FOLDER
"""

import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits


def main(folder: Path) -> None:
    """Write `folder/<digit>/<row>.png`; the folder appears whole or not at all."""
    partial = folder.with_name(folder.name + ".part")
    digits = load_digits()
    # The data set has 17 grey levels, 0 to 16, ink bright on black.
    grey = np.round(digits.images * (255 / 16)).astype(np.uint8)
    for row, (pixels, label) in enumerate(zip(grey, digits.target, strict=True)):
        path = partial / str(label) / f"{row:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    os.replace(partial, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
