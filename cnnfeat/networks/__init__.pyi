from ._architectures import (
    find_architecture as find_architecture,
)
from ._classifier import (
    describe_classifier as describe_classifier,
)
from ._classifier import (
    make_classifier as make_classifier,
)
from ._classifier import (
    put_classifier as put_classifier,
)
from ._network import (
    Network as Network,
)
from ._network import (
    WeightsRecord as WeightsRecord,
)
from ._network import (
    resolve_device as resolve_device,
)
from ._registry import (
    NetworkEntry as NetworkEntry,
)
from ._registry import (
    list_networks as list_networks,
)
from ._registry import (
    load_network as load_network,
)
from ._saving import (
    finetuned_images as finetuned_images,
)
from ._saving import (
    finetuned_images_of as finetuned_images_of,
)
from ._saving import (
    read_weights_metadata as read_weights_metadata,
)
from ._saving import (
    save_weights as save_weights,
)
from ._saving import (
    weights_summary as weights_summary,
)
from ._weights import (
    file_digest as file_digest,
)
from ._weights import (
    state_digest as state_digest,
)
