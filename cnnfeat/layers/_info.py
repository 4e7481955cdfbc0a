"""What the layer lists say of each module, and which rows of it they show.

No torch here: lists of known networks come from a table.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cnnfeat.layers._globs import compile_glob, is_glob

ROOT = "(network)"
VIEW_KINDS = ("Flatten", "Identity", "Dropout", "Dropout2d", "Unflatten", "Permute")
_FEW = 10  # rows: with fewer, what holds most of the network is opened


@dataclass(frozen=True)
class LayerInfo:
    """One row of the layer table.

    Attributes
    ----------
    name : str
        Layer name, `NAME#k` for modules that are called more than once.
    alias : str or None
        The paper's name, where there is one.
    kind : str
        Class of the module.
    shape : tuple of int
        Of one image's first output.
    parameters : int
        Own parameters, counted at the first call.
    macs : int
        Multiply-accumulates of convolutions and matrix products for one image.
    receptive_field, stride : int or None
        In pixels of the cropped image; None where each element sees all of it.
    stage : int or None
        The network's own stage that the layer is part of, counted from the end: the
        least N for which `finetune --train last:N` reaches it. None where no stage
        holds it (an activation between two stages).
    is_leaf : bool
        No other module runs inside.
    is_default : bool
        It is the layer before the classifier, which is taken where none is named.
    place : str or None
        `block.N` or `stage.N`, where it is one of these.
    grid : tuple of int or None
        Rows and columns of patches, where the shape is of a transformer's tokens.
    n_prefix_tokens : int or None
        Tokens before the patches, likewise.
    """

    name: str
    alias: str | None
    kind: str
    shape: tuple[int, ...]
    parameters: int
    macs: int
    receptive_field: int | None
    stride: int | None
    stage: int | None
    is_leaf: bool = True
    is_default: bool = False
    place: str | None = None
    grid: tuple[int, int] | None = None
    n_prefix_tokens: int | None = None

    @property
    def module(self) -> str:
        """The name without the number of the call."""
        return self.name.partition("#")[0]

    @property
    def computes(self) -> bool:
        """Whether it is a leaf, or has parameters or products of its own."""
        return self.is_leaf or bool(self.parameters or self.macs)


def computing_layers(rows: Sequence[LayerInfo]) -> list[LayerInfo]:
    """Return the modules that compute; their parameters sum to the network's."""
    return [row for row in rows if row.computes]


def matching_layers(rows: Sequence[LayerInfo], pattern: str) -> list[LayerInfo]:
    """Return the modules whose name or alias fits, blocks with all that is in them.

    Parameters
    ----------
    rows : sequence of LayerInfo
        Of a whole network, in the order they end.
    pattern : str
        A glob, or a part of the name.
    """
    glob = compile_glob(pattern) if is_glob(pattern) else None

    def fits(name: str | None) -> bool:
        if not name:
            return False
        return bool(glob.fullmatch(name)) if glob else pattern in name

    return [
        _with_inside(row, rows)
        for row in rows
        if row.name != ROOT and any(map(fits, (row.name, row.alias, row.place)))
    ]


def _with_inside(row: LayerInfo, rows: Sequence[LayerInfo]) -> LayerInfo:
    if row.is_leaf:
        return row
    inside = [one for one in rows if one.module.startswith(f"{row.module}.")]
    return replace(
        row,
        parameters=row.parameters + sum(one.parameters for one in inside),
        macs=row.macs + sum(one.macs for one in inside),
    )


def main_layers(rows: Sequence[LayerInfo]) -> list[LayerInfo]:
    """Return blocks, stages, pools and classifier: what is mostly tapped.

    They are the network's children. Where those are few, a child that holds more than
    half of the network stands for its own children; so does one that holds the default
    layer or what a paper has a name for. A row counts the parameters and
    multiply-accumulates since the row above, so that they sum to the network's.
    """
    children = _children(rows)
    shown = list(children[""])
    while (opened := _to_open(shown, children, rows)) is not None:
        at = shown.index(opened)
        shown[at : at + 1] = children[opened.module]
    has_aliases = any(row.alias for row in rows)
    kept = {row.name for row in shown if _is_worth_a_row(row, has_aliases)}
    return _absorbed(rows, kept)


def _children(rows: Sequence[LayerInfo]) -> dict[str, list[LayerInfo]]:
    """Return the rows by the module around them; the empty name is the network's."""
    modules = {row.module for row in rows}
    found: dict[str, list[LayerInfo]] = {"": []}
    for row in rows:
        parent = row.module.rpartition(".")[0]
        while parent and parent not in modules:  # a list of modules is never called
            parent = parent.rpartition(".")[0]
        if row.name != ROOT:
            found.setdefault(parent, []).append(row)
    return found


def _to_open(
    shown: Sequence[LayerInfo],
    children: dict[str, list[LayerInfo]],
    rows: Sequence[LayerInfo],
) -> LayerInfo | None:
    leaves = [row.module for row in rows if row.is_leaf]
    named = [row.module for row in rows if row.is_default or row.alias]
    for row in shown:
        if row.module not in children or row.is_default:
            continue
        inside = f"{row.module}."
        n_inside = sum(name.startswith(inside) for name in leaves)
        is_most = len(shown) < _FEW and 2 * n_inside > len(leaves)
        if is_most or any(name.startswith(inside) for name in named):
            return row
    return None


def _is_worth_a_row(row: LayerInfo, has_aliases: bool) -> bool:
    if row.is_default or not row.is_leaf:
        return True
    if has_aliases and "Pool" not in row.kind:
        return row.alias is not None and "_" not in row.alias
    return row.kind not in VIEW_KINDS


def _absorbed(rows: Sequence[LayerInfo], kept: set[str]) -> list[LayerInfo]:
    """Return the rows kept, each with what has run since the one before."""
    found: list[LayerInfo] = []
    parameters = macs = 0
    stage = None
    for row in rows:
        parameters, macs = parameters + row.parameters, macs + row.macs
        stage = row.stage if row.parameters else stage
        if row.name in kept:
            row = replace(row, stage=row.stage or stage)
            found.append(replace(row, parameters=parameters, macs=macs))
            parameters, macs, stage = 0, 0, None
    if found:
        last = found[-1]
        found[-1] = replace(
            last, parameters=last.parameters + parameters, macs=last.macs + macs
        )
    return found
