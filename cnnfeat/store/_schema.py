"""What a file of ours holds: datasets and attributes, said once, checked on opening.

A `Schema` is the table; `Schema.read` holds a file against it and returns what it read,
so that nothing unchecked goes further. Rows of features are described and not read: of
them only the metadata counts, whatever the size of the file. Datasets that the table
does not name are left alone.

A file is data and nothing else: it may not send a reader to other files. Links to
other files, bytes kept in other files and virtual datasets are refused wherever they
stand, before any dataset is opened; but for the shards of a merged file, see `_parts`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field as has
from typing import Any

import h5py
import numpy as np

from cnnfeat.readback import (
    Described,
    Entries,
    Field,
    Json,
    Malformed,
    Record,
    Text,
    fail,
    refuse_repeats,
)

TEXT = "text"  # beside NumPy's kinds of dtypes
_TOLD = {
    "f": "floating-point numbers",
    "iu": "whole numbers",
    "biu": "true or false",
    TEXT: "text",
}
# No filter of HDF5's own packs tighter: deflate ends at 1,032 to 1. More is a file
# that names a size which it does not hold, to fill the memory of its reader.
_MOST_PACKED = 1100

# What decided the features, as `cnnfeat extract` told it: text, whatever it says.
PROVENANCE = Record(
    required={},
    optional={
        "preprocessing": Json(Entries(), as_text=True),
        "weights_seed": Text(pattern=r"\d{0,18}", told="a whole number or nothing"),
    },
    others=Text(),
)

Lengths = dict[str, int]
_PLAIN = {h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.STRING, h5py.h5t.ENUM}


@dataclass(frozen=True)
class Array:
    """One dataset.

    Parameters
    ----------
    kind : {"f", "iu", "biu", "text"}
        NumPy's kinds of dtype, or strings.
    shape : tuple of str
        Lengths by name: one name is one length in the whole file.
    lowest : int, optional
        Of whole numbers.
    below : str, optional
        Name of the length that whole numbers stay under.
    unique : bool
        No text is there twice.
    optional : bool
        A file may do without.
    at_least : int
        Entries along the first axis.
    read_as : str, optional
        The dtype that numbers are turned into; their own by default.
    """

    kind: str
    shape: tuple[str, ...]
    lowest: int | None = None
    below: str | None = None
    unique: bool = False
    optional: bool = False
    at_least: int = 0
    read_as: str = ""

    def read(self, dataset: h5py.Dataset, lengths: Lengths) -> Any:
        """Return an array, or a tuple of str; Malformed where it is something else."""
        where = dataset.name
        check_shape(dataset, self.shape, lengths)
        if len(dataset) < self.at_least:
            fail(where, f"{self.at_least} or more entries", Described(len(dataset)))
        if not _is_plain(dataset.id):
            fail(where, _TOLD[self.kind], _Unread())
        dtype = dataset.dtype
        is_text = h5py.check_string_dtype(dtype) is not None
        is_ours = is_text or (dtype.kind in self.kind and dtype.itemsize <= 8)
        if is_text != (self.kind == TEXT) or not is_ours:
            fail(where, _TOLD[self.kind], Described(dtype))
        if dataset.nbytes > _MOST_PACKED * dataset.id.get_storage_size():
            raise Malformed(f"{where}: most of its {dataset.nbytes:,} bytes are absent")
        if is_text:
            values: Any = _read_text(dataset)
        else:
            values = self._native(dataset[()])
            self._check_values(where, values, lengths)
        if self.unique:
            refuse_repeats(where, values)
        return values

    def _native(self, values: np.ndarray) -> np.ndarray:
        """Return numbers in this machine's order of bytes; too large ones infinite."""
        with np.errstate(over="ignore"):
            return values.astype(self.read_as or values.dtype.newbyteorder("="))

    def _check_values(self, where: str, values: np.ndarray, lengths: Lengths) -> None:
        if self.kind == "f" and not np.isfinite(values).all():
            raise Malformed(f"{where}: NaN or infinity among its values")
        if self.kind == "f" or not values.size:
            return
        low, high = int(values.min()), int(values.max())
        highest = 1 if self.kind == "biu" else None
        lowest = 0 if self.kind == "biu" else self.lowest
        if self.below is not None:
            highest = lengths[self.below] - 1
        if (lowest is not None and low < lowest) or (
            highest is not None and high > highest
        ):
            bounds = f"from {lowest}" if highest is None else f"{lowest} to {highest}"
            fail(where, f"values {bounds}", Described(f"{low} to {high}"))


