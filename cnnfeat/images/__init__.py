"""Which images, decoding, preprocessing, loading in batches.

Nothing in this room imports torch at module level, so that worker processes and
`--help` do without it.
"""

from cnnfeat.images.decode import (
    DECODERS,
    DEFAULT_LIMITS,
    DecodeLimits,
    decode_image,
)
from cnnfeat.images.gpu import check_decoder
from cnnfeat.images.listing import ImageList, list_images, relist_images
from cnnfeat.images.loading import Batch, default_workers, load_batches
from cnnfeat.images.preprocessing import Preprocessing
from cnnfeat.images.reading import Location

__all__ = [
    "DECODERS",
    "DEFAULT_LIMITS",
    "Batch",
    "DecodeLimits",
    "ImageList",
    "Location",
    "Preprocessing",
    "check_decoder",
    "decode_image",
    "default_workers",
    "list_images",
    "load_batches",
    "relist_images",
]
