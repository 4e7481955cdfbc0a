from ._options import (
    BASELINES as BASELINES,
    HEADS as HEADS,
    BenchmarkOptions as BenchmarkOptions,
    DrawOptions as DrawOptions,
)
from ._origins import (
    Origin as Origin,
    align as align,
    layers_of as layers_of,
    names_of as names_of,
    refuse_other_images as refuse_other_images,
)
from ._printed import (
    printed_tables as printed_tables,
)
from ._results import (
    Cell as Cell,
    SplitResult as SplitResult,
    TableRow as TableRow,
)
from ._rows import (
    SplitSet as SplitSet,
    SplitsReport as SplitsReport,
    draw_split_sets as draw_split_sets,
    write_splits as write_splits,
)
from ._run import (
    run_benchmark as run_benchmark,
)
from ._summary import (
    BenchmarkReport as BenchmarkReport,
)
