from ._engines import (
    CROPS_AT_ONCE as CROPS_AT_ONCE,
)
from ._engines import (
    ENGINES as ENGINES,
)
from ._engines import (
    N_CROPS as N_CROPS,
)
from ._engines import (
    EagerEngine as EagerEngine,
)
from ._engines import (
    Engine as Engine,
)
from ._engines import (
    EngineError as EngineError,
)
from ._engines import (
    TapModule as TapModule,
)
from ._engines import (
    check_agreement as check_agreement,
)
from ._engines import (
    stored_shape as stored_shape,
)
from ._graphs import (
    CompileEngine as CompileEngine,
)
from ._graphs import (
    OpenVINOEngine as OpenVINOEngine,
)
from ._pipeline import (
    StageSeconds as StageSeconds,
)
from ._pipeline import (
    run_pipeline as run_pipeline,
)
from ._planning import (
    Plan as Plan,
)
from ._planning import (
    Planner as Planner,
)
from ._planning import (
    choose_workers as choose_workers,
)
from ._planning import (
    earlier_choices as earlier_choices,
)
from ._planning import (
    return_memory as return_memory,
)
