from ._options import CompareOptions as CompareOptions
from ._run import (
    CompareReport as CompareReport,
    Likeness as Likeness,
    compare_features as compare_features,
)
