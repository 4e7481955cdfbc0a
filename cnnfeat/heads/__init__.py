"""Linear heads on arrays of features: estimators, transforms, choice of C.

Nothing here opens a file. Importing this package imports torch and scikit-learn, so
the verbs import it inside their functions.
"""

from cnnfeat.heads.base import HeadConvergenceWarning, LinearHead
from cnnfeat.heads.per_class import weights_per_class
from cnnfeat.heads.rows import RowSource
from cnnfeat.heads.selection import (
    CChoice,
    SplitFit,
    default_grid,
    draw_inner,
    fit_splits,
    select_C,
)
from cnnfeat.heads.softmax import Softmax
from cnnfeat.heads.svm import LinearSVM
from cnnfeat.heads.transform import FeatureTransform, TransformedRows

__all__ = [
    "CChoice",
    "FeatureTransform",
    "HeadConvergenceWarning",
    "LinearHead",
    "LinearSVM",
    "RowSource",
    "Softmax",
    "SplitFit",
    "TransformedRows",
    "default_grid",
    "draw_inner",
    "fit_splits",
    "select_C",
    "weights_per_class",
]
