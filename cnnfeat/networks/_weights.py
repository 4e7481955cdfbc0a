"""State dicts: read safely from files, and digested.

Nothing is ever unpickled beyond tensors: `.safetensors` holds no code, and every other
file goes through `torch.load(weights_only=True)`.
"""

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from cnnfeat.errors import WeightsError
from cnnfeat.machine import is_out_of_memory
from cnnfeat.readback import (
    Entries,
    Items,
    Json,
    Malformed,
    Number,
    Record,
    Text,
    why_unreadable,
)
from cnnfeat.suffixes import SAFETENSORS, suffix_of

StateDict = dict[str, torch.Tensor]

_METADATA = Json(
    Record(
        required={},
        optional={
            **dict.fromkeys(("format", "model", "root"), Text()),
            "format_version": Number(1, whole=True),
            "class_names": Items(Text(), unique=True),
            "preprocessing": Entries(),
            "classifier": Record({"name": Text(), "input_norm": Number(0)}),
            **dict.fromkeys(("training_paths", "heldout_paths"), Items(Text())),
        },
    )
)
N_NAMED = 3  # names quoted in a message
# Where a training script's checkpoint keeps its network; the first that is there.
STATE_KEYS = ("state_dict", "model", "model_ema", "teacher", "net")
INDEX_SUFFIX = ".index.json"
_SHARD = Text(
    pattern=r"[^/\\]+\.(safetensors|bin|pth|pt)",
    told="the name of a weights file beside the index",
)
_INDEX = Json(Record(required={"weight_map": Entries(_SHARD)}))


