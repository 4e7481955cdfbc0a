"""What an evaluation found, and what is written of it: the same for heads and networks.

Joins `metrics` and, for what is drawn, `report`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cnnfeat import heads, images, report, suffixes
from cnnfeat.image_table import ImageTable
from cnnfeat.metrics import (
    Scores,
    best_two,
    evaluate_scores,
    mean_per_class_interval,
    wilson_interval,
)
from cnnfeat.outputs import check_suffix, write_output


@dataclass(frozen=True)
class EvaluationReport:
    """How good a head is on some rows; accuracies are fractions.

    `n_classes` counts the classes of the images scored, `n_known_classes` those that
    the head knows, and `least_class_images` the images of the class that has the
    fewest. `accuracy_interval` is Wilson's 95 % interval of `accuracy`, and
    `mean_per_class_interval` one of the mean over these classes. `left_out` says why
    `n_left_out` images are not scored; `rows` which ones are: "heldout", those not
    trained on, or "all" that can be. A fine-tuned network has no `layer`, "", and no
    `C`, None; `k` and `temperature` are nearest neighbours'.
    """

    n_images: int
    n_classes: int
    n_known_classes: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    top_5_accuracy: float
    mean_per_class_accuracy: float
    mean_per_class_interval: tuple[float, float]
    least_class_images: int
    n_left_out: int
    left_out: dict[str, int]
    rows: str
    kind: str
    layer: str
    C: float | None
    k: int | None
    temperature: float | None
    per_class_accuracy: dict[str, float]
    per_class_images: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return asdict(self)

    def classes_csv(self) -> str:
        """Return class, images scored and accuracy as CSV, in the head's order."""
        rows = [
            {"class": name, "n_images": self.per_class_images[name], "accuracy": value}
            for name, value in self.per_class_accuracy.items()
        ]
        return report.Table(rows).to_csv()


@dataclass(frozen=True, kw_only=True)
class EvaluationOutputs:
    """What is written beside the report, and where; None for nothing.

    Attributes
    ----------
    confusion_path : str, optional
        Where to draw the confusion matrix: `.png`, `.svg` or `.pdf`.
    predictions_path : str, optional
        Where to list the predictions, as CSV.
    mistakes_path : str, optional
        Where to draw the images that are taken for another class.
    per_class_path : str, optional
        Where to list the accuracy of every class, as CSV.
    """

    confusion_path: str | None = None
    predictions_path: str | None = None
    mistakes_path: str | None = None
    per_class_path: str | None = None

    @property
    def paths(self) -> list[str]:
        """Those that are asked for."""
        return [path for path in (*self._pictures, *self._tables) if path]

    @property
    def _pictures(self) -> tuple[str | None, ...]:
        return self.confusion_path, self.mistakes_path

    @property
    def _tables(self) -> tuple[str | None, ...]:
        return self.predictions_path, self.per_class_path

    def check_suffixes(self) -> None:
        """Raise OptionError where an output ends in what is not written."""
        for path in filter(None, self._pictures):
            check_suffix(path, suffixes.PICTURES)
        for path in filter(None, self._tables):
            check_suffix(path, suffixes.TABLES)

    def write(self, found: Evaluated) -> None:
        """Write them; their places are claimed."""
        predictions = found.predictions
        if self.predictions_path:
            text = report.Table(predictions.rows()).to_csv()
            write_output(self.predictions_path, text.encode("utf-8"), overwrite=True)
        if self.per_class_path:
            text = found.told.classes_csv()
            write_output(self.per_class_path, text.encode("utf-8"), overwrite=True)
        if self.mistakes_path:
            sheet = report.plot_mistakes(predictions, found.read)
            report.save_figure(sheet, self.mistakes_path)
        if self.confusion_path:
            matrix = found.scores.confusion
            drawn = report.plot_confusion_matrix(matrix, predictions.class_names)
            report.save_figure(drawn, self.confusion_path)


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What is said of the scored rows; `read` gives a small image of each."""

    told: EvaluationReport
    scores: Scores
    predictions: report.Predictions
    read: Callable[[int], np.ndarray | None]


@dataclass(frozen=True, eq=False)
class Chosen:
    """Rows to score (int64, ascending), which ones they are, and why no others."""

    rows: np.ndarray
    which: str
    left_out: dict[str, int]


def class_indices(class_names: tuple[str, ...], table: ImageTable) -> np.ndarray:
    """Return each row's class as an index into `class_names`; -1 where it is none."""
    index = {name: k for k, name in enumerate(class_names)}
    # The last entry serves label -1, which indexes from the end.
    lookup = np.array([index.get(name, -1) for name in table.class_names] + [-1])
    return lookup[table.labels]


@dataclass(frozen=True)
class Scored:
    """What is scored, as the report calls it; `score` is what its scores are."""

    kind: str
    layer: str
    C: float | None
    class_names: tuple[str, ...]
    score: str = "probability"
    k: int | None = None
    temperature: float | None = None

    @classmethod
    def by_head(cls, head: heads.Head) -> Scored:
        """Return what a head answers."""
        told = head.neighbours
        return cls(
            kind=head.kind,
            layer=head.layer,
            C=head.hyperparameters.get("C"),
            class_names=head.class_names,
            score=head.score,
            k=told.k if told else None,
            temperature=told.temperature if told else None,
        )

    def evaluate(
        self, scores: np.ndarray, y: np.ndarray, chosen: Chosen, table: ImageTable
    ) -> Evaluated:
        """Return what the scores (m, k) say of the rows chosen, of classes y (m,).

        Probabilities, or decision values: see `score`.
        """
        result = evaluate_scores(scores, y, len(self.class_names))
        predictions = report.Predictions(
            tuple(table.paths[row] for row in chosen.rows),
            self.class_names,
            y,
            *best_two(scores),
            score=self.score,
        )
        read = images.thumbnail_reader(table)

        def read_scored(position: int) -> np.ndarray | None:
            return read(int(chosen.rows[position]))

        told = _make_report(self, result, chosen)
        return Evaluated(told, result, predictions, read_scored)


def _make_report(what: Scored, result: Scores, chosen: Chosen) -> EvaluationReport:
    """Return the report of what was scored on which images."""
    n_correct = int(np.trace(result.confusion))
    counts = result.confusion.sum(axis=1)
    names = what.class_names
    per_class = {
        name: value
        for name, value in zip(names, result.per_class_accuracy.tolist(), strict=True)
        if value == value  # no image of the others is scored
    }
    return EvaluationReport(
        n_images=result.n_images,
        n_classes=len(per_class),
        n_known_classes=len(names),
        accuracy=result.accuracy,
        accuracy_interval=wilson_interval(n_correct, result.n_images),
        top_5_accuracy=result.top_5_accuracy,
        mean_per_class_accuracy=result.mean_per_class_accuracy,
        mean_per_class_interval=mean_per_class_interval(
            result.per_class_accuracy, counts
        ),
        least_class_images=int(counts[counts > 0].min()),
        n_left_out=sum(chosen.left_out.values()),
        left_out=chosen.left_out,
        rows=chosen.which,
        kind=what.kind,
        layer=what.layer,
        C=what.C,
        k=what.k,
        temperature=what.temperature,
        per_class_accuracy=per_class,
        per_class_images={
            name: int(count)
            for name, count in zip(names, counts, strict=True)
            if name in per_class
        },
    )
