from ._filters import look_at_filters as look_at_filters
from ._options import (
    FiltersOptions as FiltersOptions,
    LookOptions as LookOptions,
    ProjectOptions as ProjectOptions,
    TopPatchesOptions as TopPatchesOptions,
)
from ._project import project_image as project_image
from ._top_patches import find_top_patches as find_top_patches
