from ._architectures import (
    find_architecture as find_architecture,
    network_names as network_names,
)
from ._classifier import (
    describe_classifier as describe_classifier,
    make_classifier as make_classifier,
    put_classifier as put_classifier,
)
from ._factories import (
    is_import_path as is_import_path,
)
from ._known import (
    NetworkEntry as NetworkEntry,
    known_networks as known_networks,
    search_networks as search_networks,
)
from ._network import (
    Network as Network,
    WeightsRecord as WeightsRecord,
)
from ._official import (
    OfficialFile as OfficialFile,
    official_file as official_file,
)
from ._registry import (
    list_networks as list_networks,
    load_network as load_network,
)
from ._request import (
    NetworkRequest as NetworkRequest,
)
from ._saving import (
    read_weights_metadata as read_weights_metadata,
    rows_tuned_on as rows_tuned_on,
    save_weights as save_weights,
    weights_summary as weights_summary,
)
from ._sizes import (
    LoadOptions as LoadOptions,
    read_preprocessing as read_preprocessing,
)
from ._weights import (
    file_digest as file_digest,
    state_digest as state_digest,
)