def file_digest(path: Path) -> str:
    """Return the sha256 hex digest of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_digest(state: Mapping[str, torch.Tensor]) -> str:
    """Return the sha256 hex digest over names, dtypes, shapes and values in order."""
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        values = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(values.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class StoredWeights:
    """The tensors of a weights file.

    Attributes
    ----------
    state : dict of str to tensor, on the CPU
    metadata : dict
        The JSON under the key `cnnfeat` (safetensors metadata, or beside the state
        dict of a `.pth`); empty where there is none.
    keys : tuple of str
        Where the state dict was found, from the outside: ("teacher", "state_dict").
    others : tuple of str
        Other state dicts that the file has beside it.
    """

    state: StateDict
    metadata: dict[str, Any]
    keys: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


def read_state_dict(path: Path) -> tuple[StateDict, dict[str, Any]]:
    """Return the tensors of a weights file and its metadata; see `read_weights`."""
    stored = read_weights(path)
    return stored.state, stored.metadata


def read_weights(path: Path) -> StoredWeights:
    """Read a weights file without running anything in it.

    Parameters
    ----------
    path : Path
        `.safetensors`; the `.index.json` of several files; or a `torch.save` file of a
        state dict, bare or under one of `STATE_KEYS`.

    Raises
    ------
    WeightsError
        If the file or one of several is missing, damaged, holds code, or holds no
        state dict.
    """
    found = why_unreadable(path)
    if found is not None:
        raise WeightsError(
            f"weights {str(path)!r}: {found}; expected 'default', 'random', or the "
            "path of a .pth or .safetensors file"
        )
    if path.name.endswith(INDEX_SUFFIX):
        return StoredWeights(_read_shards(path), {})
    if suffix_of(path) == SAFETENSORS:
        return StoredWeights(*_read_safetensors(path))
    loaded = _load_tensors(path)
    text = loaded.get("cnnfeat", "{}") if isinstance(loaded, dict) else "{}"
    state, keys, others = _state_dict_in(loaded, path)
    return StoredWeights(state, _our_metadata(text, path), keys, others)


def weights_digest(path: Path) -> str:
    """Return the sha256 hex digest of a weights file; of an index, with its files."""
    if not path.name.endswith(INDEX_SUFFIX):
        return file_digest(path)
    files = sorted(set(_weight_map(path).values()))
    told = [file_digest(one) for one in (path, *(path.parent / n for n in files))]
    return hashlib.sha256("".join(told).encode()).hexdigest()


def _weight_map(path: Path) -> dict[str, str]:
    """Return which file beside the index holds each tensor."""
    try:
        index = _INDEX.check("index", path.read_text(encoding="utf-8"))
    except (Malformed, UnicodeDecodeError) as error:
        raise WeightsError(f"weights {str(path)!r}: damaged index: {error}") from error
    names: dict[str, str] = index["weight_map"]
    if not names:
        raise WeightsError(f"weights {str(path)!r}: the index names no tensor")
    return names


def _read_shards(path: Path) -> StateDict:
    """Return the tensors of all files that an index names."""
    names = _weight_map(path)
    files = sorted(set(names.values()))
    missing = [name for name in files if not (path.parent / name).is_file()]
    if missing:
        raise WeightsError(
            f"weights {str(path)!r}: {len(missing)} of its {len(files)} files are not "
            f"beside it: {', '.join(missing[:N_NAMED])}; put them there"
        )
    state: StateDict = {}
    for name in files:
        state |= read_weights(path.parent / name).state
    absent = [key for key in names if key not in state]
    if absent:
        raise WeightsError(
            f"weights {str(path)!r}: {absent[0]} is not in {names[absent[0]]}, where "
            f"the index says it is ({len(absent)} such tensors); fetch them again"
        )
    return {key: state[key] for key in names}


def _load_tensors(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            # TorchScript archives are announced by a warning before they are refused.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if _holds_code(path, str(error)):
            raise WeightsError(
                f"weights {str(path)!r}: refused, since the file holds more than "
                "tensors and loading it could run code; save a plain state dict "
                "or .safetensors"
            ) from error
        raise _damaged(path, error) from error
    except (
        AttributeError,
        EOFError,
        IndexError,
        KeyError,
        OSError,
        OverflowError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:  # what damaged bytes raise inside the unpickler
        if is_out_of_memory(error):
            raise
        if "legacy .tar" in str(error):
            raise WeightsError(
                f"weights {str(path)!r}: refused, a tar as PyTorch wrote before 2017, "
                "which it reads only by unpickling whatever is in it; where you trust "
                "it, load it with torch.load and save the state dict again"
            ) from error
        raise _damaged(path, error) from error


def _holds_code(path: Path, reason: str) -> bool:
    """Tell a pickle of more than tensors from bytes that are no pickle at all.

    Both may stop at an operand that torch does not allow; a pickle begins with PROTO.
    """
    if "nsupported operand" in reason:
        with path.open("rb") as file:
            return file.read(1) == pickle.PROTO
    return "nsupported" in reason or "GLOBAL" in reason


def _damaged(path: Path, error: Exception) -> WeightsError:
    reason = " ".join(str(error).split()).split(". ")[0][:120] or type(error).__name__
    return WeightsError(
        f"weights {str(path)!r}: damaged or not a weights file ({reason}); "
        "fetch it again"
    )


def _read_safetensors(path: Path) -> tuple[StateDict, dict[str, Any]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    return state, _our_metadata(metadata.get("cnnfeat", "{}"), path)


def _our_metadata(text: Any, path: Path) -> dict[str, Any]:
    """Return the JSON object that cnnfeat keeps beside the tensors."""
    try:
        ours: dict[str, Any] = _METADATA.check("cnnfeat", text)
    except Malformed as error:
        raise WeightsError(
            f"weights {str(path)!r}: its cnnfeat metadata is damaged: {error}"
        ) from error
    return ours


def _state_dict_in(
    loaded: Any, path: Path
) -> tuple[StateDict, tuple[str, ...], tuple[str, ...]]:
    """Return a state dict, the keys that lead to it, and those of others beside it."""
    keys: list[str] = []
    others: list[str] = []
    while isinstance(loaded, dict) and not _is_state_dict(loaded):
        inner = [key for key in STATE_KEYS if isinstance(loaded.get(key), dict)]
        if not inner:
            break
        keys.append(inner[0])
        others += inner[1:]
        loaded = loaded[inner[0]]
    if not _is_state_dict(loaded):
        raise WeightsError(
            f"weights {str(path)!r}: no state dict in it; expected names mapped to "
            f"tensors, bare or under {', '.join(STATE_KEYS)}; found {_kind_of(loaded)}"
        )
    return loaded, tuple(keys), tuple(others)


def _is_state_dict(loaded: Any) -> bool:
    return (
        isinstance(loaded, dict)
        and bool(loaded)
        and all(isinstance(key, str) for key in loaded)
        and all(isinstance(value, torch.Tensor) for value in loaded.values())
    )


def _kind_of(loaded: Any) -> str:
    if not isinstance(loaded, dict) or not loaded:
        return type(loaded).__name__
    keys = [str(key) for key in loaded]
    more = ", …" if len(keys) > N_NAMED else ""
    return f"a dict of {', '.join(keys[:N_NAMED])}{more}"
