"""State dicts joined with a network: prefixes, classifiers, what is left out.

Training scripts keep a network's tensors under a prefix and beside those of other
parts. Tensors are known by their names; each that the network has must be there and
fit, but for the classifier's, and for those that the user says may be missing.
"""

import fnmatch
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from cnnfeat.errors import WeightsError
from cnnfeat.networks._weights import N_NAMED, StateDict, StoredWeights

_COUNTER = ".num_batches_tracked"
# What wrappers and training scripts put before names, also one after the other.
_PREFIXES = re.compile(r"(?:module\.|backbone\.|encoder\.|_orig_mod\.)*")


@dataclass(frozen=True)
class Stripped:
    """Tensors without the prefix that the file puts before a network's names.

    `others` are the names in the file that have another beginning.
    """

    state: StateDict
    prefix: str = ""
    others: tuple[str, ...] = ()


def strip_prefix(state: StateDict, own: Mapping[str, Any], where: str) -> Stripped:
    """Return the tensors under the prefix that makes most names the network's own.

    Parameters
    ----------
    state : dict of str to tensor
        As in the file.
    own : mapping with the names of the network
    where : str
        For messages.

    Raises
    ------
    WeightsError
        If names of the network stand under several prefixes.
    """
    known = Counter(
        prefix
        for name in state
        for prefix in _prefixes_of(name)
        if name.removeprefix(prefix) in own
    )
    if not known:  # names of another kind: what all begin with
        shared = set.intersection(*(set(_prefixes_of(name)) for name in state))
        known = Counter([max(shared, key=len)])
    prefix = min(known, key=lambda one: (-known[one], len(one)))
    under = {
        k.removeprefix(prefix): t for k, t in state.items() if k.startswith(prefix)
    }
    mixed = Counter(
        other
        for name in state
        if not (name.startswith(prefix) and name.removeprefix(prefix) in own)
        for other in _prefixes_of(name)
        if name.removeprefix(other) in own
    )
    if mixed:
        ((other, n_other),) = mixed.most_common(1)
        raise WeightsError(
            f"{where}: a mixture of prefixes: {known[prefix]} names of the network "
            f"stand {_under(prefix)} and {n_other} {_under(other)}; save the tensors "
            "of one network alone"
        )
    others = tuple(name for name in state if not name.startswith(prefix))
    return Stripped(under, prefix, others)


def _prefixes_of(name: str) -> list[str]:
    """Return every prefix, the empty one too, that a name may be read with."""
    match = _PREFIXES.match(name)
    found = match[0] if match else ""
    ends = [at for at, letter in enumerate(found, start=1) if letter == "."]
    return ["", *(found[:end] for end in ends)]


def _under(prefix: str) -> str:
    return f"under {prefix!r}" if prefix else "under none"


def classifier_names(module: nn.Module) -> tuple[str, ...]:
    """Return the dotted names of the layers that give class scores.

    timm says which; elsewhere it is the module of the last tensor.
    """
    told = (getattr(module, "pretrained_cfg", None) or {}).get("classifier")
    if told:
        return (told,) if isinstance(told, str) else tuple(told)
    names = list(module.state_dict())
    return (names[-1].rpartition(".")[0] if names else "",)


def classifier_width(module: nn.Module) -> int:
    """Return how many class scores a network gives, 0 where it does not end in them."""
    layer = dict(module.named_modules()).get(classifier_names(module)[0])
    return layer.out_features if isinstance(layer, nn.Linear) else 0


def class_count(state: StateDict, module: nn.Module) -> int | None:
    """Return the class count of `state` where its classifier differs from `module`'s.

    None where the state dict has no tensor of that name, or it differs in more than
    its first axis.
    """
    own = module.state_dict()
    for name in classifier_names(module):
        key = f"{name}.weight"
        expected, found = own.get(key), state.get(key)
        if expected is None or found is None or found.ndim == 0:
            continue
        if found.shape[1:] == expected.shape[1:] and found.shape != expected.shape:
            return int(found.shape[0])
    return None


@dataclass(frozen=True)
class Fit:
    """What of a weights file a network has taken.

    Attributes
    ----------
    n_matched : int
        Tensors that are in both.
    missing : tuple of str
        The network's, not in the file: they stay as they were drawn.
    left_out : tuple of str
        The file's, not in the network.
    has_classifier : bool
        The class scores come from the file.
    """

    n_matched: int
    missing: tuple[str, ...]
    left_out: tuple[str, ...]
    has_classifier: bool


