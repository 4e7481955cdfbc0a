"""Images in folders: one folder for each class, or one folder for all.

A folder counts as a class when an image lies anywhere below it. Where there are class
folders, images beside them belong to no class and are left out with a warning. Hidden
files and folders are ignored, and so are files without an image suffix. Symbolic links
are followed; one that leads back to a folder above it is an error. Within a class each
folder is listed once: a link that leads to it again is left out with a warning.
"""

import os
import warnings

from cnnfeat.errors import CnnfeatWarning, InputError
from cnnfeat.image_table import ImageTable
from cnnfeat.images._places import build_table, printable
from cnnfeat.suffixes import is_image_name

_Inode = tuple[int, int]  # device and inode


def list_folder(path: str) -> ImageTable:
    """Return the images of a folder of class folders, or of one flat folder.

    Raises
    ------
    InputError
        If the folder holds no image, cannot be read, or links back into itself.
    """
    root = os.path.abspath(path)
    folders, loose, n_others = _scan(root)
    above = (_inode(root),)
    again: list[str] = []
    classes = {
        name: sorted(_images_below(root, name, above, again))
        for name in sorted(folders)
    }
    images: list[tuple[str | None, str]] = [
        (name, image) for name, below in classes.items() for image in below
    ]
    if images:
        empty = [name for name in classes if not classes[name]]
        _warn_left_out(path, loose, empty, again)
        return build_table(root, images)
    if not loose:
        raise InputError(
            f"{printable(path)}: no images in this folder or below it; expected files "
            f"with an image suffix (.jpg, .png, ...), found {n_others} other files"
        )
    return build_table(root, [(None, name) for name in sorted(loose)])


def _images_below(
    root: str, folder: str, above: tuple[_Inode, ...], again: list[str]
) -> list[str]:
    """Return the images below a folder as paths relative to the root.

    Links wait until the real folders are done, so that it is a link that is left out
    where two ways lead to one folder; its name is added to `again`.
    """
    found: list[str] = []
    listed: set[_Inode] = set()
    folders, links = [(folder, above)], list[tuple[str, tuple[_Inode, ...]]]()
    while folders or links:
        folder, above = (folders or links).pop()
        inode = _inode_below(os.path.join(root, folder), above)
        if inode in listed:
            again.append(folder)
            continue
        listed.add(inode)
        names, images, _ = _scan(os.path.join(root, folder))
        found += [f"{folder}/{image}" for image in images]
        for name in sorted(names, reverse=True):
            child = f"{folder}/{name}"
            is_link = os.path.islink(os.path.join(root, child))
            (links if is_link else folders).append((child, (*above, inode)))
    return found


def _inode_below(path: str, above: tuple[_Inode, ...]) -> _Inode:
    inode = _inode(path)
    if inode in above:
        raise InputError(
            f"{printable(path)}: this symbolic link leads back to a folder above it; "
            "remove the link"
        )
    return inode


def _scan(path: str) -> tuple[list[str], list[str], int]:
    """Return the names of the folders and the images, and the number of others."""
    folders, images, n_others = [], [], 0
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry):
                    folders.append(entry.name)
                elif is_image_name(entry.name):
                    # A broken link too: it keeps its row and says why it has no image.
                    images.append(entry.name)
                else:
                    n_others += 1
    except OSError as error:
        raise _cannot_list(path, error) from error
    return folders, images, n_others


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _inode(path: str) -> _Inode:
    try:
        status = os.stat(path)
    except OSError as error:
        raise _cannot_list(path, error) from error
    return status.st_dev, status.st_ino


def _cannot_list(path: str, error: OSError) -> InputError:
    reason = (error.strerror or type(error).__name__).lower()
    return InputError(f"{printable(path)}: the folder cannot be listed: {reason}")


def _warn_left_out(
    path: str, loose: list[str], empty: list[str], again: list[str]
) -> None:
    for names, what in (
        (loose, "images beside the class folders belong to no class and"),
        (empty, "folders without images"),
        (again, "links to folders that are listed already"),
    ):
        if names:
            warnings.warn(
                f"{printable(path)}: {len(names)} {what} are left out: {_some(names)}",
                CnnfeatWarning,
                stacklevel=4,
            )


def _some(names: list[str]) -> str:
    shown = ", ".join(map(printable, sorted(names)[:3]))
    return shown if len(names) <= 3 else f"{shown}, ..."
