"""Layer names: dotted modules, globs, `all`, numbered blocks, and the papers' names.

A name is `MODULE`, then `#k` for the k-th of several calls, `[element]` for one of
several outputs, and `:in` for the module's first input. A bare name is the last call's
only output. `:pre` after a paper's name is the activation before its non-linearity, and
after the final norm of a transformer that before the norm; `:norm` is an activation
taken through that norm.
"""

import difflib
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from cnnfeat.errors import CnnfeatWarning, LayerError
from cnnfeat.layers._blocks import final_norm, is_numbered, numbered_modules
from cnnfeat.layers._classifier import default_layer
from cnnfeat.layers._globs import compile_glob, is_glob
from cnnfeat.layers._info import ROOT
from cnnfeat.layers._tokens import Tokens, tokens_of
from cnnfeat.layers._tracing import ModuleCall, TracedTensor, trace_of
from cnnfeat.networks import Network

_NAME = re.compile(
    r"(?P<module>.+?)(?:#(?P<call>\d+))?(?:\[(?P<element>[^\]]+)\])?"
    r"(?::(?P<side>in|pre|norm))?"
)


@dataclass(frozen=True)
class Tap:
    """One activation to keep.

    Attributes
    ----------
    name : str
        As asked for; what globs and `all` expand to is spelled out.
    module : str
        Dotted module name.
    call : int or None
        Which call of the module, from 1; None for the last.
    element : str or None
        Index or key where the module returns several tensors.
    side : str
        `out` for the module's output, `in` for its first input.
    norm : str or None
        The module (a final norm) that the activation is taken through.
    before_nonlinearity : bool
        A non-linearity reads this activation directly.
    shape : tuple of int
        Of one image's activation.
    channels_last : bool
        The axes are (h, w, c) instead of (c, h, w).
    overwritten : bool
        The network writes over the tensor later in the pass, so it has to be copied.
    tokens : Tokens or None
        Which of the axis of tokens (t, c) are patches; None where there is no such
        axis, or nothing is known about it.
    """

    name: str
    module: str
    call: int | None = None
    element: str | None = None
    side: str = "out"
    before_nonlinearity: bool = False
    shape: tuple[int, ...] = ()
    channels_last: bool = False
    overwritten: bool = False
    tokens: Tokens | None = None
    norm: str | None = None

    @property
    def address(self) -> str:
        """The one spelling of what is tapped: `MODULE[#call][[element]][:in|:norm]`."""
        call = f"#{self.call}" if self.call else ""
        element = f"[{self.element}]" if self.element else ""
        side = ":norm" if self.norm else ":in" if self.side == "in" else ""
        return f"{self.module}{call}{element}{side}"


def resolve_layers(network: Network, names: Sequence[str] = ()) -> list[Tap]:
    """Return the taps that the layer names stand for, in the order asked.

    Parameters
    ----------
    network : Network
        Traced once on first use.
    names : sequence of str, default=()
        Names, globs (network order within one; `*` stays within one level of dots, `**`
        crosses levels), `all` for every leaf module, or blocks and stages by number:
        `block.11`, `block.-1`, `block.-4..-1`, `stage.2`, `block.*`. None at all means
        the layer before the classifier. A name that comes twice is kept once.

    Raises
    ------
    LayerError
        If a name matches no layer, or names something that cannot be tapped.
    """
    taps: dict[str, Tap] = {}
    for name in names or [default_layer(network)]:
        for tap in _resolve(network, name):
            taps.setdefault(tap.name, tap)
    return list(taps.values())


def paper_names(network: Network) -> dict[str, str]:
    """Return the papers' names of AlexNet's and VGG's layers, mapped to modules.

    A name stands for the layer after its non-linearity: Krizhevsky et al. 2012,
    section 3.5; Simonyan & Zisserman 2014, table 1. `convB` of a VGG is the last
    convolution of block B, `convB_i` each one. Other networks have none.
    """
    module = network.module
    kind = type(module).__name__
    if kind not in ("AlexNet", "VGG") or "torchvision" not in type(module).__module__:
        return {}
    features = module.get_submodule("features")
    return {
        **_convolution_names(features, by_block=kind == "VGG"),
        **_fully_connected_names(module.get_submodule("classifier")),
    }


def _convolution_names(features: nn.Module, by_block: bool) -> dict[str, str]:
    names: dict[str, str] = {}
    block, within = (1, 0) if by_block else (0, 0)
    for index, module in features.named_children():
        if isinstance(module, nn.Conv2d):
            block, within = (block, within + 1) if by_block else (block + 1, 0)
        elif isinstance(module, nn.ReLU):
            names[f"conv{block}"] = f"features.{index}"
            if by_block:
                names[f"conv{block}_{within}"] = f"features.{index}"
        elif isinstance(module, nn.MaxPool2d):
            names[f"pool{block}"] = f"features.{index}"
            block, within = (block + 1, 0) if by_block else (block, 0)
    return names


