"""Damaging HDF5 files at random: every kind of change that a reader may meet.

A change is drawn from a generator, so that a seed names one damaged file.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Rng = np.random.Generator
# What h5py and NumPy raise where a change is not possible.
_REFUSED = (OSError, RuntimeError, KeyError, TypeError, ValueError, OverflowError)
_LINKS = ("soft", "loop", "dangling", "external", "virtual", "elsewhere", "group")


def damage_file(path: Path, rng: Rng) -> str:
    """Change one to three things in a file; return what was done, for a message."""
    done = []
    with h5py.File(path, "r+") as file:
        for _ in range(rng.integers(1, 4)):
            change = _CHANGES[rng.integers(len(_CHANGES))]
            try:
                done.append(f"{change.__name__} {change(file, rng)}")
            except _REFUSED as error:
                done.append(f"{change.__name__}: not possible ({error})")
    return "; ".join(done)


def damage_bytes(path: Path, rng: Rng) -> str:
    """Change some bytes of a file."""
    data = bytearray(path.read_bytes())
    places = rng.integers(0, len(data), rng.integers(1, 30))
    for place in places:
        data[place] = rng.integers(256)
    path.write_bytes(bytes(data))
    return f"bytes {places.tolist()}"


def _members(file: h5py.File, kind: type = object) -> list[str]:
    names: list[str] = []
    file.visititems(lambda n, m: names.append(n) if isinstance(m, kind) else None)
    return sorted(names)


def _one(file: h5py.File, rng: Rng, kind: type = object) -> str:
    names = _members(file, kind)
    return names[rng.integers(len(names))]


def _delete(file: h5py.File, rng: Rng) -> str:
    name = _one(file, rng)
    del file[name]
    return name


def _replace_array(file: h5py.File, rng: Rng) -> str:
    """Put another dtype or shape, or other values, in place of a dataset."""
    name = _one(file, rng, h5py.Dataset)
    attrs, shape = dict(file[name].attrs), file[name].shape
    if rng.random() < 0.5 or np.prod(shape) > 10**6:
        shape = _SHAPES[rng.integers(len(_SHAPES))]
    dtype = _DTYPES[rng.integers(len(_DTYPES))]
    del file[name]
    file[name] = _values(shape, dtype, rng)
    file[name].attrs.update(attrs)
    return f"{name} {dtype} {shape}"


_SHAPES = ((), (0,), (1,), (3,), (24,), (24, 64), (3, 64), (2, 3, 4), (64,), (24, 0))
_DTYPES = (
    *("f2", "f4", ">f4", "f8", "i4", "i8", "u8", "u1", "?", "c8", "S5", "text"),
    *("broken text", "i4 i4"),
)


def _values(shape: tuple[int, ...], dtype: str, rng: Rng) -> Any:
    if dtype == "text":
        names = np.array([f"n{k}" for k in range(int(np.prod(shape)))], dtype=object)
        return names.reshape(shape).astype(h5py.string_dtype())
    if dtype == "broken text":
        return np.full(shape, b"\xff\xfe", dtype="S2").astype(
            h5py.string_dtype("utf-8", 2)
        )
    if dtype == "i4 i4":
        return np.zeros(shape, dtype=[("a", "i4"), ("b", "i4")])
    kinds = (0, 1, -1, 5, 1e30, np.nan, np.inf, -(2**31))
    with np.errstate(all="ignore"):
        return np.asarray(rng.choice(kinds, shape)).astype(dtype)


def _change_values(file: h5py.File, rng: Rng) -> str:
    """Write one other value into a dataset."""
    name = _one(file, rng, h5py.Dataset)
    dataset = file[name]
    at = tuple(int(rng.integers(n)) for n in dataset.shape)
    is_text = h5py.check_string_dtype(dataset.dtype) is not None
    value = _WORDS[rng.integers(len(_WORDS))] if is_text else 10.0 ** rng.integers(40)
    if not is_text and rng.random() < 0.3:
        value = (np.nan, -2, 2**31)[rng.integers(3)]
    with np.errstate(all="ignore"):
        dataset[at] = value
    return f"{name}{at} = {value!r}"


def _holders(file: h5py.File) -> list[str]:
    return [n for n in ("/", *_members(file)) if len(file[n].attrs)]


def _one_attribute(file: h5py.File, rng: Rng) -> tuple[Any, str]:
    holders = _holders(file)
    holder = file[holders[rng.integers(len(holders))]]
    keys = sorted(holder.attrs)
    return holder.attrs, keys[rng.integers(len(keys))]


def _delete_attribute(file: h5py.File, rng: Rng) -> str:
    attrs, key = _one_attribute(file, rng)
    del attrs[key]
    return key


_WORDS = (
    "",
    "a",
    "\x1b[31m",
    "=cmd",
    "ant\nbee",
    "ünïcode",
    "$x$",
    "a" * 300,
    "~",
    "/",
)
_ANYTHING = (
    *(None, True, False, -1, 0, 1, 2, 2**62, 1.5, float("nan"), float("inf"), 1e300),
    *([], [1], ["a"], [[]], {}, {"C": "x"}, {"C": None}, {"C": [1]}, "x", "1e999"),
    *("[" * 5000, "{}", "[]", "null", "NaN", '{"C": NaN}', '{"C": -1}', *_WORDS),
)


def _replace_attribute(file: h5py.File, rng: Rng) -> str:
    attrs, key = _one_attribute(file, rng)
    value = _ANYTHING[rng.integers(len(_ANYTHING))]
    kind = rng.integers(4)
    if kind == 0:
        attrs[key] = _values(_SHAPES[rng.integers(4)], _DTYPES[rng.integers(14)], rng)
    elif kind == 1:
        attrs[key] = h5py.Empty("f4")
    elif isinstance(value, str):
        attrs[key] = value if kind == 2 else np.bytes_(value.encode())
    else:
        attrs[key] = json.dumps(value) if value is None or kind == 2 else value
    return f"{key} = {str(attrs[key])[:60]!r}"


def _change_json(file: h5py.File, rng: Rng) -> str:
    """Put something else in one place of an attribute that holds JSON."""
    names = [n for n in _holders(file) for k in file[n].attrs if _is_json(file, n, k)]
    holder = file[names[rng.integers(len(names))]]
    keys = [k for k in sorted(holder.attrs) if _is_json(file, holder.name, k)]
    key = keys[rng.integers(len(keys))]
    value = json.loads(holder.attrs[key])
    at = value
    while isinstance(at, dict | list) and at:
        places = sorted(at) if isinstance(at, dict) else list(range(len(at)))
        place = places[rng.integers(len(places))]
        if rng.random() < 0.5 or not isinstance(at[place], dict | list):
            if rng.random() < 0.3:
                del at[place]
            else:
                at[place] = _ANYTHING[rng.integers(len(_ANYTHING))]
            break
        at = at[place]
    holder.attrs[key] = json.dumps(value)
    return f"{holder.name}/{key} = {holder.attrs[key][:60]!r}"


def _is_json(file: h5py.File, name: str, key: str) -> bool:
    text = file[name].attrs[key]
    return isinstance(text, str) and text[:1] in ("[", "{")


def _replace_by_link(file: h5py.File, rng: Rng) -> str:
    """Put a link, or a dataset that lies elsewhere, in place of an object."""
    name = _one(file, rng)
    kind = _LINKS[rng.integers(len(_LINKS))]
    shape = getattr(file[name], "shape", None) or (3,)
    others = _members(file)
    del file[name]
    if kind == "soft":
        file[name] = h5py.SoftLink("/" + others[rng.integers(len(others))])
    elif kind in ("loop", "dangling"):
        file[name] = h5py.SoftLink(f"/{name}" if kind == "loop" else "/nothing")
    elif kind == "external":
        file[name] = h5py.ExternalLink(file.filename, f"/{others[0]}")
    elif kind == "virtual":
        layout = h5py.VirtualLayout(shape, "f4")
        layout[...] = h5py.VirtualSource("other.h5", "x", shape)
        file.create_virtual_dataset(name, layout)
    elif kind == "elsewhere":
        n_bytes = 4 * int(np.prod(shape))
        file.create_dataset(name, shape, "f4", external=[("raw.bin", 0, n_bytes)])
    else:
        file.create_group(name)
    return f"{name} by {kind}"


def _add_plain(file: h5py.File, rng: Rng) -> str:
    """Add a dataset that nobody knows: no damage at all."""
    name = f"/images/extra-{rng.integers(100)}"
    file[name] = np.zeros(3)
    return name


def _claim_size(file: h5py.File, rng: Rng) -> str:
    """Put a dataset that claims far more values than it holds."""
    name = _one(file, rng, h5py.Dataset)
    text = h5py.check_string_dtype(file[name].dtype)
    dtype = h5py.string_dtype() if text else file[name].dtype
    del file[name]
    file.create_dataset(name, (2**40,), dtype, chunks=(2**10,), compression="gzip")
    return name


_CHANGES: tuple[Callable[[h5py.File, Rng], str], ...] = (
    *(_delete, _replace_array, _replace_array, _change_values, _delete_attribute),
    *(_replace_attribute, _replace_attribute, _change_json, _replace_by_link),
    *(_add_plain, _claim_size),
)
