from ._choosing import (
    choose_split as choose_split,
)
from ._csv import (
    match_paths as match_paths,
    read_split as read_split,
    read_splits as read_splits,
    splits_to_csv as splits_to_csv,
)
from ._draw import (
    Split as Split,
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
from ._options import (
    TEST_SHARE as TEST_SHARE,
    RowOptions as RowOptions,
    refuse_beside as refuse_beside,
)
from ._outer import (
    draw_folds as draw_folds,
    draw_share as draw_share,
    draw_split as draw_split,
    first_of_classes as first_of_classes,
    refuse_shared_groups as refuse_shared_groups,
    smaller_split as smaller_split,
)
