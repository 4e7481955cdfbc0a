from ._augmentation import (
    Augmentation as Augmentation,
    augment_image as augment_image,
    canvas as canvas,
    image_generator as image_generator,
    read_augmentation as read_augmentation,
)
from ._decode import (
    DECODERS as DECODERS,
    DEFAULT_LIMITS as DEFAULT_LIMITS,
    DecodeLimits as DecodeLimits,
    Reading as Reading,
    decode_image as decode_image,
)
from ._examples import (
    augmentation_examples as augmentation_examples,
    cut_patch as cut_patch,
    read_original as read_original,
    read_thumbnail as read_thumbnail,
    thumbnail_reader as thumbnail_reader,
)
from ._failures import (
    refuse_too_many_failed as refuse_too_many_failed,
)
from ._gpu import (
    check_decoder as check_decoder,
)
from ._labels import (
    relabel as relabel,
)
from ._likeness import (
    HASH_BITS as HASH_BITS,
    Likeness as Likeness,
    likeness as likeness,
    likeness_reader as likeness_reader,
)
from ._listing import (
    list_images as list_images,
    names_to_tell as names_to_tell,
    relist_images as relist_images,
)
from ._loading import (
    Batch as Batch,
    default_workers as default_workers,
    load_batches as load_batches,
)
from ._manifest import (
    read_manifest as read_manifest,
)
from ._options import (
    LabelOptions as LabelOptions,
    ManifestOptions as ManifestOptions,
    Sources as Sources,
    sources_of as sources_of,
)
from ._pages import (
    take_pages as take_pages,
)
from ._pixel_store import (
    PixelStore as PixelStore,
    StoredImages as StoredImages,
)
from ._places import (
    digest_images as digest_images,
    fingerprint_images as fingerprint_images,
    image_files as image_files,
    locate as locate,
    printable as printable,
    stamp_images as stamp_images,
)
from ._preprocessing import (
    N_CROPS as N_CROPS,
    Preprocessing as Preprocessing,
)
from ._reading import (
    Location as Location,
    content_digest as content_digest,
)
from ._settling import (
    settle_range as settle_range,
)
