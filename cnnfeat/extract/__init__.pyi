from ._run import (
    ExtractOptions as ExtractOptions,
)
from ._run import (
    ExtractReport as ExtractReport,
)
from ._run import (
    Progress as Progress,
)
from ._run import (
    extract_features as extract_features,
)
