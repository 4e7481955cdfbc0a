"""Data set recipes, fetching a file, unpacking an archive, counting what came out.

Knows nothing of networks or features and prints nothing; `cnnfeat.download` joins
these parts.
"""

from cnnfeat.datasets.fetch import fetch_file
from cnnfeat.datasets.recipe import (
    FileRecipe,
    Recipe,
    list_recipes,
    load_recipe,
    read_recipe,
)
from cnnfeat.datasets.unpack import count_images, unpack_archive

__all__ = [
    "FileRecipe",
    "Recipe",
    "count_images",
    "fetch_file",
    "list_recipes",
    "load_recipe",
    "read_recipe",
    "unpack_archive",
]
