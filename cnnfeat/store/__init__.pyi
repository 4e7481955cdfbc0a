from ._features import (
    FeatureFile as FeatureFile,
    open_features as open_features,
)
from ._heads import (
    load_head as load_head,
    save_head as save_head,
)
from ._journal import (
    unfinished_run as unfinished_run,
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
)
from ._writer import (
    FeatureWriter as FeatureWriter,
)
