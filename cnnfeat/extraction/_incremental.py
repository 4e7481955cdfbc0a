"""An extractor for many copies of one image that differ in a square each.

The network is recorded as a graph for one image and for a batch. The first gives the
base once; in the second, operators are computed again only where the square can reach
(`_windows`). What needs a whole map (global pooling, flattening, attention) gets it,
and what follows is computed whole; so the share of the multiply-adds that is left says
whether it was worth it.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import flop_registry

from cnnfeat.errors import CnnfeatError
from cnnfeat.extraction._windows import Window, aligned, convolve, pad, pool
from cnnfeat.layer_spec import LayerSpec
from cnnfeat.layers import Tap, Tapper, pool_activation, pooled_shape
from cnnfeat.networks import Network

_PASSED_ON = ("clone", "alias", "detach", "_to_copy", "contiguous")
_POOLS = ("max_pool2d_with_indices", "max_pool2d", "avg_pool2d")
_VIEWS = (torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default)
_FAILURES = (RuntimeError, TypeError, ValueError, LookupError, AttributeError)


class NoFixedGraphError(CnnfeatError):
    """The network does something that no graph of known operators holds."""


class IncrementalExtractor:
    """Features of an image with a square changed, the rest not computed again.

    Parameters
    ----------
    network : Network
    taps : sequence of Tap
        Averaged over positions.
    image_nhwc : ndarray of shape (h, w, 3), dtype=uint8
        The image without a change.
    places : sequence of (int, int)
        Upper left corner of the square in each row that is going to be extracted.
    side : int
        Of the square, in pixels.
    batch_size : int
        Rows at once.

    Attributes
    ----------
    share : float
        Of the multiply-adds of whole passes, how many were computed so far.

    Raises
    ------
    NoFixedGraphError
        If the network cannot be recorded.
    """

    depth = 1

    def __init__(
        self,
        network: Network,
        taps: Sequence[Tap],
        image_nhwc: np.ndarray,
        places: Sequence[tuple[int, int]],
        side: int,
        batch_size: int = 32,
    ) -> None:
        self.batch_size: int | None = batch_size
        self.specs = tuple(
            LayerSpec(tap.name, tap.address, pooled_shape(tap, "avg"), "avg")
            for tap in taps
        )
        self._network, self._places, self._side = network, list(places), side
        self._size = batch_size
        self._n_done = 0
        pixels = self._normalized(image_nhwc[None])
        with Tapper(network, taps, _pooled) as tapper:
            one, many = (
                _record(tapper, taps, pixels.expand(n, -1, -1, -1))
                for n in (1, batch_size)
            )
            expected = tapper(pixels)
        if [n.target for n in one.graph.nodes] != [n.target for n in many.graph.nodes]:
            raise NoFixedGraphError(f"{network.name!r} is another graph for each batch")
        base = _Keeper(one)
        with torch.no_grad():
            _check(base.run(pixels), [expected[tap.name] for tap in taps])
        names = zip(many.graph.nodes, one.graph.nodes, strict=True)
        self._base = {here.name: base.values[there.name] for here, there in names}
        self._graph = many
        self._macs = self._whole_macs = 0.0

    @property
    def share(self) -> float:
        """The share of the multiply-adds that was computed."""
        return self._macs / self._whole_macs if self._whole_macs else 1.0

    def provenance(self) -> dict[str, str]:
        """Return nothing: no file is written."""
        return {}

    def start(self, images_nhwc: np.ndarray) -> Any:
        """Compute the next m rows (m, 1, h, w, 3): only their squares are looked at."""
        m, side = len(images_nhwc), self._side
        places = self._places[self._n_done : self._n_done + m]
        self._n_done += m
        places += [places[-1]] * (self._size - m)  # a graph is of one batch size
        rows = [*range(m), *[m - 1] * (self._size - m)]
        squares = np.stack(
            [
                images_nhwc[row, 0, y : y + side, x : x + side]
                for row, (y, x) in zip(rows, places, strict=True)
            ]
        )
        base = next(iter(self._base.values()))
        changed = Window(self._normalized(squares), places, base)
        worker = _Incremental(self._graph, self._base)
        with torch.no_grad():
            found = worker.run(changed)
        self._macs += worker.macs
        self._whole_macs += worker.whole_macs
        tensors = [one.whole() if isinstance(one, Window) else one for one in found]
        return [tensor[:m].float().cpu().numpy() for tensor in tensors]

    def finish(self, ticket: Any) -> dict[str, np.ndarray]:
        """Return the features of the batch, by layer."""
        return {spec.name: one for spec, one in zip(self.specs, ticket, strict=True)}

    def _normalized(self, images_nhwc: np.ndarray) -> torch.Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(images_nhwc))
        normalize = self._network.weights.preprocessing.normalize
        return normalize(pixels.to(self._network.device)).contiguous()


def _pooled(tap: Tap, activation: torch.Tensor) -> torch.Tensor:
    return pool_activation(activation, "avg", tap)


def _record(
    tapper: Tapper, taps: Sequence[Tap], pixels: torch.Tensor
) -> fx.GraphModule:
    """Return the graph from normalised pixels to the taps, without in-place writes."""

    def forward(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = tapper(images)
        return tuple(found[tap.name] for tap in taps)

    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            record = make_fx(forward, tracing_mode="fake", _allow_non_fake_inputs=True)
            graph = record(pixels.contiguous())
    except _FAILURES as error:
        raise NoFixedGraphError(f"the network is no fixed graph: {error}") from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    _take_writes_out(graph)
    return graph


def _check(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> None:
    """Refuse a graph that does not give what the network gives."""
    for one, other in zip(found, expected, strict=True):
        atol = 1e-4 * float(other.abs().max())
        if not torch.allclose(one, other, rtol=1e-3, atol=atol):
            raise NoFixedGraphError("the recorded graph is not the network")


def _take_writes_out(graph: fx.GraphModule) -> None:
    """Put new values in the place of writing over old ones: the base has to stay."""
    order = {node: k for k, node in enumerate(graph.graph.nodes)}
    for node in graph.graph.nodes:
        if node.target in _VIEWS:  # of other strides than those recorded
            node.target = torch.ops.aten.reshape.default
        schema = getattr(node.target, "_schema", None)
        if schema is None or not schema.is_mutable:
            continue
        packet = node.target.overloadpacket.__name__
        pure = getattr(torch.ops.aten, packet.removesuffix("_"), None)
        overload = node.target._overloadname
        if (
            not packet.endswith("_")
            or overload not in getattr(pure, "overloads", list)()
        ):
            raise NoFixedGraphError(f"the network writes over tensors by {packet}")
        old, at = node.args[0], order[node]
        if _is_view(old) or any(
            _is_view(user) and order[user] < at for user in old.users
        ):
            raise NoFixedGraphError("the network writes over a part of a tensor")
        node.target = getattr(pure, overload)
        old.replace_all_uses_with(
            node, delete_user_cb=lambda user, at=at: order[user] > at
        )
    graph.graph.eliminate_dead_code()
    graph.recompile()


def _is_view(node: fx.Node) -> bool:
    """Tell whether a node's result lies in the memory of another's."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and any(one.alias_info for one in schema.returns)


