"""What each look inside a network is asked for; nothing heavy is imported here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LookOptions:
    """Which network is looked into, and what is written.

    `output_path` is a picture, in the format of its suffix; `html_dir` a folder for a
    page, `index.html`. Without them nothing is written, and nothing drawn.
    """

    output_path: str | None = None
    html_dir: str | None = None
    model: str = "efficientnet_lite0"
    weights: str = "default"
    weights_seed: int = 0
    device: str = "auto"
    overwrite: bool = False


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
