"""Networks: which one, its weights, its layers, and what they compute.

Plain re-exports: importing this package imports torch, so the command line does it
inside command bodies only.
"""

from cnnfeat.networks.network import Network, WeightsRecord, resolve_device
from cnnfeat.networks.registry import NetworkEntry, list_networks, load_network

__all__ = [
    "Network",
    "NetworkEntry",
    "WeightsRecord",
    "list_networks",
    "load_network",
    "resolve_device",
]
