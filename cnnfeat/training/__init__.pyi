from ._checkpoint import (
    Checkpoint as Checkpoint,
)
from ._settings import (
    TrainingSettings as TrainingSettings,
)
from ._state import (
    EpochRecord as EpochRecord,
    TrainingState as TrainingState,
)
from ._surgery import (
    Trained as Trained,
    prepare as prepare,
    replace_classifier as replace_classifier,
    trained_modules as trained_modules,
)
from ._tail import (
    Tail as Tail,
    split_tail as split_tail,
)
from ._trainer import (
    Inputs as Inputs,
    Trainer as Trainer,
    TrainingRun as TrainingRun,
    autocast as autocast,
)
from ._world import (
    World as World,
    find_world as find_world,
    joined as joined,
)
