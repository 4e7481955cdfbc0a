"""What a head may be, by name: no torch, since files are held against it on opening."""

from dataclasses import dataclass

SCALES = ("mean-norm", "l2", "standard", "none")


@dataclass(frozen=True)
class HeadKind:
    """What is known of a kind of head before one is fitted.

    Attributes
    ----------
    words : str
        As a sentence calls it.
    gives_probabilities : bool
        Whether scores are logarithms of probabilities, up to a constant of the row.
    has_C, has_dropout : bool
        Whether it has a penalty C, and can drop features in training.
    needs_folds : bool
        Whether it cannot choose without rows held out of the training rows.
    streams : bool
        Whether it can be fitted to features that are not in memory.
    centres : bool
        Whether the mean of the training rows is taken off before rows are scaled.
    """

    words: str
    gives_probabilities: bool = False
    has_C: bool = True
    has_dropout: bool = False
    needs_folds: bool = False
    streams: bool = False
    centres: bool = False

    @property
    def score(self) -> str:
        """What its answers are: "probability", or "score" for decision values."""
        return "probability" if self.gives_probabilities else "score"


HEAD_KINDS = {
    "svm": HeadKind("an SVM", has_dropout=True, needs_folds=True, streams=True),
    "softmax": HeadKind(
        "a softmax",
        gives_probabilities=True,
        has_dropout=True,
        needs_folds=True,
        streams=True,
    ),
    "ridge": HeadKind("a ridge regression"),
    "ncm": HeadKind("the nearest class mean", has_C=False, streams=True, centres=True),
    "knn": HeadKind(
        "nearest neighbours", gives_probabilities=True, has_C=False, needs_folds=True
    ),
}
