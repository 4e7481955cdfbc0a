"""How images are read and scored."""

from dataclasses import dataclass

from cnnfeat.images import ManifestOptions


@dataclass(frozen=True, kw_only=True)
class ScoringOptions(ManifestOptions):
    """How images are scored; `model=None` takes the name in the file.

    How a table of images is read is what `ManifestOptions` says. `batch_size=None`,
    `workers=None` and `engine="auto"` choose for the machine at hand.
    """

    model: str | None = None
    device: str = "auto"
    batch_size: int | None = None
    workers: int | None = None
    engine: str = "auto"
    pages: str = "first"
