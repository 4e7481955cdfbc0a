from ._arrays import FeatureArrays as FeatureArrays, extract_arrays as extract_arrays
from ._options import (
    ExtractOptions as ExtractOptions,
    ExtractReport as ExtractReport,
    Progress as Progress,
    most_failures as most_failures,
)
from ._run import extract_features as extract_features
from ._shards import MOST_SHARDS as MOST_SHARDS, Shard as Shard
