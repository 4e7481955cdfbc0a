from ._recipe import (
    FileRecipe as FileRecipe,
    Recipe as Recipe,
    list_recipes as list_recipes,
    load_recipe as load_recipe,
    read_recipe as read_recipe,
)
from ._unpack import (
    count_images as count_images,
    unpack_archive as unpack_archive,
)
