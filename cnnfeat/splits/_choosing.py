"""The one split of a head or a network, as `RowOptions` say: drawn, or from a file."""

import numpy as np

from cnnfeat.errors import SplitError
from cnnfeat.image_table import ImageTable
from cnnfeat.splits._csv import read_split
from cnnfeat.splits._draw import NO_LABELS, Split, usable_rows
from cnnfeat.splits._options import TEST_SHARE, RowOptions
from cnnfeat.splits._outer import draw_share, draw_split, refuse_shared_groups


def choose_split(table: ImageTable, options: RowOptions) -> Split:
    """Return the rows to train on and those held out, as the options say.

    Parameters
    ----------
    table : ImageTable
        With its groups, if any: `table.grouped_by(options.group)`.
    options : RowOptions

    Raises
    ------
    SplitError
        If there are no labels or too few images, options contradict each other, or
        the file of splits does not fit.

    Warns
    -----
    CnnfeatWarning
        If classes are left out, or listed rows cannot be used.
    """
    options.check_rows()
    usable = usable_rows(table, options.exclude_classes)
    if options.splits_file is not None:
        split = read_split(options.splits_file, table.paths, options.split_index)
        refuse_shared_groups(split, table, options.splits_file)
        return split.usable_part(usable)
    if options.train_per_class is not None:
        return draw_split(
            table,
            usable=usable,
            train_per_class=options.train_per_class,
            test_per_class=options.test_per_class,
            seed=options.seed,
            skip_small=options.skip_small,
        )
    share = TEST_SHARE if options.test_share is None else options.test_share
    if share == 0:
        if not usable.any():
            raise SplitError(NO_LABELS)
        return Split(np.flatnonzero(usable), np.empty(0, np.int64))
    return draw_share(
        table,
        usable=usable,
        share=share,
        seed=options.seed,
        skip_small=options.skip_small,
    )
