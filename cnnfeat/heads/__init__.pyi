from ._base import (
    HeadConvergenceWarning as HeadConvergenceWarning,
    LinearHead as LinearHead,
)
from ._head import (
    Head as Head,
    ScalerValue as ScalerValue,
    to_probabilities as to_probabilities,
)
from ._per_class import (
    weights_per_class as weights_per_class,
)
from ._rows import (
    RowSource as RowSource,
)
from ._selection import (
    CChoice as CChoice,
    SplitFit as SplitFit,
    default_grid as default_grid,
    draw_inner as draw_inner,
    fit_splits as fit_splits,
    select_C as select_C,
)
from ._softmax import (
    Softmax as Softmax,
)
from ._svm import (
    LinearSVM as LinearSVM,
)
from ._transform import (
    MEAN_NORM as MEAN_NORM,
    FeatureTransform as FeatureTransform,
    TransformedRows as TransformedRows,
)
