"""What a ReLU does to the signal that goes back through it, for one pass.

Autograd lets the signal pass where the ReLU's input was positive. Zeiler and Fergus
2014 (arXiv 1311.2901, section 2.1) apply the ReLU to the signal itself instead, and
Springenberg et al. 2015 (arXiv 1412.6806, section 3.4) do both. `RULES` names them.

The functions that networks call are replaced while the block runs, not their modules:
so it holds for `nn.ReLU`, `F.relu`, `x.relu_()` and `clamp(min=0)` alike.
"""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from cnnfeat.errors import LayerError

RULES = ("gradient", "deconvnet", "guided")
_RELUS = ("relu", "relu6", "hardtanh", "clamp", "clamp_min", "threshold")
# Non-linearities that let negative values pass, or weigh one value by another: what is
# rectified on the way up is not what the rules rectify on the way down.
_OTHERS = frozenset(
    [
        *("gelu", "silu", "mish", "elu", "celu", "selu", "leaky_relu", "prelu"),
        *("hardswish", "hardsigmoid", "sigmoid", "tanh", "softplus", "glu"),
        *("softmax", "scaled_dot_product_attention", "multi_head_attention_forward"),
    ]
)


class BackwardRule(TorchFunctionMode):
    """Context in which ReLUs take the signal back by a rule.

    Parameters
    ----------
    rule : {"gradient", "deconvnet", "guided"}
        The first replaces nothing.

    Raises
    ------
    LayerError
        Inside, where the network calls a non-linearity that the rule has no meaning
        for: it names that and the methods that have one.
    """

    def __init__(self, rule: str) -> None:
        super().__init__()
        self._rule = rule

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if self._rule == "gradient" or not name:
            return func(*args, **kwargs)
        if name.strip("_") in _OTHERS:
            raise LayerError(
                f"`method={self._rule}` is for networks of ReLUs, and this one calls "
                f"{name}; use `method=gradient`, gradient-x-input, integrated, "
                "grad-cam or layer-cam"
            )
        bounds = _bounds(name.strip("_"), args, kwargs)
        if bounds is None:
            return func(*args, **kwargs)
        source: torch.Tensor = args[0] if args else kwargs["input"]
        result = _Rectify.apply(source, *bounds, self._rule)
        if not _is_in_place(name, args, kwargs):
            return result
        # Whoever holds the tensor sees the new values, and the signal takes our way.
        return source.copy_(result)


class _Rectify(torch.autograd.Function):
    """A ReLU, cut off at `upper`, that takes the signal back by a rule."""

    @staticmethod
    def forward(
        ctx: Any, source: torch.Tensor, lower: float, upper: float, rule: str
    ) -> torch.Tensor:
        result = source.clamp(lower, upper)
        ctx.rule = rule
        ctx.save_for_backward((source > lower) & (source < upper))
        return result

    @staticmethod
    def backward(ctx: Any, signal: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (is_open,) = ctx.saved_tensors
        rectified = signal.clamp(min=0)
        if ctx.rule == "guided":
            rectified = rectified * is_open
        return rectified, None, None, None


def _bounds(name: str, args: Any, kwargs: Any) -> tuple[float, float] | None:
    """Return between which values a call lets its input pass; None if it is no ReLU."""
    if name not in _RELUS:
        return None
    if name == "relu":
        return 0.0, float("inf")
    if name == "relu6":
        return 0.0, 6.0
    names = {
        "hardtanh": ("min_val", "max_val"),
        "threshold": ("threshold", "value"),
        "clamp_min": ("min",),
        "clamp": ("min", "max"),
    }[name]
    given = dict(zip(names, args[1:], strict=False)) | kwargs
    if name == "threshold":
        is_relu = given.get("threshold") == 0 == given.get("value")
        return (0.0, float("inf")) if is_relu else None
    if given.get(names[0]) != 0:
        return None
    upper = given.get(names[1]) if len(names) > 1 else None
    return 0.0, float("inf") if upper is None else float(upper)


def _is_in_place(name: str, args: Any, kwargs: Any) -> bool:
    """Tell whether a call writes over its input: by its name, or as it is asked."""
    if name.endswith("_") or kwargs.get("inplace"):
        return True
    position = {"relu": 1, "relu6": 1, "hardtanh": 3, "threshold": 3}.get(
        name.lstrip("_")
    )
    return position is not None and len(args) > position and args[position] is True
