"""What an export is asked to do, and what it did."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class ExportOptions:
    """What is exported; the defaults are those of `cnnfeat export`.

    `layers=()` are all layers of a feature file; `splits_file` adds a column that says
    which rows its split `split_index` trains and tests on. `model` is the network of a
    weights file that names none.
    """

    layers: tuple[str, ...] = ()
    splits_file: str | None = None
    split_index: int = 0
    model: str | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class ExportReport:
    """What was written; of features their rows, of classifiers what goes in and out.

    `difference` is the largest between the program's output and what `cnnfeat predict`
    computes of the same pixels.
    """

    output: str
    files: list[str]
    kind: str
    n_images: int | None = None
    layers: dict[str, list[int]] = field(default_factory=dict)
    n_classes: int | None = None
    pixels: list[int | str] = field(default_factory=list)
    gives: str = ""
    difference: float | None = None
    n_bytes: int = 0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON types, without what does not apply."""
        return {k: v for k, v in asdict(self).items() if v not in (None, {}, [], "")}
