from ._draw import (
    Draw as Draw,
    protocol_splits as protocol_splits,
)
from ._lists import (
    read_published_splits as read_published_splits,
)
from ._published import (
    PublishedResult as PublishedResult,
)
from ._table import (
    PROTOCOLS as PROTOCOLS,
    Protocol as Protocol,
    get_protocol as get_protocol,
)
