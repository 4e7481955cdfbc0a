"""Linear heads on arrays of features: estimators, transforms, choice of C.

Nothing here opens a file. Importing this package imports torch and scikit-learn, so
the verbs import it inside their functions.
"""

from cnnfeat.heads.base import HeadConvergenceWarning
from cnnfeat.heads.rows import RowSource
from cnnfeat.heads.softmax import Softmax
from cnnfeat.heads.svm import LinearSVM

__all__ = [
    "HeadConvergenceWarning",
    "LinearSVM",
    "RowSource",
    "Softmax",
]
