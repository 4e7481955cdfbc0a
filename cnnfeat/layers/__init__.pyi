from ._blocks import (
    Blocks as Blocks,
    blocks_of as blocks_of,
)
from ._classifier import (
    Classifier as Classifier,
    default_layer as default_layer,
    find_classifier as find_classifier,
    last_maps as last_maps,
)
from ._info import (
    ROOT as ROOT,
    LayerInfo as LayerInfo,
    computing_layers as computing_layers,
    main_layers as main_layers,
    matching_layers as matching_layers,
)
from ._known import (
    known_layers as known_layers,
    to_record as to_record,
)
from ._names import (
    Tap as Tap,
    paper_names as paper_names,
    resolve_layers as resolve_layers,
)
from ._pooling import (
    PEAKS as PEAKS,
    SPATIAL_POOLS as SPATIAL_POOLS,
    TOKEN_POOLS as TOKEN_POOLS,
    as_maps as as_maps,
    check_has_tokens as check_has_tokens,
    pool_activation as pool_activation,
    pooled_shape as pooled_shape,
)
from ._projection import (
    CAMS as CAMS,
    METHODS as METHODS,
    Aim as Aim,
    Projection as Projection,
    check_unit as check_unit,
    class_maps as class_maps,
    is_rectified as is_rectified,
    project as project,
    score_gradients as score_gradients,
    strongest_units as strongest_units,
)
from ._receptive import Grid as Grid
from ._stages import (
    Stage as Stage,
    is_inside as is_inside,
    network_stages as network_stages,
    stages_below as stages_below,
)
from ._table import (
    all_layers as all_layers,
    kernel_layers as kernel_layers,
    layer_table as layer_table,
    tapped_macs as tapped_macs,
)
from ._taps import (
    Tapper as Tapper,
)
from ._tokens import (
    Tokens as Tokens,
    last_tokens as last_tokens,
)
from ._tracing import (
    ModuleCall as ModuleCall,
    Trace as Trace,
    trace_of as trace_of,
)
