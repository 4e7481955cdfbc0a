"""The verb that turns a feature file into a head file.

Joins `store` (features in, head out), `splits` (which rows) and `heads` (transform,
choice of C, fit). Nothing here looks at a row that is not a training row.
"""

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class TrainOptions:
    """How a head is trained; the defaults are those of `cnnfeat train-svm`.

    `C=None` tries a grid that suits the scaling; `train_per_class=None` trains on every
    usable row and leaves none out.
    """

    kind: str = "svm"
    layer: str | None = None
    C: tuple[float, ...] | None = None
    train_per_class: int | None = None
    test_per_class: int | None = None
    exclude_classes: tuple[str, ...] = ()
    seed: int = 0
    scale: str = "l2"
    signed_sqrt: bool = False
    n_components: int | None = None
    dropout: float = 0.0
    device: str = "auto"
    overwrite: bool = False
    verbose: bool = False


@dataclass(frozen=True)
class TrainReport:
    """What a training did; `validation_accuracy` is per C, inside the training rows."""

    output: str
    kind: str
    layer: str
    n_train: int
    n_heldout: int
    n_left_out: int
    n_classes: int
    n_features: int
    C: float
    validation_accuracy: dict[str, float]
    solver: str
    n_iter: int
    converged: bool
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
        If `output_path` exists already or cannot be written.
    """
    from cnnfeat.outputs import check_output
    from cnnfeat.store import open_features, save_head

    options = options or TrainOptions()
    check_output(output_path, overwrite=options.overwrite)
    started = time.monotonic()
    with open_features(features_path) as features:
        names = features.resolve(options.layer)
        split = _training_split(features, options)
        X = features.read("+".join(names), split.train)
        widths = tuple(features.layers[name].n_features for name in names)
        fit = fit_head(X, _inner_labels(features, split, options), widths, options)
        head = _to_head(features, names, split, fit, options)
        n_left_out = features.n_images - len(split.train) - len(split.test)
    save_head(output_path, head, overwrite=options.overwrite)
    return TrainReport(
        output=output_path,
        kind=options.kind,
        layer=head.layer,
        n_train=len(split.train),
        n_heldout=len(split.test),
        n_left_out=n_left_out,
        n_classes=len(head.class_names),
        n_features=head.coef.shape[1],
        C=fit.C,
        validation_accuracy={str(C): score for C, score in fit.validation.items()},
        solver=fit.solver,
        n_iter=fit.n_iter,
        converged=fit.converged,
        seconds=round(time.monotonic() - started, 3),
    )
