from ._pairs import (
    NearPairs as NearPairs,
    near_pairs as near_pairs,
    unit_rows as unit_rows,
)
