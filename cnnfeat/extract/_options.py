"""What an extraction is asked to do, and what it says that it did."""

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from cnnfeat.errors import OptionError
from cnnfeat.images import ManifestOptions
from cnnfeat.value_range import AUTO

# Progress is told as (rows done, rows in all, rows failed).
Progress = Callable[[int, int, int], None]


@dataclass(frozen=True)
class ExtractOptions(ManifestOptions):
    """How features are extracted; the defaults are those of `cnnfeat extract`.

    How a table of images is read is what `ManifestOptions` says.

    `batch_size=None`, `workers=None` and `engine="auto"` choose for the machine at
    hand; `layers=()` is the layer before the classifier, and with it `pool="auto"`
    averages over space what that layer has not pooled (SqueezeNet's); layers that are
    named are kept as they are. With `tokens`, which go in place of `pool`, `()` is the
    last layer that has tokens. `allow_missing` are globs of tensors that a weights file
    need not have as the network does: see `LoadOptions`. `input_size` is the side of
    the crop in pixels, `preprocessing` a JSON file or the name of a network, in place
    of what the weights were trained with. `value_range` says which
    values of images with more than 8 bits are black and white, `pages` which of a file
    with several are read: see `cnnfeat.images.settle_range` and `take_pages`.
    `max_failed` is a number of images, or a share of all such as "5%". `retry_failed`
    tries the failed rows of a finished file again; `add` puts the images that it does
    not hold yet into it. `shard="3/64"` extracts a share of the images into a file of
    its own, named after the output, and `shards=64` all such shares in turn; those that
    are done are left, others go on.
    """

    model: str = "efficientnet_lite0"
    weights: str = "default"
    weights_seed: int = 0
    allow_missing: tuple[str, ...] = ()
    input_size: int | None = None
    preprocessing: str | None = None
    layers: tuple[str, ...] = ()
    pool: str = "auto"
    tokens: str | None = None
    crops: str = "center"
    device: str = "auto"
    batch_size: int | None = None
    workers: int | None = None
    engine: str = "auto"
    decoder: str = "pil"
    value_range: str = AUTO
    pages: str = "first"
    precision: str = "fp32"
    dtype: str = "float32"
    on_error: str = "skip"
    max_failed: str = "50%"
    resume: bool = False
    overwrite: bool = False
    retry_failed: bool = False
    add: bool = False
    shard: str | None = None
    shards: int | None = None


def most_failures(max_failed: str, n_images: int) -> int:
    """Return how many of `n_images` may fail by `max_failed`, a share rounded down.

    Raises
    ------
    OptionError
        If it is neither a whole number nor a share from 0% to 100%.
    """
    if re.fullmatch(r"\d+", max_failed):
        return int(max_failed)
    share = re.fullmatch(r"(\d+(?:\.\d+)?)%", max_failed)
    if share is None or float(share[1]) > 100:
        raise OptionError(
            f"{max_failed!r} is neither a number of images nor a share of them such "
            "as 5%"
        )
    return int(n_images * float(share[1]) / 100)


@dataclass(frozen=True)
class ExtractReport:
    """What an extraction did.

    `n_resumed` rows were there already. `failures` are (path, reason) pairs; `time`
    holds seconds by stage and `limit`, the stage that set the pace; `classes` counts
    the images of each class.
    """

    output: str
    n_images: int
    n_ok: int
    n_failed: int
    n_resumed: int
    n_classes: int
    seconds: float
    images_per_second: float
    layers: dict[str, list[int]]
    model: str
    weights: str
    device: str
    engine: str
    time: dict[str, Any]
    failures: list[tuple[str, str]] = field(default_factory=list)
    classes: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return asdict(self)
