"""The verbs that fetch: a data set (check, unpack, count), a network's weights.

Run twice they do nothing the second time.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cnnfeat import networks
from cnnfeat.datasets import (
    FileRecipe,
    Recipe,
    count_images,
    list_recipes,
    load_recipe,
    unpack_archive,
)
from cnnfeat.errors import CnnfeatWarning, DownloadError
from cnnfeat.fetching import Progress, fetch_file
from cnnfeat.outputs import atomic_output, locked_output, remove_leftovers

__all__ = [
    "DownloadReport",
    "download_dataset",
    "download_weights",
    "list_recipes",
    "load_recipe",
]


@dataclass(frozen=True)
class DownloadReport:
    """What stands in the folder after a download.

    Parameters
    ----------
    dataset : str
        The recipe's name.
    images : str
        Folder to give to `cnnfeat extract`.
    n_images, n_classes : int
        As counted there.
    fetched, unpacked : tuple of str
        Files fetched and folders unpacked by this run; empty when all was there.
    splits : tuple of str
        Published split lists that are there.
    licence, citation : str
        The terms of use.
    """

    dataset: str
    images: str
    n_images: int
    n_classes: int
    fetched: tuple[str, ...]
    unpacked: tuple[str, ...]
    splits: tuple[str, ...]
    licence: str
    citation: str

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return asdict(self)


def download_dataset(
    name: str,
    folder: str | Path,
    *,
    progress: Progress | None = None,
    recipe: Recipe | None = None,
    retries: int = 5,
    timeout: float = 30.0,
    backoff: float = 1.0,
) -> DownloadReport:
    """Fetch and unpack a data set into `folder`; what is there is not fetched again.

    Parameters
    ----------
    name : str
        One of `list_recipes()`.
    folder : str or Path
        Made if missing. Archives stay beside what they unpack to and may be deleted.
    progress : callable, optional
        Called with (file name, bytes so far, all bytes or None).
    recipe : Recipe, optional
        In place of the one called `name`.
    retries, timeout, backoff : int, float, float
        See `fetch_file`; seconds.

    Returns
    -------
    DownloadReport

    Raises
    ------
    DownloadError
        If there is no such data set, the folder cannot be made, or a file cannot be
        fetched, checked or unpacked.
    OutputError
        If another process fetches the same data set into the same folder.

    Warns
    -----
    CnnfeatWarning
        If there are other numbers of images or classes than published, or a split
        list is missing.
    """
    recipe = load_recipe(name) if recipe is None else recipe
    folder = Path(folder)
    fetch = partial(
        fetch_file, progress=progress, retries=retries, timeout=timeout, backoff=backoff
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked_output(folder / recipe.name):
            fetched, unpacked = _fetch_missing(recipe, folder, fetch)
    except OSError as error:
        raise DownloadError(f"{folder}: cannot be written ({error})") from error
    n_images, n_classes = count_images(folder / recipe.images, recipe.class_folders)
    _warn_of_differences(recipe, folder, n_images, n_classes)
    return DownloadReport(
        dataset=recipe.name,
        images=str(folder / recipe.images),
        n_images=n_images,
        n_classes=n_classes,
        fetched=fetched,
        unpacked=unpacked,
        splits=tuple(str(folder / s) for s in recipe.splits if (folder / s).exists()),
        licence=recipe.licence,
        citation=recipe.citation,
    )


def download_weights(
    model: str,
    folder: str | Path,
    *,
    progress: Progress | None = None,
    retries: int = 5,
    timeout: float = 30.0,
    backoff: float = 1.0,
) -> networks.OfficialFile:
    """Fetch a network's published weights into `folder`, where `weights=` finds them.

    Parameters
    ----------
    model : str
        As for `load_network`.
    folder : str or Path
        Made if missing. A file that is there already is only checked.
    progress : callable, optional
        Called with (file name, bytes so far, all bytes or None).
    retries, timeout, backoff : int, float, float
        See `fetch_file`; seconds.

    Returns
    -------
    OfficialFile

    Raises
    ------
    NetworkError
        If there is no such network.
    WeightsError
        If it has no published weights.
    DownloadError
        If the folder cannot be made, or the file cannot be fetched or checked.
    OutputError
        If another process fetches the same weights into the same folder.
    """
    found = networks.official_file(model, timeout=timeout)
    path = Path(folder) / found.name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked_output(path):
            if found.packaged is None:
                fetch_file(
                    found.remote,
                    path,
                    progress=progress,
                    retries=retries,
                    timeout=timeout,
                    backoff=backoff,
                )
            elif not path.exists():
                with atomic_output(path) as temporary:
                    shutil.copyfile(found.packaged, temporary)
    except OSError as error:
        raise DownloadError(f"{folder}: cannot be written ({error})") from error
    return found.at(path)


def _fetch_missing(
    recipe: Recipe, folder: Path, fetch: Callable[[FileRecipe, Path], None]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the files that were fetched and the folders that were unpacked."""
    fetched, unpacked = [], []
    for file in recipe.files:
        target = folder / (file.unpacks_to or file.name)
        remove_leftovers(target)
        if target.exists():
            continue
        path = folder / file.name
        if not path.exists():
            fetched.append(file.name)
        fetch(file, path)
        if file.unpacks_to:
            unpack_archive(path, target, strip=file.strip, nested=file.nested)
            unpacked.append(file.unpacks_to)
    return tuple(fetched), tuple(unpacked)


def _warn_of_differences(
    recipe: Recipe, folder: Path, n_images: int, n_classes: int
) -> None:
    """Warn where the folder differs from what was published."""
    images = folder / recipe.images
    if (n_images, n_classes) != (recipe.n_images, recipe.n_classes):
        warnings.warn(
            f"{images}: expected {recipe.n_images} images in {recipe.n_classes} "
            f"classes, found {n_images} in {n_classes}; move the folder away and "
            "download again to start from the archive",
            CnnfeatWarning,
            stacklevel=3,
        )
    missing = [split for split in recipe.splits if not (folder / split).exists()]
    if missing:
        warnings.warn(
            f"{folder}: published split lists are missing: {', '.join(missing)}",
            CnnfeatWarning,
            stacklevel=3,
        )