def load_state_dict(
    module: nn.Module,
    state: StateDict,
    where: str,
    allow_missing: Sequence[str] = (),
) -> Fit:
    """Load `state` into `module`; every tensor must be there and fit.

    Missing batch-norm counters (files older than PyTorch 0.4.1) are filled in. A
    classifier may be missing whole, and one that the network does not have is left
    out, as is what `allow_missing` names.

    Parameters
    ----------
    module : torch.nn.Module
    state : dict of str to tensor
    where : str
        For messages.
    allow_missing : sequence of str, default=()
        Globs of names (`*` is anything) that may be in one of both alone, or not fit.

    Raises
    ------
    WeightsError
        If tensors are missing, unexpected or mis-shaped; the first few are named.
    """
    own = module.state_dict()
    counters = {k: v for k, v in own.items() if k.endswith(_COUNTER)}
    n_counters = sum(key not in state for key in counters)
    state = {**counters, **state}
    misfits = [k for k in own if k in state and state[k].shape != own[k].shape]
    missing = [k for k in own if k not in state]
    extra = [k for k in state if k not in own]
    free = _may_differ(own, state, classifier_names(module), allow_missing)
    problems = [
        *_problem("missing", [k for k in missing if k not in free]),
        *_problem("unexpected", [k for k in extra if k not in free]),
        *_problem(
            "mis-shaped",
            [
                f"{k} {tuple(state[k].shape)} instead of {tuple(own[k].shape)}"
                for k in misfits
                if k not in free
            ],
        ),
    ]
    taken = [k for k in own if k in state and k not in misfits]
    if problems or not taken:
        raise WeightsError(
            f"{where}: of another architecture: {'; '.join(problems) or 'no name fits'}"
            + ("; `allow_missing=GLOB` lets names differ" if taken else "")
        )
    # Without the versions that the network itself writes, some modules (MNASNet)
    # take a bare dict for a file of an old release and rebuild themselves.
    versioned = type(own)((k, state[k] if k in taken else own[k]) for k in own)
    versioned._metadata = own._metadata  # type: ignore[attr-defined]
    module.load_state_dict(versioned)
    absent = (*missing, *misfits)
    return Fit(
        n_matched=len(taken) - n_counters,
        missing=absent,
        left_out=(*extra, *misfits),
        has_classifier=not any(_is_of(key, classifier_names(module)) for key in absent),
    )


def _may_differ(
    own: StateDict,
    state: StateDict,
    classifiers: tuple[str, ...],
    allow_missing: Sequence[str],
) -> set[str]:
    """Return the names that need not be in both: a classifier goes whole."""
    globs = [re.compile(fnmatch.translate(glob)) for glob in allow_missing]
    names = {*own, *state}
    free = {name for name in names if any(glob.match(name) for glob in globs)}
    for classifier in classifiers:
        ours = {name for name in own if _is_of(name, (classifier,))}
        if not ours & state.keys():
            free |= {name for name in names if _is_of(name, (classifier,))}
    return free


def _is_of(name: str, modules: Sequence[str]) -> bool:
    return any(name.startswith(f"{module}.") for module in modules)


def told_of_fit(fit: Fit, stripped: Stripped, stored: StoredWeights) -> str:
    """Return one line on what was found where, stripped, matched and left out."""
    n_all = fit.n_matched + len(fit.missing)
    parts = [f"{'/'.join(stored.keys)} of the file"] if stored.keys else []
    parts += [f"not its {', '.join(stored.others)}"] if stored.others else []
    parts += [f"prefix {stripped.prefix} stripped"] if stripped.prefix else []
    parts.append(f"{fit.n_matched} of {n_all} tensors matched")
    left_out = [*fit.left_out, *stripped.others]
    parts += [f"left out {text}" for text in _problem("of the file", left_out)]
    absent = _problem("of the network", list(fit.missing))
    parts += [f"not in the file {text}, which stay random" for text in absent]
    return "; ".join(parts)


def _problem(kind: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = ", …" if len(names) > N_NAMED else ""
    return [f"{len(names)} {kind} ({', '.join(names[:N_NAMED])}{more})"]


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
