"""What a search for copies found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from cnnfeat.report import Column, Table

KINDS = ("bytes", "pixels", "near", "unconfirmed")
_COLUMNS = (
    *("path", "label", "other_path", "other_label", "copy", "cosine", "bits"),
    *("mirrored", "across_classes", "sides"),
)


@dataclass(frozen=True)
class Copy:
    """Two images that are, or may be, copies of each other.

    `copy` says by what: equal "bytes", equal "pixels", "near" by the perceptual hash,
    or "unconfirmed" where an image is not at hand. `bits` of the hash differ, None
    where it was not needed; `mirrored`: from the mirror image. `sides` is "train-test",
    "train", "test", "files", or "" where there are none.
    """

    path: str
    label: str
    other_path: str
    other_label: str
    copy: str
    cosine: float
    bits: int | None
    mirrored: bool
    sides: str
    rows: tuple[int, int]

    @property
    def is_across(self) -> bool:
        """Whether the two have labels, and different ones."""
        return "" not in (self.label, self.other_label) and (
            self.label != self.other_label
        )

    @property
    def is_confirmed(self) -> bool:
        """Whether the images themselves say so."""
        return self.copy != "unconfirmed"

    def row(self) -> dict[str, Any]:
        """Return the line of the CSV."""
        return {
            "path": self.path,
            "label": self.label,
            "other_path": self.other_path,
            "other_label": self.other_label,
            "copy": self.copy,
            "cosine": f"{self.cosine:.4f}",
            "bits": self.bits,
            "mirrored": int(self.mirrored),
            "across_classes": int(self.is_across),
            "sides": self.sides,
        }


@dataclass(frozen=True)
class WithAndWithout:
    """A head's accuracy on its test images, and without those that it has a copy of."""

    n_images: int
    n_copies: int
    accuracy: float
    accuracy_without: float
    mean_per_class_accuracy: float
    mean_per_class_accuracy_without: float


@dataclass(frozen=True)
class LeaksReport:
    """How many copies there are; `n_copies` counts pairs by what confirms them.

    `n_candidates` pairs have features of at least `cosine`, which is higher than asked
    where there were too many. `n_across_classes` and `n_train_test` count confirmed
    pairs, `n_images_with_copies` the images in them; `n_test_with_copies` the test
    images with a copy among the training images, None without sides. `accuracy` is a
    head's, where one was given.
    """

    n_images: int
    n_candidates: int
    cosine: float
    bits: int
    n_copies: dict[str, int]
    n_images_with_copies: int
    n_across_classes: int
    n_train_test: int | None
    n_test_with_copies: int | None
    accuracy: WithAndWithout | None
    pairs: tuple[Copy, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return {**asdict(self), "pairs": [pair.row() for pair in self.pairs]}

    def to_csv(self) -> str:
        """Return the pairs as CSV, those across classes and sides first."""
        columns = [Column(name) for name in _COLUMNS]
        return Table([pair.row() for pair in self.pairs], columns).to_csv()
