"""Copy the demo's plots into docs/gallery, small: `python docs/make_gallery.py`.

Only plots: no photograph is kept in this repository.
"""

from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("accuracy_by_layer", "confusion", "per_class_accuracy", "c_curve")
SIDE = 900
"""Pixels of the longer side, at most."""


def main() -> None:
    """Write small copies of what `make demo` made."""
    (ROOT / "docs/gallery").mkdir(exist_ok=True)
    for name in NAMES:
        with Image.open(ROOT / f"results/demo/{name}.png") as image:
            small = image.convert("RGB")
        small.thumbnail((SIDE, SIDE))
        # Few colours are enough for a plot, and take a third of the bytes.
        small.quantize(64).save(ROOT / f"docs/gallery/{name}.png", optimize=True)


if __name__ == "__main__":
    main()
