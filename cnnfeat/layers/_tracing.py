"""One dry run of a network: which modules it calls, in order, on which tensors.

The run uses one seeded image at the network's crop size and changes nothing. Every
tensor is known by a *value*: its storage and how often that storage had been written
in place. Two modules that share a value hand on the same numbers; a value whose
storage is written again later has to be copied by whoever wants to keep it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry

from cnnfeat.layers._info import ROOT as ROOT
from cnnfeat.layers._receptive import Grid, propagate
from cnnfeat.networks import Network

Value = tuple[int, int]  # (storage, times it had been written in place)

_NONLINEAR = (
    *("relu", "relu6", "gelu", "silu", "mish", "elu", "celu", "leaky_relu"),
    *("hardswish", "hardtanh", "hardsigmoid", "sigmoid", "tanh", "clamp_min"),
    *("_prelu_kernel", "softplus", "threshold"),
)
_NONLINEAR_OPS = frozenset(_NONLINEAR).union(f"{name}_" for name in _NONLINEAR)


@dataclass
class TracedTensor:
    """A tensor that a module took or returned.

    Attributes
    ----------
    shape : tuple of int
        With the batch axis, which is 1.
    value : tuple of int
        Its storage, and how often that had been written in place.
    overwritten : bool
        A later module, or a later line of the same one, writes over it.
    before_nonlinearity : bool
        A non-linearity reads it directly.
    channels_last : bool
        Its axes are (n, h, w, c).
    grid : Grid or None
        Receptive field and stride; None where every element sees the whole image.
    """

    shape: tuple[int, ...]
    value: Value
    overwritten: bool = False
    before_nonlinearity: bool = False
    channels_last: bool = False
    grid: Grid | None = None
    layout: tuple[Any, ...] = ()


@dataclass
class ModuleCall:
    """One call of one module; `call` counts its calls from 1.

    `is_leaf` says that no other module ran inside; `macs` and `n_parameters` are its
    own, without those of the modules inside. `outputs` maps element names to tensors:
    the empty name for a bare tensor, indices and keys for tuples and dicts.
    """

    name: str
    kind: str
    call: int
    module: nn.Module = field(repr=False)
    parent: "ModuleCall | None" = field(repr=False, default=None)
    is_leaf: bool = True
    macs: int = 0
    n_parameters: int = 0
    input: TracedTensor | None = None
    outputs: dict[str, TracedTensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Trace:
    """All module calls in the order in which they end, and the network's output."""

    calls: tuple[ModuleCall, ...]
    n_calls: Mapping[str, int]
    root: ModuleCall

    def find(self, name: str, call: int | None = None) -> ModuleCall | None:
        """Return the `call`-th call of module `name` (the last by default), or None."""
        number = self.n_calls.get(name, 0) if call is None else call
        for traced in self.calls:
            if traced.name == name and traced.call == number:
                return traced
        return None


# By network, for as long as it lives: a trace costs a pass.
_traces: "WeakKeyDictionary[Network, Trace]" = WeakKeyDictionary()


def trace_of(network: Network) -> Trace:
    """Return what one dry run of the network calls, in order (computed once)."""
    if network not in _traces:
        _traces[network] = trace_network(network)
    return _traces[network]


def trace_network(network: Network) -> Trace:
    """Run the network once on a seeded image and return what it called.

    The module, its hooks and torch's generators are left as they were.
    """
    height, width = network.weights.preprocessing.crop_size
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((1, 3, height, width), generator=generator).to(network.device)
    recorder = _Recorder(network, image)
    # The fused attention hides its matrix products from the recorder.
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    # On one image threads wait for each other more than they compute.
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad(), recorder.hooks(), recorder:
            network.module(image)
    finally:
        torch.set_num_threads(n_threads)
        torch.backends.mha.set_fastpath_enabled(fused)
    return recorder.finish()


