"""The verb that turns a feature file into a head file.

Joins `store` (features in, head out), `splits` (which rows) and `heads` (transform,
choice of C, fit). Nothing here looks at a row that is not a training row.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cnnfeat import heads
from cnnfeat.errors import OptionError
from cnnfeat.images import LabelOptions, relabel
from cnnfeat.outputs import check_suffix, claimed_outputs
from cnnfeat.splits import (
    RowOptions,
    Split,
    choose_split,
    count_left_out,
    inner_positions,
)
from cnnfeat.store import FeatureFile, open_features, save_head
from cnnfeat.suffixes import HEADS


@dataclass(frozen=True)
class TrainOptions(RowOptions, LabelOptions):
    """How a head is trained; the defaults are those of `cnnfeat train svm`.

    `kind` is one of `cnnfeat.heads.HEAD_KINDS`. Which rows it is trained
    on is what `RowOptions` says, and where their labels come from what `LabelOptions`
    says. `C=None` tries a grid that suits the scaling.
    """

    kind: str = "svm"
    layer: str | None = None
    C: tuple[float, ...] | None = None
    scale: str = "l2"
    signed_sqrt: bool = False
    power: float = 1.0
    n_components: int | None = None
    dropout: float = 0.0
    device: str = "auto"
    overwrite: bool = False
    verbose: bool = False

    def check_head(self) -> None:
        """Raise OptionError where an option is for other kinds of head."""
        told = heads.HEAD_KINDS.get(self.kind)
        if told is None:
            return  # `HeadSettings` says so
        for name, has in (("C", told.has_C), ("dropout", told.has_dropout)):
            if getattr(self, name) and not has:
                raise OptionError(f"a {self.kind} head has no `{name}`: leave it out")


@dataclass(frozen=True)
class TrainReport:
    """What a training did; `validation_accuracy` is of each C, or k and temperature T.

    It is measured inside the training rows. `C` is None for a kind without, `k` and
    `temperature` for all but nearest neighbours. `left_out` says why
    `n_left_out` images are neither trained on nor held out.
    """

    output: str
    kind: str
    layer: str
    n_train: int
    n_heldout: int
    n_left_out: int
    left_out: dict[str, int]
    n_classes: int
    n_features: int
    C: float | None
    k: int | None
    temperature: float | None
    validation_accuracy: dict[str, float]
    solver: str
    n_iter: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return asdict(self)


def train_head(
    features_path: str, output_path: str, options: TrainOptions | None = None
) -> TrainReport:
    """Train a head on the feature file `features_path` and write it to `output_path`.

    Parameters
    ----------
    features_path : str
        A feature file.
    output_path : str
        The head file to write.
    options : TrainOptions, optional
        Layer, rows, scaling and C.

    Returns
    -------
    TrainReport

    Raises
    ------
    StoreError
        If the feature file is damaged or not one of ours.
    LayerError
        If the layer is not in the file, or none is named and there are several.
    SplitError
        If there are no labels, one class, or too few images in a class.
    DataError
        If features are not finite; the row is named.
    OutputError
        If `output_path` exists already, is the feature file, is being written by
        another process or cannot be written.
    OptionError
        If `output_path` does not end as head files do, or options need each other.
    """
    options = options or TrainOptions()
    check_suffix(output_path, HEADS)
    options.check_rows()
    options.check_head()
    given = (features_path, options.splits_file, options.labels_file)
    read = [path for path in given if path]
    started = time.monotonic()
    with (
        claimed_outputs([output_path], read, overwrite=options.overwrite),
        open_features(features_path) as features,
    ):
        names = features.resolve(options.layer)
        table = relabel(features.table, options)
        features.table = table.grouped_by(options.group)
        split = choose_split(features.table, options)
        fit = _fit(features, names, split, options)
        head = _to_head(features, names, split, fit, options)
        left_out = _left_out(features, split, options)
        save_head(output_path, head, overwrite=options.overwrite)
    return TrainReport(
        output=output_path,
        kind=options.kind,
        layer=head.layer,
        n_train=len(split.train),
        n_heldout=len(split.test),
        n_left_out=sum(left_out.values()),
        left_out=left_out,
        n_classes=len(head.class_names),
        n_features=head.n_features,
        C=fit.linear.C,
        k=head.neighbours.k if head.neighbours else None,
        temperature=head.neighbours.temperature if head.neighbours else None,
        validation_accuracy=fit.tried,
        solver=fit.linear.side,
        n_iter=fit.linear.n_iter,
        seconds=round(time.monotonic() - started, 3),
    )


def _left_out(
    features: FeatureFile, split: Split, options: TrainOptions
) -> dict[str, int]:
    excluded = [features.class_names.index(name) for name in options.exclude_classes]
    return count_left_out(
        features.table,
        np.concatenate([split.train, split.test]),
        {"of_excluded_class": np.isin(features.labels, excluded)},
    )


def _fit(
    features: FeatureFile,
    names: tuple[str, ...],
    split: Split,
    options: TrainOptions,
) -> heads.HeadFit:
    """Choose C or the like inside the training rows, then fit to all of them."""
    settings = head_settings(options)
    X = features.read(names, split.train)
    features.refuse_non_finite(X, split.train)
    folds: tuple[Split, ...] = ()
    if settings.needs_folds:
        folds = inner_positions(features.table, split.train, seed=options.seed)
    groups = features.table.groups
    own = None if groups is None else groups[split.train]
    (fit,) = heads.fit_splits(
        X,
        features.labels[split.train],
        [heads.TrainingRows(np.arange(len(X)), folds, options.seed, own)],
        settings,
        [features.layers[name].n_features for name in names],
    )
    if fit.linear.C is not None:
        name = f"{options.kind} on {'+'.join(names)}"
        heads.warn_of_edges([(name, fit.linear.C, fit.grid)])
    return fit


def head_settings(options: TrainOptions) -> heads.HeadSettings:
    """Return what the options say of the head."""
    return heads.HeadSettings(
        kind=options.kind,
        scale=options.scale,
        signed_sqrt=options.signed_sqrt,
        power=options.power,
        n_components=options.n_components,
        C=options.C,
        dropout=options.dropout,
        device=options.device,
    )


def _to_head(
    features: FeatureFile,
    names: tuple[str, ...],
    split: Split,
    fit: heads.HeadFit,
    options: TrainOptions,
) -> heads.Head:
    return fit.to_head(
        [features.class_names[label] for label in fit.linear.classes],
        training_paths=tuple(features.paths[row] for row in split.train),
        training_digests=features.table.digests(split.train),
        heldout_paths=tuple(features.paths[row] for row in split.test),
        layer="+".join(names),
        layer_specs=tuple(features.layers[name] for name in names),
        hyperparameters={
            **asdict(options),
            "C": fit.linear.C,
            "validation_accuracy": fit.tried,
            "solver": fit.linear.side,
            "n_iter": fit.linear.n_iter,
        },
        provenance=features.provenance,
        root=features.table.root,
    )