def check_shape(
    dataset: h5py.Dataset, shape: tuple[str | int, ...], lengths: Lengths
) -> None:
    """Raise Malformed unless a dataset has a shape; learn lengths not yet known."""
    found = dataset.shape
    if found is not None and len(found) == len(shape):
        for name, length in zip(shape, found, strict=True):
            if isinstance(name, str):
                lengths.setdefault(name, length)
        wanted = tuple(lengths.get(n, n) if isinstance(n, str) else n for n in shape)
        if found == wanted:
            return
        fail(dataset.name, f"shape {wanted}", Described(found))
    axes = "one axis" if len(shape) == 1 else f"{len(shape)} axes"
    fail(dataset.name, axes, Described(f"shape {found}"))


def _read_text(dataset: h5py.Dataset) -> tuple[str, ...]:
    try:
        return tuple(dataset.asstr("utf-8")[()].tolist())
    except UnicodeDecodeError as error:
        raise Malformed(f"{dataset.name}: not UTF-8 text") from error


@dataclass(frozen=True)
class Schema:
    """The table of one kind of file.

    Parameters
    ----------
    attributes : mapping of str to Record or Entries
        By group; those of "/" and of others.
    arrays : mapping of str to Array
        By name, in the order in which they are read: a length is learnt from the first
        that has it.
    """

    attributes: Mapping[str, Record | Entries]
    arrays: Mapping[str, Array] = has(default_factory=dict)

    def read(
        self, file: h5py.File, virtual: frozenset[str] = frozenset()
    ) -> dict[str, Any]:
        """Return what a file holds, by the names of the table.

        Parameters
        ----------
        file : h5py.File
        virtual : frozenset of str
            Virtual datasets that were found to be made of parts of ours.

        Returns
        -------
        dict
            Attributes of a group as a dict, arrays as ndarray, text as tuple of str.
            Optional datasets that are not there are left out.

        Raises
        ------
        Malformed
            Names the first field that is missing or is something else.
        """
        refuse_other_files(file, virtual)
        lengths: Lengths = {}
        found: dict[str, Any] = {}
        for name, attributes in self.attributes.items():
            group = find(file, name, h5py.Group, "a group")
            found[name] = read_attributes(group, attributes)
        for name, array in self.arrays.items():
            if array.optional and name not in file:
                continue
            dataset = find(file, name, h5py.Dataset, "a dataset")
            found[name] = array.read(dataset, lengths)
        return found


def find(file: h5py.Group, name: str, kind: type, told: str) -> Any:
    """Return the member of a file; Malformed if it is missing or of another kind."""
    try:
        found = file[name]
    except (KeyError, OSError, RuntimeError) as error:
        raise Malformed(f"{name} is missing") from error
    if not isinstance(found, kind):
        fail(name, told, Described(type(found).__name__.lower()))
    return found


def read_attributes(member: h5py.HLObject, field: Field) -> dict[str, Any]:
    """Return the attributes of a group or dataset, as `field` says they are."""
    values: dict[str, Any] = {}
    for name in sorted(member.attrs):
        try:
            is_plain = _is_plain(member.attrs.get_id(name))
            value = member.attrs[name] if is_plain else _Unread()
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            raise Malformed(f"{member.name}/{name} cannot be read") from error
        values[name] = value.tolist() if hasattr(value, "tolist") else value
    checked: dict[str, Any] = field.check(str(member.name).rstrip("/"), values)
    return checked


class _Unread:
    """Stands for what is neither number nor text."""

    def __repr__(self) -> str:
        return "neither number nor text"


def _is_plain(stored: Any) -> bool:
    """Return whether an attribute or dataset holds numbers or text.

    HDF5 has no need of care with these; damaged descriptions of composed types end the
    process when they are read.
    """
    return stored.get_type().get_class() in _PLAIN


def refuse_other_files(file: h5py.File, virtual: frozenset[str] = frozenset()) -> None:
    """Raise Malformed if anything in a file leads out of it, but for `virtual`.

    Links are looked at and not followed; a dataset is asked how it is stored, and not
    how large it is, for which HDF5 would open the files that it is made of.
    """
    links: list[tuple[bytes, int]] = []
    # Nothing may be raised inside: HDF5's own code calls it.
    file.id.links.visit(lambda n, link: links.append((n, link.type)), info=True)
    for name, kind in links:
        where = "/" + name.decode("utf-8", "backslashreplace")
        if kind == h5py.h5l.TYPE_SOFT:
            continue  # stays inside, as no link inside leads out
        if kind != h5py.h5l.TYPE_HARD:
            raise Malformed(f"{where}: a link to another file, which is not followed")
        member = h5py.h5o.open(file.id, name)
        if isinstance(member, h5py.h5d.DatasetID) and where not in virtual:
            _refuse_outside(where, member.get_create_plist())


def _refuse_outside(where: str, stored: Any) -> None:
    if stored.get_layout() == h5py.h5d.VIRTUAL:
        raise Malformed(f"{where}: a virtual dataset, made of parts of other files")
    if stored.get_external_count():
        raise Malformed(f"{where}: its bytes lie in another file, which is not read")
