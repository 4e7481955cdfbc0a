from ._draw import (
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
    Domains as Domains,
    Draw as Draw,
    Protocol as Protocol,
    get_protocol as get_protocol,
)
