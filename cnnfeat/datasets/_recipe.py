"""Recipes: where a data set comes from, its checksum, its layout, its split lists.

One TOML file a data set, shipped inside the package (`recipes/<name>.toml`);
`data/README.md` in the repository explains them to people.
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import PurePosixPath
from typing import Any

from cnnfeat.errors import DownloadError
from cnnfeat.readback import Items, Malformed, Number, Record, Text

_COUNT = Number(1, whole=True)
_FILE = Record(
    required={"name": Text(), "url": Text()},
    optional={
        "size": _COUNT,
        "md5": Text(pattern="[0-9a-fA-F]{32}", told="32 hexadecimal digits"),
        "sha256": Text(pattern="[0-9a-fA-F]{64}", told="64 hexadecimal digits"),
        **dict.fromkeys(("checksum_source", "unpacks_to", "strip"), Text()),
        "nested": Items(Text()),
    },
    others=None,
)
_RECIPE = Record(
    required={
        **dict.fromkeys(("name", "title", "page", "licence", "citation"), Text()),
        "images": Text(),
        "class_folders": Text(("top", "leaf")),
        "n_images": _COUNT,
        "n_classes": _COUNT,
        "files": Items(_FILE),
    },
    optional={"splits": Items(Text()), "split_format": Text(), "notes": Text()},
    others=None,
)


@dataclass(frozen=True)
class FileRecipe:
    """One file to fetch.

    Parameters
    ----------
    name : str
        File name in the user's folder.
    url : str
        Official address, http or https.
    size : int, optional
        Bytes; None where none is published.
    md5, sha256 : str, optional
        Hexadecimal digest; both None where none is published.
    checksum_source : str
        Who published the digest.
    unpacks_to : str, optional
        Folder that the archive becomes; None for a plain file.
    strip : str
        Leading folder of the archive's members that is left out; what stands beside
        it is not unpacked.
    nested : tuple of str
        Archives inside the archive, unpacked in their place and then removed.
    """

    name: str
    url: str
    size: int | None = None
    md5: str | None = None
    sha256: str | None = None
    checksum_source: str = ""
    unpacks_to: str | None = None
    strip: str = ""
    nested: tuple[str, ...] = ()

    @property
    def digest(self) -> tuple[str, str] | None:
        """The algorithm and the digest to check, sha256 before md5."""
        if self.sha256:
            return "sha256", self.sha256.lower()
        return ("md5", self.md5.lower()) if self.md5 else None


@dataclass(frozen=True)
class Recipe:
    """One data set.

    Parameters
    ----------
    name, title, page, licence, citation : str
        The command line's name; the people's name; the official page; the terms.
    images : str
        Folder of the class folders, below the user's folder.
    class_folders : str
        "top": the folders in `images`; "leaf": every folder below that holds images.
    n_images, n_classes : int
        As published, background classes included.
    files : tuple of FileRecipe
        What is fetched.
    splits : tuple of str
        Published split lists, below the user's folder.
    split_format, notes : str
        For people.
    """

    name: str
    title: str
    page: str
    licence: str
    citation: str
    images: str
    class_folders: str
    n_images: int
    n_classes: int
    files: tuple[FileRecipe, ...]
    splits: tuple[str, ...] = ()
    split_format: str = ""
    notes: str = ""


def list_recipes() -> list[str]:
    """Return the names of the data sets that have a recipe, sorted."""
    folder = resources.files("cnnfeat.datasets") / "recipes"
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in folder.iterdir()
        if entry.name.endswith(".toml")
    )


def load_recipe(name: str) -> Recipe:
    """Return the recipe of a data set.

    Raises
    ------
    DownloadError
        If there is none of that name (the nearest are offered).
    """
    names = list_recipes()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        known = ", ".join(names)
        raise DownloadError(f"no data set {name!r}: expected one of {known}{hint}")
    file = resources.files("cnnfeat.datasets") / "recipes" / f"{name}.toml"
    return read_recipe(file.read_text("utf-8"))


def read_recipe(text: str) -> Recipe:
    """Return the recipe that a TOML text holds.

    Raises
    ------
    DownloadError
        If the text is not TOML, a field is missing or unknown, an address is not http
        or https, or a path leaves its folder.
    """
    try:
        fields: dict[str, Any] = _RECIPE.check("", tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecursionError, Malformed) as error:
        raise DownloadError(f"damaged recipe: {error}") from error
    files = tuple(
        FileRecipe(**(entry | {"nested": tuple(entry.get("nested", ()))}))
        for entry in fields.pop("files")
    )
    splits = tuple(fields.pop("splits", ()))
    recipe = Recipe(**fields, files=files, splits=splits)
    paths = [recipe.images, *recipe.splits]
    for file in recipe.files:
        if not file.url.startswith(("https://", "http://")):
            raise DownloadError(f"recipe {recipe.name}: not http(s): {file.url}")
        paths += [file.name, file.unpacks_to or file.name, *file.nested]
    for path in paths:
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or not pure.parts:
            raise DownloadError(f"recipe {recipe.name}: path leaves its folder: {path}")
    return recipe
