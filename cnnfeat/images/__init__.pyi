from ._augmentation import (
    Augmentation as Augmentation,
)
from ._augmentation import (
    augment_image as augment_image,
)
from ._augmentation import (
    image_generator as image_generator,
)
from ._augmentation import (
    read_augmentation as read_augmentation,
)
from ._decode import (
    DECODERS as DECODERS,
)
from ._decode import (
    DEFAULT_LIMITS as DEFAULT_LIMITS,
)
from ._decode import (
    DecodeLimits as DecodeLimits,
)
from ._decode import (
    decode_image as decode_image,
)
from ._gpu import (
    check_decoder as check_decoder,
)
from ._listing import (
    ImageList as ImageList,
)
from ._listing import (
    list_images as list_images,
)
from ._listing import (
    relist_images as relist_images,
)
from ._loading import (
    Batch as Batch,
)
from ._loading import (
    default_workers as default_workers,
)
from ._loading import (
    load_batches as load_batches,
)
from ._preprocessing import (
    Preprocessing as Preprocessing,
)
from ._reading import (
    Location as Location,
)
