"""Blocks and stages by number, named alike in every network: `block.11`, `stage.-1`.

Libraries call them `blocks.11`, `encoder.layers.encoder_layer_11`, `features.5.2` or
`layer3.1`. Here a block is the module that a network repeats: a member of a list of
modules that is itself made of several. Blocks of one list are a stage, if there are
several such lists.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from torch import nn

from cnnfeat.errors import LayerError
from cnnfeat.layers._tokens import tokens_of
from cnnfeat.layers._tracing import ModuleCall, trace_of
from cnnfeat.networks import Network

_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_NUMBERED = re.compile(r"(block|stage)\.(?:\*|(-?\d+)(?:\.\.(-?\d+))?)")
_NORMS = ("LayerNorm", "RMSNorm", "RmsNorm")


@dataclass(frozen=True)
class Blocks:
    """Dotted names of a network's blocks and stages, in the order they run."""

    blocks: tuple[str, ...]
    stages: tuple[str, ...]

    def places(self) -> dict[str, str]:
        """Return what each of the modules is called: `block.N` or `stage.N`."""
        return {
            name: f"{word}.{number}"
            for word, names in (("block", self.blocks), ("stage", self.stages))
            for number, name in enumerate(names)
        }


# By network, for as long as it lives.
_found: "WeakKeyDictionary[Network, Blocks]" = WeakKeyDictionary()


def blocks_of(network: Network) -> Blocks:
    """Return the network's blocks and stages; none where it repeats nothing.

    Stages are there only where several lists hold the blocks: a plain transformer has
    blocks alone. Blocks that hand on no patches (CaiT's two of class attention) do not
    count.
    """
    if network not in _found:
        _found[network] = _find(network)
    return _found[network]


def is_numbered(name: str) -> bool:
    """Tell whether a name is `block.N`, `stage.N`, a range of these, or all."""
    return _NUMBERED.fullmatch(name) is not None


def numbered_modules(network: Network, name: str) -> dict[str, str]:
    """Return the modules that `block.N`, `block.FROM..TO` or `block.*` stand for.

    Numbers count from 0, negative ones from the end; a range has both of its ends.
    `stage` likewise.

    Returns
    -------
    dict of str to str
        Module by name; the names of a range count from 0.

    Raises
    ------
    LayerError
        If the network has no such block or stage.
    """
    match = _NUMBERED.fullmatch(name)
    assert match is not None
    found = blocks_of(network)
    word, first, last = match[1], match[2] or "0", match[3]
    names = found.blocks if word == "block" else found.stages
    if match[2] and last is None:
        return {name: names[_index(network, name, word, int(first))]}
    ends = (int(first), int(last or -1))
    start, stop = (_index(network, name, word, end) for end in ends)
    if stop < start:
        raise LayerError(
            f"layer {name!r}: {word}.{stop} comes before {word}.{start}; write the "
            "first one first"
        )
    return {f"{word}.{k}": names[k] for k in range(start, stop + 1)}


def _index(network: Network, name: str, word: str, number: int) -> int:
    found = blocks_of(network)
    names = found.blocks if word == "block" else found.stages
    if -len(names) <= number < len(names):
        return number % len(names)
    has = [
        f"{kind}s 0 to {len(members) - 1}"
        for kind, members in (("block", found.blocks), ("stage", found.stages))
        if members
    ]
    raise LayerError(
        f"layer {name!r}: {network.name!r} has "
        f"{' and '.join(has) or 'no blocks that are named so'}; "
        f"cnnfeat layers {network.name} --all lists its modules"
    )


def final_norm(network: Network) -> ModuleCall | None:
    """Return the norm that a transformer puts after its last block, None without.

    It works on one token at a time, so it can be put after any block of that width.
    """
    calls, blocks = trace_of(network).calls, blocks_of(network).blocks
    last = max((at for at, call in enumerate(calls) if call.name in blocks), default=-1)
    for call in calls[last + 1 :] if blocks else ():
        output = call.outputs.get("")
        if call.kind in _NORMS and output is not None:
            is_map = len(output.shape) == 4 and output.channels_last
            return call if len(output.shape) == 3 or is_map else None
    return None


def _find(network: Network) -> Blocks:
    order = {call.name: at for at, call in enumerate(trace_of(network).calls)}
    groups: dict[str, list[str]] = {}
    for name in _members(network.module, ""):
        if name in order and _keeps_patches(network, name):
            groups.setdefault(name.rpartition(".")[0], []).append(name)
    # What stands between two lists of blocks (Swin's merging) is no block.
    groups = {
        holder: names
        for holder, names in groups.items()
        if not any(other.startswith(f"{holder}.") for other in groups)
    }
    blocks = [name for names in groups.values() for name in names]
    is_regular = len({holder.count(".") for holder in groups}) == 1
    if not is_regular or not _any_is_deep(network.module, blocks):
        return Blocks((), ())
    stages = []
    if len(groups) > 1:
        found = (_outermost(holder, len(groups[holder]), blocks) for holder in groups)
        stages = [name for name in found if name in order]
    return Blocks(
        tuple(sorted(blocks, key=order.__getitem__)),
        tuple(sorted(stages, key=order.__getitem__)),
    )


def _members(module: nn.Module, prefix: str) -> Iterator[str]:
    """Yield the dotted names of what is repeated inside a module."""
    is_list = isinstance(module, _LISTS) or (bool(prefix) and _is_like_a_list(module))
    for name, child in module.named_children():
        if is_list and _is_made_of_several(child) and not _holds_blocks(child):
            yield f"{prefix}{name}"
        else:
            yield from _members(child, f"{prefix}{name}.")


def _is_like_a_list(module: nn.Module) -> bool:
    """Tell whether a module has nothing but blocks of one class (RegNet's stages)."""
    kinds = {type(child) for child in module.children()}
    return len(kinds) == 1 and all(map(_is_made_of_several, module.children()))


def _holds_blocks(module: nn.Module) -> bool:
    """Tell a stage, which holds blocks in a list of its own, from a block."""
    if _is_like_a_list(module):
        return True
    for child in module.children():
        members = list(child.children())
        n_blocks = sum(map(_is_made_of_several, members))
        is_list = isinstance(child, nn.Sequential | nn.ModuleList)
        if is_list and 2 * n_blocks > len(members):
            return True
    return False


def _is_made_of_several(module: nn.Module) -> bool:
    holding = (any(True for _ in m.parameters(recurse=False)) for m in module.modules())
    return not isinstance(module, _LISTS) and sum(holding) > 1


def _any_is_deep(module: nn.Module, blocks: list[str]) -> bool:
    """Tell whether a block has two products: a convolution with its norm has one."""
    return any(
        sum(p.ndim > 1 for p in module.get_submodule(name).parameters()) > 1
        for name in blocks
    )


def _outermost(holder: str, n_blocks: int, blocks: list[str]) -> str:
    """Return the outermost module that holds these blocks and no others."""
    while parent := holder.rpartition(".")[0]:
        if sum(name.startswith(f"{parent}.") for name in blocks) > n_blocks:
            break
        holder = parent
    return holder


def _keeps_patches(network: Network, name: str) -> bool:
    call = trace_of(network).find(name)
    output = next(iter(call.outputs.values()), None) if call else None
    if output is None:
        return False
    is_one_token = len(output.shape) == 3 and output.shape[1] == 1
    return not is_one_token or tokens_of(network, output.shape[1:]) is not None
