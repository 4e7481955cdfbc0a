from ._base import (
    HeadConvergenceWarning as HeadConvergenceWarning,
)
from ._base import (
    LinearHead as LinearHead,
)
from ._per_class import (
    weights_per_class as weights_per_class,
)
from ._rows import (
    RowSource as RowSource,
)
from ._selection import (
    CChoice as CChoice,
)
from ._selection import (
    SplitFit as SplitFit,
)
from ._selection import (
    default_grid as default_grid,
)
from ._selection import (
    draw_inner as draw_inner,
)
from ._selection import (
    fit_splits as fit_splits,
)
from ._selection import (
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
)
from ._transform import (
    FeatureTransform as FeatureTransform,
)
from ._transform import (
    TransformedRows as TransformedRows,
)
