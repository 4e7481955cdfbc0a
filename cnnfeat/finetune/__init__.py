"""Fine-tuning: adapt a network to images, and show whether it paid.

Importing this package imports torch; the command line does it inside command bodies.
"""

from cnnfeat.finetune.augmentation import Augmentation, augment_image, read_augmentation
from cnnfeat.finetune.logs import draw_augmentations
from cnnfeat.finetune.options import FinetuneOptions
from cnnfeat.finetune.run import FinetuneReport, finetune_network
from cnnfeat.finetune.training import EpochRecord

__all__ = [
    "Augmentation",
    "EpochRecord",
    "FinetuneOptions",
    "FinetuneReport",
    "augment_image",
    "draw_augmentations",
    "finetune_network",
    "read_augmentation",
]
