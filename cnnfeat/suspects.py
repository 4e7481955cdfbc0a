"""The verb that ranks images whose label is doubtful, and those that are like no other.

Each image is scored by the class means of the other folds, so that no label speaks for
itself. Confident learning (Northcutt et al. 2021, section 3.1) decides who is a
suspect; scores of means take the place of probabilities.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from cnnfeat import heads, images, report, suffixes
from cnnfeat.errors import DataError
from cnnfeat.image_table import ImageTable
from cnnfeat.images import LabelOptions, relabel
from cnnfeat.outputs import check_suffix, claimed_outputs, write_output
from cnnfeat.splits import draw_folds, usable_rows
from cnnfeat.store import FeatureFile, open_features

_N_FOLDS = 5
_N_NEAREST = 10
_FENCE = 3.0  # Tukey's outer one
_COLUMNS = ("path", "label", "suggested", "margin", "suspect", "distance", "outlier")


@dataclass(frozen=True)
class SuspectsOptions(LabelOptions):
    """How suspects are sought; the defaults are those of `cnnfeat suspects`.

    `flip` is a share of the labels that is changed at random in a trial of its own, to
    see how many of them are found again; 0 for no trial. `group` is a column of the
    images' table: images of one value never judge each other. The first two paths are
    of the CSV and of the drawing.
    """

    output_path: str | None = None
    sheet_path: str | None = None
    layer: str | None = None
    flip: float = 0.0
    group: str | None = None
    exclude_classes: tuple[str, ...] = ()
    seed: int = 0
    overwrite: bool = False

    @property
    def outputs(self) -> list[str]:
        """The files that are written; OptionError for a suffix that none has."""
        if self.output_path:
            check_suffix(self.output_path, suffixes.TABLES)
        if self.sheet_path:
            check_suffix(self.sheet_path, suffixes.PICTURES)
        return [path for path in (self.output_path, self.sheet_path) if path]


@dataclass(frozen=True)
class FlipTrial:
    """How many of `n_flipped` changed labels are found again.

    `precision_at_n` is their share among so many of the highest margins; `precision`
    and `recall` are those of the suspects. Labels that are wrong in truth count as
    false finds: the precisions are lower bounds.
    """

    n_flipped: int
    precision_at_n: float
    precision: float
    recall: float


@dataclass(frozen=True)
class SuspectsReport:
    """What is doubtful; `images` are all of them, the most doubtful first.

    A suspect scores for another class as that class's own images do on average, and
    less than average for its own. `margin` is the best other class's score less the
    own one's; `distance` 1 less the mean cosine to the 10 nearest images of other
    folds. An outlier's is beyond Tukey's outer fence of its class.
    """

    n_images: int
    n_classes: int
    n_suspects: int
    n_outliers: int
    trial: FlipTrial | None
    images: tuple[dict[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return asdict(self)

    def to_csv(self) -> str:
        """Return a line for each image as CSV."""
        columns = [report.Column(name) for name in _COLUMNS]
        return report.Table(self.images, columns).to_csv()


def find_suspects(
    features_path: str, options: SuspectsOptions | None = None
) -> SuspectsReport:
    """Rank the images of a feature file by how doubtful their labels are.

    Parameters
    ----------
    features_path : str
    options : SuspectsOptions, optional

    Raises
    ------
    StoreError, LayerError, DataError
        As their names say.
    SplitError
        If there are no labels, or fewer than two classes of five images.
    OutputError, OptionError
        If an output cannot be written.

    Warns
    -----
    CnnfeatWarning
        If classes of fewer than five images, or groups, are left out.
    """
    options = options or SuspectsOptions()
    read = [path for path in (features_path, options.labels_file) if path]
    with (
        claimed_outputs(options.outputs, read, overwrite=options.overwrite),
        open_features(features_path) as features,
    ):
        table = relabel(features.table, options)
        features.table = table.grouped_by(options.group)
        found = _judge(features, options)
        told = _to_report(found, _trial(features, options))
        if options.output_path:
            text = told.to_csv().encode("utf-8")
            write_output(options.output_path, text, overwrite=True)
        if options.sheet_path:
            _draw(found, features, options.sheet_path)
    return told


@dataclass(frozen=True, eq=False)
class _Judged:
    """Rows (n,) of the file, their classes y (n,), scores (n, k), distances (n,)."""

    table: ImageTable
    rows: np.ndarray
    y: np.ndarray
    class_names: tuple[str, ...]
    scores: np.ndarray
    distance: np.ndarray

    @property
    def own(self) -> np.ndarray:
        """The score of each image's own class."""
        return self.scores[np.arange(len(self.y)), self.y]

    @property
    def others(self) -> np.ndarray:
        """The scores (n, k), that of the own class −inf."""
        scores = self.scores.copy()
        scores[np.arange(len(self.y)), self.y] = -np.inf
        return scores

    @property
    def margin(self) -> np.ndarray:
        """By how much the best other class is ahead."""
        return np.asarray(self.others.max(1) - self.own)

    @property
    def is_suspect(self) -> np.ndarray:
        """Whether another class is scored for as its own images do on average."""
        k = self.scores.shape[1]
        counts = np.maximum(np.bincount(self.y, minlength=k), 1)
        usual = np.bincount(self.y, weights=self.own, minlength=k) / counts
        is_other = (self.others >= usual).any(1)
        return np.asarray(is_other & (self.own < usual[self.y]) & (self.margin > 0))

    @property
    def is_outlier(self) -> np.ndarray:
        """Whether the nearest images are far beyond what is usual in the class."""
        beyond = np.zeros(len(self.y), bool)
        for label in range(len(self.class_names)):
            own = self.y == label
            low, high = np.quantile(self.distance[own], [0.25, 0.75])
            beyond[own] = self.distance[own] > high + _FENCE * (high - low)
        return beyond


