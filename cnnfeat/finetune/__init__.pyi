from ._logs import (
    draw_augmentations as draw_augmentations,
)
from ._options import (
    FinetuneOptions as FinetuneOptions,
)
from ._run import (
    FinetuneReport as FinetuneReport,
    finetune_network as finetune_network,
)
from ._training import (
    EpochRecord as EpochRecord,
)
