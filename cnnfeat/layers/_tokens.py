"""The tokens of a transformer: which stand for patches, and which come before them.

Class, distillation and register tokens stand before the patches. What everybody calls
average pooling of a transformer leaves them out (Dosovitskiy et al. 2021, arXiv
2010.11929, appendix D.3; Darcet et al. 2024, arXiv 2309.16588, section 2.2).
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from cnnfeat.layers._tracing import ROOT, ModuleCall, trace_of
from cnnfeat.networks import Network

_PASSING_ON = ("Identity", "Dropout")


@dataclass(frozen=True)
class Tokens:
    """How the tokens of one activation (t, c) are laid out.

    Attributes
    ----------
    grid : tuple of int
        Rows and columns of patches: the last h * w tokens, row by row.
    n_prefix : int
        Tokens before them.
    has_class : bool
        The first of these is the class token.
    """

    grid: tuple[int, int]
    n_prefix: int
    has_class: bool


def tokens_of(network: Network, shape: tuple[int, ...]) -> Tokens | None:
    """Return the layout of an activation of one image, None where it is not known.

    Parameters
    ----------
    network : Network
    shape : tuple of int
        (t, c): h * w patch tokens, with or without all the prefix tokens.
    """
    found = _layout(network.module)
    if found is None or len(shape) != 2:
        return None
    n_patches = found.grid[0] * found.grid[1]
    if shape[0] == n_patches + found.n_prefix:
        return found
    return Tokens(found.grid, 0, False) if shape[0] == n_patches else None


def last_tokens(network: Network) -> str | None:
    """Return the deepest module that returns tokens, None for a network without.

    That is the final norm of most vision transformers.
    """
    calls = [call for call in trace_of(network).calls if _returns_tokens(network, call)]
    return calls[-1].name if calls else None


def _returns_tokens(network: Network, call: ModuleCall) -> bool:
    output = call.outputs.get("")
    # Only the network's own parts: an attention pool reads tokens inside as well.
    is_part = call.parent is not None and call.parent.name == ROOT
    if output is None or call.kind in _PASSING_ON or not is_part:
        return False
    is_map = len(output.shape) == 4 and output.channels_last
    return is_map or tokens_of(network, output.shape[1:]) is not None


def _layout(module: nn.Module) -> Tokens | None:
    """Return what a timm or torchvision transformer says of itself."""
    grid: Any = getattr(getattr(module, "patch_embed", None), "grid_size", None)
    if grid is not None:  # timm
        n_prefix = int(getattr(module, "num_prefix_tokens", 0) or 0)
        return Tokens(
            (int(grid[0]), int(grid[1])),
            n_prefix,
            n_prefix > 0 and getattr(module, "cls_token", None) is not None,
        )
    patch, size = getattr(module, "patch_size", 0), getattr(module, "image_size", 0)
    if hasattr(module, "class_token") and patch and size:  # torchvision
        return Tokens((size // patch, size // patch), 1, True)
    return None
