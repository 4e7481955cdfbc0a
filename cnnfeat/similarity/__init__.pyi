from ._choices import MEASURES as MEASURES
from ._measures import (
    LEAST as LEAST,
    half_sample_intervals as half_sample_intervals,
    likeness_matrix as likeness_matrix,
)
from ._nearest import (
    DISTANCES as DISTANCES,
    Nearest as Nearest,
    nearest_rows as nearest_rows,
)
from ._pairs import (
    NearPairs as NearPairs,
    near_pairs as near_pairs,
    unit_rows as unit_rows,
)
