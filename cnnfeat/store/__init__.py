"""Feature files and head files: the only room that knows HDF5."""

from cnnfeat.store.features import FeatureFile, open_features
from cnnfeat.store.heads import Head, load_head, save_head
from cnnfeat.store.provenance import check_same_provenance, is_trained_from
from cnnfeat.store.skeleton import Contents
from cnnfeat.store.spec import LayerSpec
from cnnfeat.store.summary import file_summary
from cnnfeat.store.writer import FeatureWriter

__all__ = [
    "Contents",
    "FeatureFile",
    "FeatureWriter",
    "Head",
    "LayerSpec",
    "check_same_provenance",
    "file_summary",
    "is_trained_from",
    "load_head",
    "open_features",
    "save_head",
]