def _fully_connected_names(classifier: nn.Module) -> dict[str, str]:
    children = list(classifier.named_children())
    linear = [i for i, (_, m) in enumerate(children) if isinstance(m, nn.Linear)]
    names = {}
    for number, position in enumerate(linear, start=6):
        later = children[position + 1 : position + 2]
        if later and isinstance(later[0][1], nn.ReLU):
            position += 1
        names[f"fc{number}"] = f"classifier.{children[position][0]}"
    return names


def _resolve(network: Network, name: str) -> list[Tap]:
    if name == "all":
        calls = [c for c in trace_of(network).calls if c.is_leaf]
        return [tap for call in calls for tap in _taps_of(network, call, "", True)]
    aliases = paper_names(network)
    match = _NAME.fullmatch(name)
    if match is None:
        raise _unknown(network, name)
    stem, side = match["module"], match["side"] or ""
    if stem in aliases and not match["call"] and not match["element"]:
        return [_paper_tap(network, name, aliases[stem], side)]
    if is_numbered(stem) and not _is_dotted(network, stem):
        return _numbered_taps(network, name, match)
    if side == "pre":
        return [_before_the_norm(network, name, match)]
    if is_glob(stem):
        return _resolve_glob(network, name, side)
    return [_named_tap(network, name, match)]


def _is_dotted(network: Network, stem: str) -> bool:
    """Tell whether modules are called so: their names come before numbers of blocks."""
    return any(map(compile_glob(stem).fullmatch, trace_of(network).n_calls))


def _numbered_taps(network: Network, name: str, match: re.Match[str]) -> list[Tap]:
    suffix = name[len(match["module"]) :]
    taps = []
    for label, module in numbered_modules(network, match["module"]).items():
        if match["side"] == "pre":
            raise LayerError(
                f"layer {name!r}: ':pre' goes with the final norm; {label} is the "
                f"block's output, before that norm, and {label}:norm after it"
            )
        fields = _NAME.fullmatch(f"{module}{suffix}")
        assert fields is not None  # as the name itself
        taps.append(
            replace(
                _named_tap(network, f"{module}{suffix}", fields), name=label + suffix
            )
        )
    return taps


def _before_the_norm(network: Network, name: str, match: re.Match[str]) -> Tap:
    """Return what the final norm reads."""
    call = final_norm(network)
    if call is not None and call.name == match["module"] and call.input is not None:
        tap = Tap(name, call.name, side="in")
        return _complete(network, tap, call.input)
    norm = call.name if call else "the final norm of a transformer"
    raise LayerError(
        f"layer {name!r}: ':pre' goes with a paper's name (conv1, fc6, …) of AlexNet "
        f"or VGG, or with {norm}; use MODULE:in for what a module of {network.name!r} "
        "reads"
    )


def _resolve_glob(network: Network, name: str, side: str) -> list[Tap]:
    pattern = name.removesuffix(":in")
    found = _matching(network, compile_glob(pattern), side, "#" in pattern)
    if not found and "**" not in pattern:
        # What `*` stood for until it stayed within one level.
        wider = compile_glob(pattern.replace("*", "**"))
        found = _matching(network, wider, side, "#" in pattern)
        if found:
            warnings.warn(
                f"layer {name!r}: * stays within one level of dots, where nothing "
                f"matches; {len(found)} layers match {pattern.replace('*', '**')!r}, "
                "which is taken: write it so",
                CnnfeatWarning,
                stacklevel=3,
            )
    if not found:
        raise _unknown(network, name)
    return found


def _matching(
    network: Network, glob: re.Pattern[str], side: str, numbered: bool
) -> list[Tap]:
    found = []
    for call in trace_of(network).calls:
        n_calls = trace_of(network).n_calls[call.name]
        label = f"{call.name}#{call.call}" if numbered else call.name
        if (numbered and n_calls == 1) or (not numbered and call.call != n_calls):
            continue
        if glob.fullmatch(label) and call.name != ROOT:
            found += _taps_of(network, call, side, numbered)
    return found


def _taps_of(
    network: Network, call: ModuleCall, side: str, numbered: bool
) -> list[Tap]:
    """Return a tap for each tensor of the call that has a row for each image."""
    several_calls = numbered and trace_of(network).n_calls[call.name] > 1
    stem = f"{call.name}#{call.call}" if several_calls else call.name
    number = call.call if several_calls else None
    if side == "in":
        tensors = {"": call.input} if call.input is not None else {}
    else:
        tensors = dict(call.outputs)
    single = len(tensors) == 1
    taps = []
    for element, tensor in tensors.items():
        if tensor.shape[:1] != (1,):
            continue
        label = stem if single else f"{stem}[{element}]"
        tap = Tap(label, call.name, number, element or None, side or "out")
        taps.append(_complete(network, tap, tensor, suffix=":in" if side else ""))
    return taps


