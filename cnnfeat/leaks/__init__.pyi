from ._options import LeaksOptions as LeaksOptions
from ._report import (
    Copy as Copy,
    LeaksReport as LeaksReport,
    WithAndWithout as WithAndWithout,
)
from ._run import find_leaks as find_leaks
