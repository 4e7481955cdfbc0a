from ._options import (
    CONTROLS as CONTROLS,
)
from ._options import (
    HEADS as HEADS,
)
from ._options import (
    BenchmarkOptions as BenchmarkOptions,
)
from ._options import (
    DrawOptions as DrawOptions,
)
from ._results import (
    Cell as Cell,
)
from ._results import (
    SplitResult as SplitResult,
)
from ._results import (
    TableRow as TableRow,
)
from ._rows import (
    SplitSet as SplitSet,
)
from ._rows import (
    SplitsReport as SplitsReport,
)
from ._rows import (
    draw_split_sets as draw_split_sets,
)
from ._rows import (
    write_splits as write_splits,
)
from ._run import (
    run_benchmark as run_benchmark,
)
from ._summary import (
    BenchmarkReport as BenchmarkReport,
)
