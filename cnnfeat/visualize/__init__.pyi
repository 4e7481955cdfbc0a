from ._filters import look_at_filters as look_at_filters
from ._options import (
    FiltersOptions as FiltersOptions,
    LookOptions as LookOptions,
    ProjectOptions as ProjectOptions,
)
from ._project import project_image as project_image
