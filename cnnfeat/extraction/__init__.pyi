from ._engines import (
    CROPS_AT_ONCE as CROPS_AT_ONCE,
    ENGINES as ENGINES,
    N_CROPS as N_CROPS,
    EagerEngine as EagerEngine,
    Engine as Engine,
    EngineError as EngineError,
    TapModule as TapModule,
    check_agreement as check_agreement,
    stored_shape as stored_shape,
)
from ._graphs import (
    CompileEngine as CompileEngine,
    OpenVINOEngine as OpenVINOEngine,
)
from ._pipeline import (
    StageSeconds as StageSeconds,
    run_pipeline as run_pipeline,
)
from ._planning import (
    Plan as Plan,
    Planner as Planner,
    choose_workers as choose_workers,
    earlier_choices as earlier_choices,
    return_memory as return_memory,
)
