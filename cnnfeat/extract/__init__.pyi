from ._run import (
    ExtractOptions as ExtractOptions,
    ExtractReport as ExtractReport,
    Progress as Progress,
    extract_features as extract_features,
)
