"""State dicts: read safely, compared with a network, loaded, digested.

Nothing is ever unpickled beyond tensors: `.safetensors` holds no code, and every other
file goes through `torch.load(weights_only=True)`.
"""

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

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
_COUNTER = ".num_batches_tracked"
_N_NAMED = 3  # differences quoted in a message


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


def read_state_dict(path: Path) -> tuple[StateDict, dict[str, Any]]:
    """Read a weights file without running anything in it.

    Parameters
    ----------
    path : Path
        `.safetensors`, or a `torch.save` file of a state dict, bare or under
        `state_dict` or `model`; a leading `module.` (DataParallel) is dropped.

    Returns
    -------
    state : dict of str to tensor, on the CPU
    metadata : dict
        The JSON under the key `cnnfeat` (safetensors metadata, or beside the state
        dict of a `.pth`); empty where there is none.

    Raises
    ------
    WeightsError
        If the file is missing, damaged, holds code, or holds no state dict.
    """
    found = why_unreadable(path)
    if found is not None:
        raise WeightsError(
            f"weights {str(path)!r}: {found}; expected 'default', 'random', or the "
            "path of a .pth or .safetensors file"
        )
    if suffix_of(path) == SAFETENSORS:
        return _read_safetensors(path)
    loaded = _load_tensors(path)
    text = loaded.get("cnnfeat", "{}") if isinstance(loaded, dict) else "{}"
    return _state_dict_in(loaded, path), _our_metadata(text, path)


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


def _state_dict_in(loaded: Any, path: Path) -> StateDict:
    for key in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
            break
    if (
        not isinstance(loaded, dict)
        or not loaded
        or not all(isinstance(key, str) for key in loaded)
        or not all(isinstance(value, torch.Tensor) for value in loaded.values())
    ):
        raise WeightsError(
            f"weights {str(path)!r}: no state dict in it; expected names mapped to "
            f"tensors, found {type(loaded).__name__}"
        )
    if all(key.startswith("module.") for key in loaded):
        return {key.removeprefix("module."): t for key, t in loaded.items()}
    return loaded


def match_by_order(state: StateDict, target: StateDict, where: str) -> StateDict:
    """Rename the tensors of `state` to the names of `target`, in order.

    Each pair must agree in shape and in the last part of its name (`weight`, `bias`,
    `running_mean`, …).

    Raises
    ------
    WeightsError
        If the counts differ or a pair disagrees; the first such pair is named.
    """
    if len(state) != len(target):
        raise WeightsError(
            f"{where}: expected {len(target)} tensors, found {len(state)}"
        )
    for (old, tensor), (new, expected) in zip(
        state.items(), target.items(), strict=True
    ):
        same_kind = old.rpartition(".")[2] == new.rpartition(".")[2]
        if not same_kind or tensor.shape != expected.shape:
            raise WeightsError(
                f"{where}: expected {new} {tuple(expected.shape)}, "
                f"found {old} {tuple(tensor.shape)}"
            )
    return dict(zip(target, state.values(), strict=True))


def class_count(state: StateDict, module: nn.Module) -> int | None:
    """Return the class count of `state` where its classifier differs from `module`'s.

    The classifier is the last tensor of the network. None where the state dict has no
    tensor of that name, or it differs in more than its first axis.
    """
    last, expected = list(module.state_dict().items())[-1]
    found = state.get(last)
    if found is None or found.ndim == 0 or found.shape[1:] != expected.shape[1:]:
        return None
    return None if found.shape == expected.shape else int(found.shape[0])


def load_state_dict(module: nn.Module, state: StateDict, where: str) -> None:
    """Load `state` into `module`; every tensor must be there and fit.

    Missing batch-norm counters (files older than PyTorch 0.4.1) are filled in.

    Raises
    ------
    WeightsError
        If tensors are missing, unexpected or mis-shaped; the first few are named.
    """
    own = module.state_dict()
    counters = {k: v for k, v in own.items() if k.endswith(_COUNTER)}
    state = {**counters, **state}
    problems = [
        *_problem("missing", [k for k in own if k not in state]),
        *_problem("unexpected", [k for k in state if k not in own]),
        *_problem(
            "mis-shaped",
            [
                f"{k} {tuple(state[k].shape)} instead of {tuple(own[k].shape)}"
                for k in own
                if k in state and state[k].shape != own[k].shape
            ],
        ),
    ]
    if problems:
        raise WeightsError(f"{where}: of another architecture: {'; '.join(problems)}")
    # Without the versions that the network itself writes, some modules (MNASNet)
    # take a bare dict for a file of an old release and rebuild themselves.
    versioned = type(own)((k, state[k]) for k in own)
    versioned._metadata = own._metadata  # type: ignore[attr-defined]
    module.load_state_dict(versioned)


def _problem(kind: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = ", …" if len(names) > _N_NAMED else ""
    return [f"{len(names)} {kind} ({', '.join(names[:_N_NAMED])}{more})"]