class _Keeper(fx.Interpreter):
    """Runs a graph and keeps the result of every node."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph, garbage_collect_values=False)
        self.values: dict[str, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Compute and keep one node."""
        self.values[n.name] = super().run_node(n)
        return self.values[n.name]


class _Incremental(fx.Interpreter):
    """Runs a graph on windows, as far as there are any."""

    def __init__(self, graph: fx.GraphModule, base: dict[str, Any]) -> None:
        super().__init__(graph)
        self._base = base
        self._node = ""
        self.macs = self.whole_macs = 0.0

    def run_node(self, n: fx.Node) -> Any:
        """Remember which node it is."""
        self._node = n.name
        return super().run_node(n)

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Compute an operator where its input has changed; else on whole maps."""
        windows = _windows_in(args)
        if windows:
            base = self._base[self._node]
            result = _on_windows(target, args, kwargs, windows, base)
            if result is not None:
                self._count(target, windows[0], result, args)
                return result
        whole = fx.node.map_aggregate(args, _whole)
        result = super().call_function(target, whole, kwargs)
        self._count(target, None, result, whole)
        return result

    def _count(
        self, target: Any, source: Window | None, result: Any, args: Any
    ) -> None:
        packet = getattr(target, "overloadpacket", None)
        if packet not in flop_registry:
            return
        base = self._base[self._node]
        n = result.patch.shape[0] if isinstance(result, Window) else result.shape[0]
        weight = args[1] if packet is not torch.ops.aten.addmm else args[2]
        per_output = weight[0].numel() if weight.ndim == 4 else weight.shape[0]
        whole = n * base[0].numel() * per_output
        self.whole_macs += whole
        self.macs += whole * (result.share if isinstance(result, Window) else 1.0)


def _windows_in(args: Any) -> list[Window]:
    found: list[Window] = []

    def look(value: Any) -> Any:
        if isinstance(value, Window):
            found.append(value)
        return value

    fx.node.map_aggregate(args, look)
    return found


def _whole(value: Any) -> Any:
    return value.whole() if isinstance(value, Window) else value


def _on_windows(
    target: Any, args: Any, kwargs: Any, windows: list[Window], base: Any
) -> Any:
    """Return an operator's window; None where it needs whole maps."""
    packet = getattr(target, "overloadpacket", None)
    if packet is None:  # getitem: the first of several results is the map
        return args[0] if args[1] == 0 and isinstance(args[0], Window) else None
    name, source = packet.__name__, windows[0]
    shape = base[0].shape if isinstance(base, tuple) else base.shape
    if name == "convolution" and args[0] is source:
        return convolve(source, args, base)
    if name in _POOLS:
        return pool(name, source, args, base[0] if isinstance(base, tuple) else base)
    if name == "constant_pad_nd":
        return pad(source, args[1], base)
    if name in _PASSED_ON:
        return Window(source.patch, source.places, base)
    if "batch_norm" in name:
        patch = target(source.patch, *args[1:], **kwargs)[0]
        return Window(patch, source.places, base[0])
    if name == "cat" and args[1:] == (1,) and len(windows) == len(args[0]):
        parts, places = aligned(windows)
        return Window(torch.cat(parts, 1), places, base)
    if torch.Tag.pointwise not in target.tags or len(shape) != 4:
        return None
    others = [a for a in args if isinstance(a, torch.Tensor)]
    if any(max(_sides(one)) > 1 or _is_batch(one) for one in others):
        return None
    parts, places = aligned(windows)
    given = iter(parts)
    own = [next(given) if isinstance(a, Window) else a for a in args]
    return Window(target(*own, **kwargs), places, base)


def _sides(tensor: torch.Tensor) -> tuple[int, ...]:
    """Return height and width of what is not a window; 1 where it has none."""
    return tuple(tensor.shape[-2:]) if tensor.ndim else (1,)


def _is_batch(tensor: torch.Tensor) -> bool:
    return tensor.ndim == 4 and tensor.shape[0] > 1
