"""Tap several activations in one pass that stops after the deepest of them.

Many networks write over an activation right after it is made (`ReLU(inplace=True)`,
`out += identity`), so an activation is reduced or copied inside the hook, before the
next module runs.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import nn

from cnnfeat.errors import LayerError
from cnnfeat.layers._names import Tap
from cnnfeat.layers._tracing import ROOT, first_tensor, named_tensors, trace_of
from cnnfeat.networks import Network

Reduce = Callable[[Tap, torch.Tensor], torch.Tensor]


class _PassDone(BaseException):
    """All taps are in; not an Exception, so that no network swallows it."""


class Tapper:
    """Callable that returns the tapped activations of a batch.

    Parameters
    ----------
    network : Network
    taps : sequence of Tap
        From `resolve_layers`; at least one.
    reduce : callable, optional
        `reduce(tap, activation)` is applied on the device as soon as an activation is
        there, so that nothing larger than its result is kept.
    grad : bool, default=False
        Keep autograd's graph from the images to the activations, for what looks inside
        a network; else nothing is recorded.

    Raises
    ------
    LayerError
        If there is no tap, or one names a module that the network does not have.

    Notes
    -----
    The hooks stay on the module until `close`; use it as a context manager.
    """

    def __init__(
        self,
        network: Network,
        taps: Sequence[Tap],
        reduce: Reduce | None = None,
        *,
        grad: bool = False,
    ) -> None:
        if not taps:
            raise LayerError("no layer to tap")
        self.taps = tuple(taps)
        self._network = network
        self._reduce = reduce
        self._grad = grad
        self._n_calls = trace_of(network).n_calls
        self._seen: Counter[str] = Counter()
        self._kept: dict[str, torch.Tensor] = {}
        self._input: torch.Tensor | None = None
        self._handles: list[Any] = []
        modules = dict(network.module.named_modules())
        for name in dict.fromkeys(tap.module for tap in self.taps):
            module = modules.get("" if name == ROOT else name)
            if module is None or name not in self._n_calls:
                self.close()
                raise LayerError(f"{network.name!r} calls no module {name!r}")
            self._watch(name, module)

    def __call__(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the activations of a batch, keyed by tap name, in the taps' order.

        Parameters
        ----------
        images : tensor of shape (n, 3, h, w), floating, normalised
            On the network's device. With `grad`, those that ask for gradients get them.

        Returns
        -------
        dict of str to tensor of shape (n, ...)
            On the network's device. No later pass changes them.

        Raises
        ------
        LayerError
            If a layer does not run for these images, or has no row for each image.
        """
        self._seen.clear()
        self._kept = {}
        self._input = images
        try:
            # inference_mode(False) is not enable_grad: the caller decides about that.
            with torch.inference_mode(not self._grad):
                self._network.module(images)
        except _PassDone:
            pass
        finally:
            kept, self._kept, self._input = self._kept, {}, None
        missing = [tap.name for tap in self.taps if tap.name not in kept]
        if missing:
            raise LayerError(f"layer {missing[0]!r} did not run for these images")
        return {tap.name: kept[tap.name] for tap in self.taps}

    def close(self) -> None:
        """Take the hooks off the module; safe to call twice."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def __enter__(self) -> "Tapper":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _watch(self, name: str, module: nn.Module) -> None:
        taps = [tap for tap in self.taps if tap.module == name]
        inward = [tap for tap in taps if tap.side == "in"]
        outward = [tap for tap in taps if tap.side == "out"]

        def before(module: nn.Module, args: Any, kwargs: Any) -> None:
            self._seen[name] += 1
            for tap in inward:
                tensor = first_tensor(args, kwargs)
                if self._is_due(tap) and tensor is not None:
                    self._keep(tap, tensor)
            self._stop_when_done()

        def after(module: nn.Module, args: Any, output: Any) -> None:
            tensors = dict(named_tensors(output)) if outward else {}
            for tap in outward:
                if self._is_due(tap):
                    self._keep(tap, tensors[tap.element or ""])
            self._stop_when_done()

        self._handles += [
            module.register_forward_pre_hook(before, with_kwargs=True),
            module.register_forward_hook(after),
        ]

    def _is_due(self, tap: Tap) -> bool:
        return self._seen[tap.module] == (tap.call or self._n_calls[tap.module])

    def _keep(self, tap: Tap, activation: torch.Tensor) -> None:
        """Reduce the activation; copy what would share memory that changes later."""
        images = self._input
        if images is None or activation.shape[:1] != images.shape[:1]:
            raise LayerError(
                f"layer {tap.name!r}: its first axis is not the images' "
                f"(shape {tuple(activation.shape)})"
            )
        if tap.norm is not None:
            # Not by calling it: the hooks on it count the network's own calls.
            norm = self._network.module.get_submodule(tap.norm)
            activation = norm.forward(activation)
        kept = activation if self._reduce is None else self._reduce(tap, activation)
        changes = (tap.overwritten and _share(kept, activation)) or _share(kept, images)
        self._kept[tap.name] = kept.clone() if changes else kept

    def _stop_when_done(self) -> None:
        if len(self._kept) == len(self.taps):
            raise _PassDone


def _share(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Tell whether two tensors lie in the same storage."""
    return bool(first.untyped_storage()._cdata == second.untyped_storage()._cdata)
