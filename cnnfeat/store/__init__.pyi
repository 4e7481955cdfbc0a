from ._features import (
    FeatureFile as FeatureFile,
)
from ._heads import (
    load_head as load_head,
    save_head as save_head,
)
from ._journal import (
    unfinished_run as unfinished_run,
)
from ._merging import (
    SHARD_FIELDS as SHARD_FIELDS,
    Shards as Shards,
    copy_shards as copy_shards,
    is_features_path as is_features_path,
    open_features as open_features,
    refer_to_shards as refer_to_shards,
    shard_files as shard_files,
)
from ._provenance import (
    check_same_provenance as check_same_provenance,
    is_trained_from as is_trained_from,
)
from ._skeleton import (
    Contents as Contents,
)
from ._summary import (
    file_summary as file_summary,
    is_head_file as is_head_file,
)
from ._writer import (
    FeatureWriter as FeatureWriter,
)
