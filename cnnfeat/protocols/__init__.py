"""The papers' protocols: their rows, their lists, and the numbers they printed."""

from cnnfeat.protocols.draw import protocol_splits
from cnnfeat.protocols.lists import read_published_splits
from cnnfeat.protocols.published import PublishedResult
from cnnfeat.protocols.table import PROTOCOLS, Protocol, get_protocol

__all__ = [
    "PROTOCOLS",
    "Protocol",
    "PublishedResult",
    "get_protocol",
    "protocol_splits",
    "read_published_splits",
]
