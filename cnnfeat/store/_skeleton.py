"""A feature file with all its metadata and none of its features.

Why it is made in one go: HDF5 keeps metadata in memory and writes it when it likes, so
a process killed half-way leaves a file that nothing can open. Here every dataset gets
its full size and its place in the file at once, and the file is closed and synced
before the first row. What follows overwrites raw bytes in place and never a byte of
metadata, so the file opens whenever the process is killed. The library's oldest file
format serves: files of the newer ones refuse to open when a killed process has left
their "open for writing" mark set.
"""

import errno
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from cnnfeat._version import __version__
from cnnfeat.errors import DataError, LayerError
from cnnfeat.image_table import ImageTable
from cnnfeat.layer_spec import LayerSpec
from cnnfeat.outputs import MIB, fsync_path, open_own, prove_space
from cnnfeat.readback import Malformed, refuse_repeats
from cnnfeat.store._columns import write_columns

FEATURES_FORMAT = "cnnfeat-features"
FORMAT_VERSION = 1
CHUNK_BYTES = MIB
# Reasons have a fixed length, because HDF5 keeps strings of variable length in
# metadata; longer ones are cut.
ERROR_BYTES = 200
DIGEST_BYTES = 32


@dataclass(frozen=True)
class Contents:
    """What is known about a feature file before its first row.

    Parameters
    ----------
    table : ImageTable
        One image a row.
    layers : sequence of LayerSpec
    provenance : dict of str
    command : str
        The command line that makes the file.
    stamps : ndarray of shape (n_images,), dtype=uint64, optional
        What must stay the same of each image's file for a run to be resumed.
    is_tuned : bool, default=False
        The network was fine-tuned on images that are known, and the file says on which
        of its own.

    Raises
    ------
    DataError
        If there are no images, or two classes of one name.
    LayerError
        If there are no layers, or two of one name.
    """

    table: ImageTable
    layers: Sequence[LayerSpec]
    provenance: dict[str, str]
    command: str
    stamps: np.ndarray | None = None
    is_tuned: bool = False

    def __post_init__(self) -> None:
        if not len(self.table):
            raise DataError("there are no images to store features of")
        try:
            refuse_repeats("class", self.table.class_names)
        except Malformed as error:
            raise DataError(str(error)) from error
        names = [spec.name for spec in self.layers]
        if not names:
            raise LayerError("no layer to store")
        if len(set(names)) != len(names):
            raise LayerError(f"a layer is named twice: {', '.join(names)}")

    @property
    def n_images(self) -> int:
        """Number of rows."""
        return len(self.table)

    def stamp_array(self) -> np.ndarray:
        """Return the stamps, empty where none are given."""
        return np.empty(0, np.uint64) if self.stamps is None else self.stamps

    def fingerprint(self) -> dict[str, str]:
        """Return what decides where each row goes and what it means."""
        decided = {
            "root": self.table.root,
            "image list": self.table.fingerprint(),
            "layers": json.dumps([spec.to_dict() for spec in self.layers]),
        }
        own = {name: v.tolist() for name, v in self.table.own_columns.items()}
        if own:
            text = json.dumps(own, sort_keys=True, default=str)
            decided["columns"] = hashlib.sha256(text.encode()).hexdigest()
        return decided

    def metadata_bytes(self) -> int:
        """Return no fewer bytes than everything but the rows takes."""
        # Strings: the bytes, a heap entry and a reference each; labels; chunk indices.
        table = self.table
        strings = [*table.paths, *table.class_names, *self.provenance.values()]
        for values in table.own_columns.values():
            strings += map(str, values)
        text = sum(len(string.encode()) + 48 for string in strings)
        n_chunks = sum(-(-self.n_images // _chunk_rows(s)) for s in self.layers)
        return 2 * (text + 4 * self.n_images + 128 * n_chunks) + MIB // 4

    def n_bytes(self) -> int:
        """Return about how many bytes the whole file takes."""
        row = sum(spec.row_bytes for spec in self.layers) + ERROR_BYTES + 2
        row += DIGEST_BYTES
        return self.n_images * row + self.metadata_bytes()


def _chunk_rows(spec: LayerSpec) -> int:
    return max(1, CHUNK_BYTES // spec.row_bytes)


def create_skeleton(path: Path, contents: Contents) -> None:
    """Write and sync a file that has everything but the rows, `complete` False.

    Raises
    ------
    OSError, RuntimeError
        If the file cannot be written.
    """
    path.unlink(missing_ok=True)  # a killed run's, or a link that someone put there
    prove_space(path, contents.metadata_bytes())
    with h5py.File(path, "x", libver="earliest") as file:
        _write_attributes(file, contents)
        _write_images(file, contents)
        for spec in contents.layers:
            dataset = _preallocate(
                file,
                f"/features/{spec.name}",
                (contents.n_images, *spec.shape),
                np.dtype(spec.dtype),
            )
            write_layer_attributes(dataset, spec)
    fsync_path(path)
    fsync_path(path.parent)


def write_layer_attributes(dataset: h5py.Dataset, spec: LayerSpec) -> None:
    """Say of a dataset which layer it holds."""
    dataset.attrs["layer"] = spec.layer
    dataset.attrs["shape"] = np.array(spec.shape, dtype=np.int64)
    dataset.attrs["pool"] = spec.pool
    dataset.attrs["before_nonlinearity"] = np.bool_(spec.before_nonlinearity)
    if spec.token_grid is not None and spec.n_prefix_tokens is not None:
        dataset.attrs["token_grid"] = np.array(spec.token_grid, dtype=np.int64)
        dataset.attrs["n_prefix_tokens"] = np.int64(spec.n_prefix_tokens)


def write_without_rows(
    file: h5py.File,
    contents: Contents,
    errors: Sequence[str],
    tuned_on: Sequence[int] | np.ndarray,
) -> None:
    """Write all but the layers into an empty file, whose rows are known to be whole.

    Parameters
    ----------
    file : h5py.File
    contents : Contents
        Its table says which rows are ok.
    errors : sequence of n_images str
    tuned_on : sequence of int
        Rows of images that the network was fine-tuned on.
    """
    _write_attributes(file, contents)
    _write_images(file, contents)
    rows = np.arange(contents.n_images)
    file["/images/ok"][:] = contents.table.ok
    file["/images/error"][:] = [error.encode() for error in errors]
    file["/images/digest"][:] = contents.table.digests(rows)
    if contents.is_tuned:
        file["/images/tuned_on"][:] = np.isin(rows, tuned_on)
    file.attrs.modify("complete", np.bool_(True))


def _write_attributes(file: h5py.File, contents: Contents) -> None:
    file.attrs["format"] = FEATURES_FORMAT
    file.attrs["format_version"] = FORMAT_VERSION
    # Overwritten in place by `mark_complete`: all that changes of the metadata.
    file.attrs["complete"] = np.bool_(False)
    file.attrs["created_by"] = f"cnnfeat {__version__}"
    file.attrs["command"] = contents.command
    file.attrs["root"] = contents.table.root
    # HDF5 lists a group by the alphabet; people want the order that they asked for.
    file.attrs["layer_order"] = json.dumps([spec.name for spec in contents.layers])
    provenance = file.create_group("provenance")
    for key, value in contents.provenance.items():
        provenance.attrs[key] = value


def _write_images(file: h5py.File, contents: Contents) -> None:
    table = contents.table
    text = h5py.string_dtype("utf-8")
    n, n_classes = len(table), len(table.class_names)
    file.create_dataset("/images/path", data=list(table.paths), dtype=text)
    file.create_dataset("/images/label", data=table.labels)
    names = list(table.class_names) or None
    file.create_dataset("/classes", shape=(n_classes,), data=names, dtype=text)
    write_columns(file, table)
    for name in ("ok", "tuned_on") if contents.is_tuned else ("ok",):
        _preallocate(file, f"/images/{name}", (n,), np.dtype(bool))
    for name, length in (("error", ERROR_BYTES), ("digest", DIGEST_BYTES)):
        _preallocate(file, f"/images/{name}", (n,), h5py.string_dtype("utf-8", length))


def _preallocate(
    file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype
) -> h5py.Dataset:
    """Create a dataset that has all its space, unwritten, in chunks of whole rows."""
    row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
    rows = min(shape[0], max(1, CHUNK_BYTES // row_bytes))
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return file.create_dataset(
        name, shape, dtype, chunks=(rows, *shape[1:]), dcpl=plist, fillvalue=None
    )


def open_for_rows(path: Path) -> h5py.File:
    """Open a skeleton so that every write goes to the file at once.

    Without a chunk cache HDF5 has no dirty bytes of its own: a full disk shows in the
    write that met it, and closing the file afterwards cannot fail.

    Raises
    ------
    OSError
        If it cannot be opened, or is a symbolic link or no regular file.
    """
    with open_own(path, "r+b") as own:
        file = h5py.File(path, "r+", libver="earliest", rdcc_nbytes=0, rdcc_nslots=1)
        # HDF5 opens by name and follows links: it must be what we have opened.
        if not os.path.sameopenfile(own.fileno(), file.id.get_vfd_handle()):
            file.close()
            raise OSError(errno.ELOOP, "another file has taken its place", str(path))
    return file


def fsync_rows(file: h5py.File) -> None:
    """Force the rows written so far onto the disk."""
    file.flush()
    os.fsync(file.id.get_vfd_handle())


def mark_complete(file: h5py.File) -> None:
    """Set `complete`, once every row is on the disk."""
    fsync_rows(file)
    file.attrs.modify("complete", np.bool_(True))
    fsync_rows(file)
