"""One row of weights for each class, also where the estimator has one for two."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cnnfeat.heads._softmax import Softmax
from cnnfeat.heads._svm import LinearSVM


def weights_per_class(
    head: LinearSVM | Softmax,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return `coef` (k, d) and `intercept` (k,) with a row for each class.

    With two classes scikit-learn's convention is one row w. A softmax becomes
    (−w/2, w/2), whose probabilities are the same; an SVM (−w, w), whose scores are the
    two one-vs-rest decisions.
    """
    coef, intercept = head.coef_, head.intercept_
    if len(head.classes_) == 2 and len(coef) == 1:
        half = 0.5 if isinstance(head, Softmax) else 1.0
        coef = np.concatenate([-half * coef, half * coef])
        intercept = np.concatenate([-half * intercept, half * intercept])
    return coef.astype(np.float32), intercept.astype(np.float32)
