from ._csv import (
    match_paths as match_paths,
    read_splits as read_splits,
    splits_to_csv as splits_to_csv,
)
from ._draw import (
    Split as Split,
    draw_split as draw_split,
    split_seed as split_seed,
    usable_rows as usable_rows,
)
from ._inner import (
    inner_folds as inner_folds,
    inner_positions as inner_positions,
    inner_split as inner_split,
    positions_in as positions_in,
)
from ._left_out import (
    count_left_out as count_left_out,
    left_out_in_words as left_out_in_words,
)
