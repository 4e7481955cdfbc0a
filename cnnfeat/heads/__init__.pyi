from ._base import LinearHead as LinearHead
from ._choices import (
    HEAD_KINDS as HEAD_KINDS,
    SCALES as SCALES,
    HeadKind as HeadKind,
)
from ._fitting import (
    HeadFit as HeadFit,
    TrainingRows as TrainingRows,
    fit_splits as fit_splits,
)
from ._formulation import Formulation as Formulation
from ._head import (
    Head as Head,
    ScalerValue as ScalerValue,
    said as said,
    to_probabilities as to_probabilities,
)
from ._held_out import FoldFits as FoldFits
from ._linear import LinearFit as LinearFit
from ._module import HeadModule as HeadModule
from ._nearest import nearest_cosines as nearest_cosines
from ._problem import (
    HeadConvergenceWarning as HeadConvergenceWarning,
    TrainingProblem as TrainingProblem,
)
from ._rows import RowSource as RowSource
from ._selection import (
    CChoice as CChoice,
    CGrid as CGrid,
    FoldedProblem as FoldedProblem,
    select_C as select_C,
    warn_of_edges as warn_of_edges,
)
from ._settings import HeadSettings as HeadSettings
from ._softmax import Softmax as Softmax
from ._svm import LinearSVM as LinearSVM
from ._transform import (
    MEAN_NORM as MEAN_NORM,
    FeatureTransform as FeatureTransform,
    TransformedRows as TransformedRows,
)
from ._votes import Neighbours as Neighbours
