"""The trained head: a linear classifier, and all that is needed to use it rightly.

No torch at import, so that a head file can be read and described without it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnfeat._version import __version__
from cnnfeat.errors import DataError, ShapeError
from cnnfeat.heads._choices import HEAD_KINDS
from cnnfeat.heads._votes import Neighbours
from cnnfeat.layer_spec import LayerSpec
from cnnfeat.seen import SeenImages

if TYPE_CHECKING:
    from cnnfeat.heads._transform import FeatureTransform

ScalerValue = np.ndarray | float | int | bool | str


@dataclass(frozen=True, eq=False)
class Head:
    """A linear classifier on features as they are stored.

    Parameters
    ----------
    kind : str
        One of `HEAD_KINDS`.
    coef : ndarray of shape (n_classes, n_transformed), floating
        Applies to features that the scaler has transformed: as wide as those stored,
        or as the principal components that it keeps. Of a `knn` head the transformed
        training rows (n_training, n_transformed).
    intercept : ndarray of shape (n_classes,), floating
        Of a `knn` head −½‖row‖², (n_training,).
    class_names : tuple of n_classes str
    scaler : dict of str to ndarray or scalar
        What `FeatureTransform.to_arrays` returned, fitted on the training rows.
    training_paths, heldout_paths : tuple of str
        Images trained on, and those to score on the file that it was trained from.
    training_digests : tuple of str
        Of the bytes of the images trained on, one each; none where not known.
    layer : str
        As for `FeatureFile.resolve`: one layer, or several joined by "+".
    layer_specs : tuple of LayerSpec
        The layers, in the order of the stored features' columns. Empty for a head
        that was fitted to arrays and belongs to no file.
    hyperparameters : dict
        What JSON can hold.
    provenance : dict of str
        The feature file's, whole.
    root : str
        Folder that the paths are relative to.
    command, created_by : str
    neighbours : Neighbours, optional
        Of a `knn` head, and of no other.

    Raises
    ------
    ShapeError
        If coef, intercept, class names, scaler and layers do not agree.
    """

    kind: str
    coef: np.ndarray
    intercept: np.ndarray
    class_names: tuple[str, ...]
    scaler: dict[str, ScalerValue]
    training_paths: tuple[str, ...] = ()
    heldout_paths: tuple[str, ...] = ()
    training_digests: tuple[str, ...] = ()
    layer: str = ""
    layer_specs: tuple[LayerSpec, ...] = ()
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, str] = field(default_factory=dict)
    root: str = ""
    command: str = ""
    created_by: str = field(default=f"cnnfeat {__version__}")
    neighbours: Neighbours | None = None

    def __post_init__(self) -> None:
        if (self.kind == "knn") != (self.neighbours is not None):
            raise ShapeError(
                f"a {self.kind} head has {'no ' * (self.kind == 'knn')}neighbours"
            )
        k, stored = len(self.class_names), self.n_features
        if self.neighbours is not None:
            k = len(self.neighbours.labels)
        components = self.scaler.get("components")
        width, told = stored, f"{stored} features"
        if isinstance(components, np.ndarray) and components.ndim == 2:
            width, told = len(components), f"{len(components)} components of {told}"
            if components.shape[1] != stored:
                raise ShapeError(
                    f"the scaler's components are of {components.shape[1]} features, "
                    f"the head's layers have {stored}"
                )
        if self.coef.shape != (k, width) or self.intercept.shape != (k,):
            raise ShapeError(
                f"a head of {k} {'rows' if self.neighbours else 'classes'} on {told} "
                f"has coef {self.coef.shape} and "
                f"intercept {self.intercept.shape}"
            )

    @property
    def n_features(self) -> int:
        """How many features a stored row has, before the scaler."""
        if self.layer_specs:
            return sum(spec.n_features for spec in self.layer_specs)
        components = self.scaler.get("components", self.coef)
        return int(np.shape(components)[1])

    @property
    def seen(self) -> SeenImages:
        """The images that it was trained on."""
        return SeenImages(self.root, self.training_paths, self.training_digests)

    @cached_property
    def transform(self) -> FeatureTransform:
        """The scaler, ready to use.

        Raises
        ------
        DataError
            If the stored scaler lacks a setting or an array.
        """
        # Torch is loaded here and not with the module: `info` reads heads without it.
        from cnnfeat.heads._transform import FeatureTransform

        return FeatureTransform.from_arrays(self.scaler)

    def scores(self, X: NDArray[Any]) -> NDArray[np.floating]:
        """Return the scores of features as they are stored: `scale(X) @ W.T + b`.

        Those of nearest neighbours are log-probabilities, −inf for a class that none
        of the k votes for.

        Parameters
        ----------
        X : ndarray of shape (n_images, n_features), floating
            Rows of `layer`; several layers side by side, in the order of `layer_specs`.

        Returns
        -------
        ndarray of shape (n_images, n_classes), floating
            Logits of a softmax, decision values of others; columns as `class_names`.

        Raises
        ------
        ShapeError
            If the rows are not `n_features` wide.
        """
        Z = self.transform.transform(X)
        if self.neighbours is not None:
            # Loaded here for the same reason as the transform.
            from cnnfeat.heads._nearest import neighbour_scores

            return neighbour_scores(Z, self.coef, self.intercept, self.neighbours)
        return Z @ self.coef.T + self.intercept

    @property
    def score(self) -> str:
        """What `answers` gives: "probability", or "score" for decision values."""
        return HEAD_KINDS[self.kind].score

    def answers(self, X: NDArray[Any]) -> NDArray[np.floating]:
        """Return probabilities where the kind gives them, else scores.

        Parameters
        ----------
        X : ndarray of shape (n_images, n_features), floating
            As for `scores`.

        Returns
        -------
        ndarray of shape (n_images, n_classes), floating

        Raises
        ------
        ShapeError
            If the rows are not `n_features` wide.
        """
        return said(self.kind, self.scores(X))

    def probabilities(self, X: NDArray[Any]) -> NDArray[np.floating]:
        """Return the class probabilities of features as they are stored.

        Parameters
        ----------
        X : ndarray of shape (n_images, n_features), floating
            As for `scores`.

        Returns
        -------
        ndarray of shape (n_images, n_classes), floating
            Rows sum to 1.

        Raises
        ------
        DataError
            If the head is of a kind whose scores are no probabilities, as an SVM.
        ShapeError
            If the rows are not `n_features` wide.
        """
        if self.score != "probability":
            raise DataError(
                f"the head is of kind {self.kind!r}, whose scores are no "
                "probabilities; train one with train-softmax"
            )
        return to_probabilities(self.scores(X))


def said(kind: str, scores: NDArray[Any]) -> NDArray[np.floating]:
    """Return what a kind of head says by its scores: probabilities, or themselves.

    Parameters
    ----------
    kind : str
        One of `HEAD_KINDS`.
    scores : ndarray of shape (n_images, n_classes), floating
    """
    if HEAD_KINDS[kind].gives_probabilities:
        return to_probabilities(scores)
    return scores


def to_probabilities(scores: NDArray[Any]) -> NDArray[np.floating]:
    """Return the softmax of scores.

    Parameters
    ----------
    scores : ndarray of shape (n_images, n_classes), floating
        Logits.

    Returns
    -------
    ndarray of shape (n_images, n_classes), floating
        In (0, 1], rows sum to 1.
    """
    # The largest score is taken off first: exp overflows, and the ratio is the same.
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    result: NDArray[np.floating] = shifted / shifted.sum(axis=1, keepdims=True)
    return result
