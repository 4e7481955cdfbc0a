from ._names import (
    Tap as Tap,
)
from ._names import (
    paper_names as paper_names,
)
from ._names import (
    resolve_layers as resolve_layers,
)
from ._pooling import (
    pool_activation as pool_activation,
)
from ._pooling import (
    pooled_shape as pooled_shape,
)
from ._stages import (
    Stage as Stage,
)
from ._stages import (
    is_inside as is_inside,
)
from ._stages import (
    network_stages as network_stages,
)
from ._table import (
    LayerInfo as LayerInfo,
)
from ._table import (
    layer_table as layer_table,
)
from ._taps import (
    Tapper as Tapper,
)
from ._tracing import (
    ModuleCall as ModuleCall,
)
from ._tracing import (
    Trace as Trace,
)
from ._tracing import (
    classifier_call as classifier_call,
)
from ._tracing import (
    default_layer as default_layer,
)
from ._tracing import (
    trace_network as trace_network,
)
