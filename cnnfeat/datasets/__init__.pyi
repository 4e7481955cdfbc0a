from ._fetch import (
    Progress as Progress,
)
from ._fetch import (
    fetch_file as fetch_file,
)
from ._recipe import (
    FileRecipe as FileRecipe,
)
from ._recipe import (
    Recipe as Recipe,
)
from ._recipe import (
    list_recipes as list_recipes,
)
from ._recipe import (
    load_recipe as load_recipe,
)
from ._recipe import (
    read_recipe as read_recipe,
)
from ._unpack import (
    count_images as count_images,
)
from ._unpack import (
    unpack_archive as unpack_archive,
)
