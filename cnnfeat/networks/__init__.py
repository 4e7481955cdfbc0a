"""Networks: which one, its weights, its layers, and what they compute.

Plain re-exports: importing this package imports torch, so the command line does it
inside command bodies only.
"""

from cnnfeat.networks.engines import (
    CROPS_AT_ONCE,
    ENGINES,
    N_CROPS,
    EagerEngine,
    Engine,
    EngineError,
    TapModule,
    check_agreement,
    stored_shape,
)
from cnnfeat.networks.graphs import CompileEngine, OpenVINOEngine
from cnnfeat.networks.layers import Tap, paper_names, resolve_layers
from cnnfeat.networks.network import Network, WeightsRecord, resolve_device
from cnnfeat.networks.pooling import pool_activation, pooled_shape
from cnnfeat.networks.registry import NetworkEntry, list_networks, load_network
from cnnfeat.networks.stages import Stage, network_stages
from cnnfeat.networks.summary import LayerInfo, layer_table
from cnnfeat.networks.taps import Tapper

__all__ = [
    "CROPS_AT_ONCE",
    "ENGINES",
    "N_CROPS",
    "CompileEngine",
    "EagerEngine",
    "Engine",
    "EngineError",
    "LayerInfo",
    "Network",
    "NetworkEntry",
    "OpenVINOEngine",
    "Stage",
    "Tap",
    "TapModule",
    "Tapper",
    "WeightsRecord",
    "check_agreement",
    "layer_table",
    "list_networks",
    "load_network",
    "network_stages",
    "paper_names",
    "pool_activation",
    "pooled_shape",
    "resolve_device",
    "resolve_layers",
    "stored_shape",
]