def _complete(
    network: Network, tap: Tap, tensor: TracedTensor, suffix: str = ""
) -> Tap:
    return replace(
        tap,
        name=tap.name + suffix,
        before_nonlinearity=tensor.before_nonlinearity,
        shape=tensor.shape[1:],
        channels_last=tensor.channels_last,
        overwritten=tensor.overwritten,
        tokens=tokens_of(network, tensor.shape[1:]),
    )


def _paper_tap(network: Network, name: str, module: str, side: str) -> Tap:
    call = trace_of(network).find(module)
    if call is None or call.input is None:
        raise _unknown(network, name)
    if side == "pre" and not isinstance(call.module, nn.ReLU):
        raise LayerError(
            f"layer {name!r}: no non-linearity follows {name.removesuffix(':pre')}; "
            "ask for it without ':pre'"
        )
    if side:
        return _complete(network, Tap(name, module, side="in"), call.input)
    return _complete(network, Tap(name, module), next(iter(call.outputs.values())))


def _named_tap(network: Network, name: str, match: re.Match[str]) -> Tap:
    stem, side = match["module"], match["side"] or "out"
    number = int(match["call"]) if match["call"] else None
    if side == "norm":
        return _normed_tap(network, name, match)
    call = trace_of(network).find(stem, number)
    if call is None:
        raise _unknown(network, name, stem)
    element = match["element"]
    if side == "in":
        if call.input is None or element is not None:
            raise LayerError(f"layer {name!r}: only the first tensor input has a name")
        tensor = call.input
    else:
        element, tensor = _choose_output(name, call, element)
    if tensor.shape[:1] != (1,):
        raise LayerError(
            f"layer {name!r}: its first axis is not the images' (shape {tensor.shape} "
            "for one image), so it has no row for each; tap the module around it"
        )
    return _complete(network, Tap(name, stem, number, element, side), tensor)


def _normed_tap(network: Network, name: str, match: re.Match[str]) -> Tap:
    """Return a tap whose activation goes through the final norm."""
    bare = name.removesuffix(":norm")
    fields = _NAME.fullmatch(bare)
    assert fields is not None  # as the name itself
    tap, call = _named_tap(network, bare, fields), final_norm(network)
    width = tap.shape[-1] if len(tap.shape) == 2 or tap.channels_last else None
    if call is None or call.outputs[""].shape[-1] != width:
        found = "has no norm after its last block"
        if call is not None:
            found = f"has a final norm of width {call.outputs[''].shape[-1]}"
        raise LayerError(
            f"layer {name!r}: ':norm' takes tokens through the final norm, but "
            f"{network.name!r} {found}, and {bare} has the shape {tap.shape}; leave "
            "':norm' out"
        )
    return replace(tap, name=name, norm=call.name, before_nonlinearity=False)


def _choose_output(
    name: str, call: ModuleCall, element: str | None
) -> tuple[str | None, TracedTensor]:
    """Return the element asked for, or the only one."""
    if element is not None and element in call.outputs:
        return element, call.outputs[element]
    if element is None and len(call.outputs) == 1:
        only, tensor = next(iter(call.outputs.items()))
        return only or None, tensor
    stem = name.partition("[")[0]
    choices = ", ".join(f"{stem}[{key}]" for key in call.outputs if key)
    found = f"ask for one of {choices}" if choices else "it returns one bare tensor"
    raise LayerError(
        f"layer {name!r}: {call.kind} returns {len(call.outputs)} tensor(s); {found}"
    )


def _unknown(network: Network, name: str, stem: str | None = None) -> LayerError:
    """Return the error for a name that the run never met, with the nearest names."""
    trace = trace_of(network)
    cure = f"cnnfeat layers {network.name} --all lists them"
    if stem is not None and stem in trace.n_calls:
        count = trace.n_calls[stem]
        return LayerError(
            f"layer {name!r}: {stem} is called {count} time(s); the bare name is the "
            f"last call; {cure}"
        )
    if stem is not None and stem in dict(network.module.named_modules()):
        return LayerError(
            f"layer {name!r}: {network.name!r} has this module but never calls it, its "
            f"parent computes with its parameters; {cure}"
        )
    known = [*paper_names(network), *trace.n_calls]
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"nearest: {', '.join(near)}; " if near else ""
    return LayerError(f"unknown layer {name!r} of {network.name!r}; {hint}{cure}")
