"""Linear heads on arrays of features: estimators, transforms, choice of C.

Nothing here opens a file. Importing this package imports torch and scikit-learn, so
the verbs import it inside their functions.
"""

from cnnfeat.heads.base import HeadConvergenceWarning
from cnnfeat.heads.per_class import weights_per_class
from cnnfeat.heads.rows import RowSource
from cnnfeat.heads.softmax import Softmax
from cnnfeat.heads.svm import LinearSVM
from cnnfeat.heads.transform import FeatureTransform

__all__ = [
    "FeatureTransform",
    "HeadConvergenceWarning",
    "LinearSVM",
    "RowSource",
    "Softmax",
    "weights_per_class",
]