def named_tensors(output: Any, prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (element name, tensor) for everything that a module returned.

    A bare tensor has the empty name; tuples give `0`, `1`, …, dicts and named outputs
    their keys, nested ones `1.0` and `key.0`.
    """
    if isinstance(output, torch.Tensor):
        yield prefix, output
    elif isinstance(output, Mapping):
        for key, item in output.items():
            yield from named_tensors(item, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(output, (tuple, list)):
        for index, item in enumerate(output):
            name = f"{prefix}.{index}" if prefix else str(index)
            yield from named_tensors(item, name)


def first_tensor(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor | None:
    """Return the first tensor among a module's arguments, or None."""
    return next((t for _, t in named_tensors([args, kwargs])), None)


class _Recorder(TorchDispatchMode):
    """Follows values, multiply-accumulates and receptive fields through a run."""

    def __init__(self, network: Network, image: torch.Tensor) -> None:
        super().__init__()
        self._network = network
        self._calls: list[ModuleCall] = []
        self._stack: list[ModuleCall] = []
        self._n_calls: Counter[str] = Counter()
        self._writes: Counter[int] = Counter()
        self._nonlinear: set[Value] = set()
        self._grids: dict[int, Grid | None] = {}
        self._channels_last: set[tuple[Any, ...]] = set()
        self._alive: list[Any] = []  # else a freed storage's address names another
        self._grids[self._storage(image)] = Grid.of_image(image.shape[-2:])

    def _storage(self, tensor: torch.Tensor) -> int:
        storage = tensor.untyped_storage()
        self._alive.append(storage)
        return int(storage._cdata)

    def _value(self, tensor: torch.Tensor) -> Value:
        storage = self._storage(tensor)
        return storage, self._writes[storage]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name in _NONLINEAR_OPS:
            self._nonlinear.add(self._value(args[0]))
        sources = [t for t in tree_iter((args, kwargs)) if isinstance(t, torch.Tensor)]
        keys = [self._storage(t) for t in sources]
        out = func(*args, **kwargs)
        if func.overloadpacket in flop_registry and self._stack:
            flops = flop_registry[func.overloadpacket](*args, **kwargs, out_val=out)
            self._stack[-1].macs += flops // 2
        known = [
            (self._grids[key], source)
            for key, source in zip(keys, sources, strict=True)
            if key in self._grids
        ]
        results = [t for t in tree_iter(out) if isinstance(t, torch.Tensor)]
        if known and results:
            grid = propagate(name, known, args, kwargs, results[0])
            for result in results:
                key = self._storage(result)
                if key not in keys or func._schema.is_mutable:  # not a mere view
                    self._grids[key] = grid
        self._note_writes(func, args, kwargs)
        return out

    def _note_writes(self, func: Any, args: Any, kwargs: Any) -> None:
        if not func._schema.is_mutable:
            return
        for position, argument in enumerate(func._schema.arguments):
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            given = (
                args[position] if position < len(args) else kwargs.get(argument.name)
            )
            for tensor in tree_iter(given):
                if isinstance(tensor, torch.Tensor):
                    self._writes[self._storage(tensor)] += 1

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Watch every module; the hooks are gone afterwards."""
        with ExitStack() as stack:
            for name, module in self._network.module.named_modules():
                before = self._starter(name or ROOT)
                for handle in (
                    module.register_forward_pre_hook(before, with_kwargs=True),
                    module.register_forward_hook(self._end),
                ):
                    stack.callback(handle.remove)
            yield

    def _starter(self, name: str) -> Any:
        def start(module: nn.Module, args: Any, kwargs: Any) -> None:
            self._n_calls[name] += 1
            parent = self._stack[-1] if self._stack else None
            if parent is not None:
                parent.is_leaf = False
            kind = type(module).__name__
            call = ModuleCall(name, kind, self._n_calls[name], module, parent)
            tensor = first_tensor(args, kwargs)
            if tensor is not None:
                call.input = self._describe(tensor)
            self._stack.append(call)

        return start

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        call = self._stack.pop()
        call.outputs = {
            name: self._describe(tensor) for name, tensor in named_tensors(output)
        }
        if call.input is not None and _acts_on_the_last_axis(call):
            self._channels_last.add(call.input.layout)
        for tensor in call.outputs.values():
            if self._is_channels_last(call, tensor):
                self._channels_last.add(tensor.layout)
                tensor.channels_last = True
        self._calls.append(call)

    def _describe(self, tensor: torch.Tensor) -> TracedTensor:
        value = self._value(tensor)
        layout = (value[0], tuple(tensor.shape), tensor.stride())
        return TracedTensor(
            shape=tuple(tensor.shape),
            value=value,
            channels_last=layout in self._channels_last,
            grid=self._grids.get(value[0]),
            layout=layout,
        )

    def _is_channels_last(self, call: ModuleCall, tensor: TracedTensor) -> bool:
        """Tell whether a 4-axis output is (n, h, w, c): torch itself does not know.

        A Linear and a LayerNorm over one axis act on the last axis, so that axis is the
        channels; modules that keep the shape keep the layout; Swin's blocks are
        channels last as a family.
        """
        if len(tensor.shape) != 4 or isinstance(call.module, nn.Conv2d):
            return False
        if tensor.channels_last or _acts_on_the_last_axis(call):
            return True
        if call.input is not None and call.input.shape == tensor.shape:
            if call.input.layout in self._channels_last:
                return True
            if call.is_leaf:
                return False
        if call.name == ROOT or isinstance(call.module, nn.AdaptiveAvgPool2d):
            return False
        return self._is_channels_last_family(call)

    def _is_channels_last_family(self, call: ModuleCall) -> bool:
        module = self._network.module
        if type(module).__name__ == "SwinTransformer" and not hasattr(
            module, "output_fmt"
        ):
            return call.name.startswith("features")
        return str(getattr(module, "output_fmt", "")).endswith("NHWC")

    def finish(self) -> Trace:
        """Return the trace, with what only the end of the run tells."""
        for call in self._calls:
            tensors = [*call.outputs.values(), *([call.input] if call.input else [])]
            for tensor in tensors:
                storage, written = tensor.value
                tensor.overwritten = self._writes[storage] > written
                tensor.before_nonlinearity = tensor.value in self._nonlinear
        _share_out_parameters(self._network.module, self._calls)
        self._alive.clear()
        return Trace(tuple(self._calls), dict(self._n_calls), self._calls[-1])


def _acts_on_the_last_axis(call: ModuleCall) -> bool:
    """Tell a Linear, or a LayerNorm of one axis, of maps (n, h, w, c)."""
    if call.input is None or len(call.input.shape) != 4:
        return False
    if type(call.module) is nn.LayerNorm:
        return len(call.module.normalized_shape) == 1
    return type(call.module) is nn.Linear


def _share_out_parameters(module: nn.Module, calls: list[ModuleCall]) -> None:
    """Give each parameter to the nearest module around it that was called, once.

    Some modules are only containers of parameters that their parent computes with
    (the projections of attention); a module called twice counts once.
    """
    owners: dict[str, ModuleCall] = {}
    for call in calls:
        owners.setdefault("" if call.name == ROOT else call.name, call)
    for name, parameter in module.named_parameters():
        owner = name.rpartition(".")[0]
        while owner not in owners:
            owner = owner.rpartition(".")[0]
        owners[owner].n_parameters += parameter.numel()
