"""What a prediction is asked to do, and what it found."""

from dataclasses import asdict, dataclass
from typing import Any

from cnnfeat.scoring import ScoringOptions
from cnnfeat.shown import csv_text


@dataclass(frozen=True)
class PredictOptions(ScoringOptions):
    """How images are classified: what `ScoringOptions` says, and which classes of them.

    `splits_file` is a CSV as `cnnfeat splits` writes it: the test images of its split
    `split_index` are classified, and no others. `top` classes of each are told.
    """

    splits_file: str | None = None
    split_index: int = 0
    top: int = 1
    overwrite: bool = False


@dataclass(frozen=True)
class Prediction:
    """The classes of one image, best first; `error` says why there are none.

    `scores` are probabilities, or decision values of an SVM.
    """

    path: str
    labels: tuple[str, ...]
    scores: tuple[float, ...]
    error: str = ""


@dataclass(frozen=True)
class PredictReport:
    """What was predicted, `score` being "probability" or "score"."""

    model: str
    kind: str
    score: str
    engine: str
    n_images: int
    n_failed: int
    predictions: list[Prediction]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return asdict(self)

    def to_csv(self) -> str:
        """Return path, rank (where several are asked for), label, score and error."""
        several = any(len(one.labels) > 1 for one in self.predictions)
        rank = ["rank"] if several else []
        lines = [["path", *rank, "label", self.score, "error"]]
        for one in self.predictions:
            pairs = zip(one.labels, one.scores, strict=True)
            for k, (label, score) in enumerate(pairs, start=1):
                place = [str(k)] if several else []
                lines.append([one.path, *place, label, f"{score:.6g}", ""])
            if one.error:
                place = [""] if several else []
                lines.append([one.path, *place, "", "", one.error])
        return csv_text(lines)