def _judge(features: FeatureFile, options: SuspectsOptions) -> _Judged:
    """Score every usable row by the folds that it is not in."""
    table = features.table
    folds = draw_folds(
        table,
        usable=usable_rows(table, options.exclude_classes),
        n_folds=_N_FOLDS,
        seed=options.seed,
        skip_small=True,
    )
    rows = np.sort(np.concatenate([fold.test for fold in folds]))
    layers = features.resolve(options.layer)
    X = features.read(layers, rows)
    features.refuse_non_finite(X, rows)
    classes, y = np.unique(table.labels[rows], return_inverse=True)
    parts = [features.layers[name].n_features for name in layers]
    trained = [heads.TrainingRows(np.searchsorted(rows, fold.train)) for fold in folds]
    fits = heads.fit_splits(
        X, y, trained, heads.HeadSettings("ncm", device="cpu"), parts
    )
    names = tuple(features.class_names[label] for label in classes)
    scores, distance = np.empty((len(rows), len(names))), np.empty(len(rows))
    for fold, part, fit in zip(folds, trained, fits, strict=True):
        if len(fit.linear.classes) < len(names):
            raise DataError("a class has images in one group alone: leave it out")
        test = np.searchsorted(rows, fold.test)
        scores[test] = fit.to_head(names).scores(X[test])
        Z = [fit.transform.transform(X[at]) for at in (test, part.rows)]
        distance[test] = 1 - heads.nearest_cosines(Z[0], Z[1], _N_NEAREST)
    return _Judged(table, rows, y, names, scores, distance)


def _trial(features: FeatureFile, options: SuspectsOptions) -> FlipTrial | None:
    """Change some labels at random, and see how many are found again."""
    if not options.flip:
        return None
    table, rng = features.table, np.random.default_rng(options.seed)
    usable = np.flatnonzero(usable_rows(table, options.exclude_classes))
    flipped = rng.choice(usable, max(1, round(options.flip * len(usable))), False)
    labels, known = table.labels.copy(), np.unique(table.labels[usable])
    for row in flipped.tolist():
        labels[row] = rng.choice(known[known != table.labels[row]])
    features.table = replace(table, labels=labels)
    try:
        found = _judge(features, options)
    finally:
        features.table = table
    is_flipped, suspect = np.isin(found.rows, flipped), found.is_suspect
    first = np.argsort(-found.margin, kind="stable")[: is_flipped.sum()]
    return FlipTrial(
        n_flipped=int(is_flipped.sum()),
        precision_at_n=float(is_flipped[first].mean()),
        precision=float(is_flipped[suspect].mean()) if suspect.any() else 0.0,
        recall=float(suspect[is_flipped].mean()),
    )


def _to_report(found: _Judged, trial: FlipTrial | None) -> SuspectsReport:
    suspect, outlier, margin = found.is_suspect, found.is_outlier, found.margin
    best = found.others.argmax(1)
    order = np.lexsort((-margin, ~suspect))
    return SuspectsReport(
        n_images=len(found.rows),
        n_classes=len(found.class_names),
        n_suspects=int(suspect.sum()),
        n_outliers=int(outlier.sum()),
        trial=trial,
        images=tuple(
            {
                "path": found.table.paths[found.rows[at]],
                "label": found.class_names[found.y[at]],
                "suggested": found.class_names[best[at]],
                "margin": round(float(margin[at]), 6),
                "suspect": int(suspect[at]),
                "distance": round(float(found.distance[at]), 6),
                "outlier": int(outlier[at]),
            }
            for at in order.tolist()
        ),
    )


def _draw(found: _Judged, features: FeatureFile, path: str) -> None:
    """Draw the suspects, the most doubtful first, with the class suggested."""
    at = np.flatnonzero(found.is_suspect)
    best = found.others.argmax(1)
    predictions = report.Predictions(
        [found.table.paths[row] for row in found.rows[at]],
        found.class_names,
        found.y[at],
        np.stack([best[at], found.y[at]], axis=1),
        np.stack([found.others.max(1)[at], found.own[at]], axis=1),
        score="score",
    )
    read = images.thumbnail_reader(features.stored_table)
    sheet = report.plot_mistakes(
        predictions,
        lambda position: read(int(found.rows[at[position]])),
        title=f"doubtful labels of {len(found.rows):,} images",
    )
    report.save_figure(sheet, path)
