from ._explain import explain_image as explain_image
from ._filters import look_at_filters as look_at_filters
from ._neighbours import find_neighbours as find_neighbours
from ._occlusion import occlude_image as occlude_image
from ._options import (
    ExplainOptions as ExplainOptions,
    FiltersOptions as FiltersOptions,
    LookOptions as LookOptions,
    NeighboursOptions as NeighboursOptions,
    OcclusionOptions as OcclusionOptions,
    ProjectOptions as ProjectOptions,
    TopPatchesOptions as TopPatchesOptions,
)
from ._project import project_image as project_image
from ._top_patches import find_top_patches as find_top_patches
