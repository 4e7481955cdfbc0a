"""cnnfeat: features of pretrained convnets, linear heads, honest statistics.

The public API, re-exported. Names are resolved on first use, so that importing the
package (as the command line does for `--help`) does not import torch.
"""

from typing import TYPE_CHECKING, Any

from cnnfeat._version import __version__

if TYPE_CHECKING:
    from cnnfeat.errors import CnnfeatError, CnnfeatWarning
    from cnnfeat.evaluate import EvaluationReport, evaluate_head
    from cnnfeat.extract import ExtractOptions, ExtractReport, extract_features
    from cnnfeat.finetune import (
        FinetuneOptions,
        FinetuneReport,
        finetune_network,
    )
    from cnnfeat.heads import FeatureTransform, LinearSVM, Softmax
    from cnnfeat.images import ImageList, Preprocessing, list_images
    from cnnfeat.networks import Network, Tapper, layer_table, load_network
    from cnnfeat.predict import predict_images
    from cnnfeat.splits import Split, draw_split
    from cnnfeat.store import FeatureFile, Head, load_head, open_features, save_head
    from cnnfeat.train import TrainOptions, TrainReport, train_head

_MODULE_OF = {
    "CnnfeatError": "errors",
    "CnnfeatWarning": "errors",
    "EvaluationReport": "evaluate",
    "ExtractOptions": "extract",
    "ExtractReport": "extract",
    "FeatureFile": "store",
    "FeatureTransform": "heads",
    "FinetuneOptions": "finetune",
    "FinetuneReport": "finetune",
    "Head": "store",
    "ImageList": "images",
    "LinearSVM": "heads",
    "Network": "networks",
    "Preprocessing": "images",
    "Softmax": "heads",
    "Split": "splits",
    "Tapper": "networks",
    "TrainOptions": "train",
    "TrainReport": "train",
    "draw_split": "splits",
    "evaluate_head": "evaluate",
    "extract_features": "extract",
    "finetune_network": "finetune",
    "layer_table": "networks",
    "list_images": "images",
    "load_head": "store",
    "load_network": "networks",
    "open_features": "store",
    "predict_images": "predict",
    "save_head": "store",
    "train_head": "train",
}

__all__ = [
    "CnnfeatError",
    "CnnfeatWarning",
    "EvaluationReport",
    "ExtractOptions",
    "ExtractReport",
    "FeatureFile",
    "FeatureTransform",
    "FinetuneOptions",
    "FinetuneReport",
    "Head",
    "ImageList",
    "LinearSVM",
    "Network",
    "Preprocessing",
    "Softmax",
    "Split",
    "Tapper",
    "TrainOptions",
    "TrainReport",
    "__version__",
    "draw_split",
    "evaluate_head",
    "extract_features",
    "finetune_network",
    "layer_table",
    "list_images",
    "load_head",
    "load_network",
    "open_features",
    "predict_images",
    "save_head",
    "train_head",
]


def __getattr__(name: str) -> Any:
    """Import the room that holds `name` on first use (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'cnnfeat' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"cnnfeat.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
