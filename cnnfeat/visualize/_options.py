"""What each look inside a network is asked for; nothing heavy is imported here."""

import os
from dataclasses import dataclass

PAGE = "index.html"


@dataclass(frozen=True)
class PictureOptions:
    """What is written, and where it is computed.

    `output_path` is a picture, in the format of its suffix; `html_dir` a folder for a
    page, `index.html`. Without them nothing is written, and nothing drawn.
    """

    output_path: str | None = None
    html_dir: str | None = None
    device: str = "auto"
    overwrite: bool = False

    @property
    def outputs(self) -> tuple[str, ...]:
        """The files that are written."""
        page = [os.path.join(self.html_dir, PAGE)] if self.html_dir else []
        return (*page, *([self.output_path] if self.output_path else []))

    @property
    def is_drawn(self) -> bool:
        """Whether there is a picture or a page to draw."""
        return bool(self.outputs)


@dataclass(frozen=True)
class LookOptions(PictureOptions):
    """Which network is looked into: as for `load_network`."""

    model: str = "efficientnet_lite0"
    weights: str = "default"
    weights_seed: int = 0


@dataclass(frozen=True)
class FiltersOptions(LookOptions):
    """How kernels are shown.

    `layer` is a convolution or a linear layer; by default the first convolution. `way`
    is `colours` for kernels on R, G and B, `norms` for the length of each kernel's
    part on each input, `slices` for those parts as grey tiles; `auto` is colours where
    it can, else norms. `scale` says whether all kernels share one scale. `beside` are
    other weights of the network, drawn beside.
    """

    layer: str | None = None
    way: str = "auto"
    scale: str = "own"
    sort: str = "none"
    beside: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProjectOptions(LookOptions):
    """What is taken back to the pixels, and how.

    Either a class, `class_name`, by default the most probable one; or a `unit` of a
    `layer`, by default its strongest, at a `position`: `strongest`, `all` of its map,
    or `ROW,COLUMN`. The maps of grad-cam and layer-cam are taken at `layer` and speak
    of a class. `method="auto"` is the deconvnet where all non-linearities are ReLUs,
    else the gradient. `sanity` repeats it with weights randomised from the top down.
    """

    layer: str | None = None
    unit: int | None = None
    position: str = "strongest"
    class_name: str | None = None
    method: str = "auto"
    sanity: bool = False


@dataclass(frozen=True)
class TopPatchesOptions(LookOptions):
    """Which units are looked at, and how many patches of each.

    `layers` are by default the last one with maps. `units` are a list such as `0-15` or
    `3,7-9`, `random:16`, or `all`; a sheet has the first 64 of each layer that respond.
    `top` patches of each are kept. `method` is what is drawn beside: a method of
    `project` from one position, `auto` or `none`.
    """

    layers: tuple[str, ...] = ()
    units: str = "0-15"
    top: int = 9
    method: str = "auto"
    batch_size: int | None = None
    workers: int | None = None
    engine: str = "auto"


@dataclass(frozen=True)
class OcclusionOptions(LookOptions):
    """Which squares are slid over the image, and what is watched.

    `sizes` are sides in pixels of the crop, `stride` the pixels between two squares.
    `fill` is what covers the image: `grey` (the mean of the weights' training images),
    `mean` (of this image) or `blur`. `layer` is the one whose strongest map is drawn,
    by default the last one with maps; `class_name` the true class, by default the most
    probable one.
    """

    sizes: tuple[int, ...] = (48,)
    stride: int = 8
    fill: str = "grey"
    layer: str | None = None
    class_name: str | None = None
    batch_size: int | None = None


@dataclass(frozen=True)
class ExplainOptions(PictureOptions):
    """Which classes of a head are explained.

    The `top` classes by score, or `class_name`, or its score less that of `against`.
    Squares of `size` pixels, `stride` apart, make the map of occlusion.
    """

    class_name: str | None = None
    against: str | None = None
    top: int = 2
    size: int = 48
    stride: int = 16


@dataclass(frozen=True)
class NeighboursOptions(PictureOptions):
    """Which images are near.

    `layer` is as for `FeatureFile.resolve`; `distance` is `cosine` or `euclidean`; the
    `top` nearest are given, and a sheet has the first 24 queries.
    """

    layer: str | None = None
    distance: str = "cosine"
    top: int = 8
