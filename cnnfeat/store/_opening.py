"""Opening HDF5 files with errors that say what is wrong with them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import h5py

from cnnfeat.errors import DataError, LayerError, StoreError
from cnnfeat.outputs import system_reason
from cnnfeat.readback import Number, Record, Text, Truth, why_unreadable
from cnnfeat.store._schema import read_attributes
from cnnfeat.store._skeleton import FEATURES_FORMAT, FORMAT_VERSION

HEAD_FORMAT = "cnnfeat-head"
_KINDS = {FEATURES_FORMAT: "a feature file", HEAD_FORMAT: "a head file"}
_MADE_BY = {
    FEATURES_FORMAT: "`cnnfeat extract`",
    HEAD_FORMAT: "`cnnfeat train`",
}
_DAMAGE = (
    OSError,
    RuntimeError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    DataError,
    LayerError,
)
_MADE_BY_US = Record(
    {}, {"format": Text(), "format_version": Number(1, whole=True), "complete": Truth()}
)


def open_hdf5(path: Path) -> h5py.File:
    """Open any HDF5 file for reading.

    Raises
    ------
    StoreError
        If it is missing, a folder, a pipe, empty, not HDF5, truncated, or being
        written.
    """
    reason = why_unreadable(path)
    if reason is not None:
        raise StoreError(f"{path}: {reason}")
    if path.stat().st_size == 0:
        raise StoreError(f"{path} is empty: make it again")
    try:
        return h5py.File(path, "r")
    except BlockingIOError as error:
        raise StoreError(f"{path} is still being written: wait for it") from error
    except OSError as error:
        raise StoreError(f"{path} {_reason(error)}") from error


def _reason(error: OSError) -> str:
    text = str(error)
    if "truncated file" in text:
        return "is cut short: it was not copied or written to its end; make it again"
    if "file signature not found" in text:
        return "is not an HDF5 file"
    return f"cannot be opened: {system_reason(error)}"


def open_format(path: Path, expected: str) -> h5py.File:
    """Open one of our files, of the kind `expected`, whole and of a known version.

    Raises
    ------
    StoreError
        As `open_hdf5`, and if it is not ours, of the other kind, of a newer format,
        or unfinished.
    """
    file = open_hdf5(path)
    try:
        check_format(file, path, expected)
    except BaseException:
        file.close()
        raise
    return file


def check_format(file: h5py.File, path: Path, expected: str) -> None:
    """Raise StoreError unless the root's attributes say `expected`, readable, whole."""
    with damage(path):
        told = read_attributes(file, _MADE_BY_US)
    found, version = told.get("format"), told.get("format_version", 0)
    wanted = f"{_KINDS[expected]} (made by {_MADE_BY[expected]})"
    if found in _KINDS and found != expected:
        raise StoreError(f"{path} is {_KINDS[found]}; expected {wanted}")
    if found != expected:
        raise StoreError(f"{path} is HDF5, but not cnnfeat's; expected {wanted}")
    if version > FORMAT_VERSION:
        raise StoreError(
            f"{path} has format version {version}, newer than {FORMAT_VERSION}, which "
            "is what this cnnfeat reads: install a newer one"
        )
    if not told.get("complete", True):
        raise StoreError(
            f"{path} is unfinished: go on with `cnnfeat extract --resume` and the "
            "same options"
        )


@contextlib.contextmanager
def damage(path: Path, cure: str = "make it again") -> Iterator[None]:
    """Turn what is raised on damaged contents, by h5py too, into StoreError."""
    try:
        yield
    except _DAMAGE as error:
        reason = str(error).strip("'\"").splitlines() or [type(error).__name__]
        raise StoreError(f"{path} is damaged: {reason[0]}; {cure}") from error
