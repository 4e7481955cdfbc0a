from ._listener import (
    Listener as Listener,
)
from ._logs import (
    draw_augmentations as draw_augmentations,
)
from ._options import (
    FinetuneOptions as FinetuneOptions,
)
from ._report import (
    FinetuneReport as FinetuneReport,
)
from ._run import (
    EpochRecord as EpochRecord,
    finetune_network as finetune_network,
)
