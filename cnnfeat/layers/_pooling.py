"""Pooling of activations over positions, on whatever device they are.

Positions are those of the image: of a transformer, the patches. Its class token and
registers are positions of nothing; `TOKEN_POOLS` ask for them by name.
"""

import torch
from torch.nn import functional

from cnnfeat.errors import LayerError
from cnnfeat.layers._names import Tap
from cnnfeat.layers._tokens import Tokens

SPATIAL_POOLS = ("none", "avg", "max", "pyramid")
# For what looks inside: the maximum of each row of a map, then that of each column. The
# place of the largest value is where both are largest; no file is written so.
PEAKS = "peaks"
# What `--tokens` offers, and how a file calls it. "all" and "mean" have names already.
TOKEN_POOLS = {
    "cls": "cls",
    "mean": "avg",
    "cls+mean": "cls+mean",
    "patches": "patches",
    "registers": "registers",
    "all": "none",
}

# Levels of the spatial pyramid: He et al. 2014, arXiv 1406.4729, section 3.3, use up to
# 6 x 6 over 13 x 13 maps; these three suit the 6 x 6 to 14 x 14 maps of later networks.
_PYRAMID_SIDES = (1, 2, 4)


def pool_activation(activation: torch.Tensor, pool: str, tap: Tap) -> torch.Tensor:
    """Return the activation pooled over its positions.

    Parameters
    ----------
    activation : tensor of shape (n, c, h, w), (n, h, w, c), (n, t, c) or (n, c)
        As `tap` says.
    pool : str
        One of `SPATIAL_POOLS`, or of what `TOKEN_POOLS` stand for. `pyramid` is the
        maxima over a 1 x 1, a 2 x 2 and a 4 x 4 division, one level after the other,
        channel by channel within a level. `cls+mean` is the class token, then the mean
        of the patches (Oquab et al. 2023, arXiv 2304.07193, section 7.1).
    tap : Tap
        Says which axis the channels are, and which tokens are patches.

    Returns
    -------
    tensor of shape (n, c); (n, 21 c) for the pyramid, (n, 2 c) for `cls+mean`
        `peaks` (n, c, h + w). `patches` (n, h, w, c), `registers` (n, r, c). The
        activation itself for `none`,
        and where it has no positions.

    Raises
    ------
    LayerError
        If there is no such pooling for an activation of this shape.
    """
    pooled_shape(tap, pool)  # refuses what cannot be
    if pool == "none" or activation.ndim == 2:
        return activation
    if activation.ndim == 3:  # tokens: (n, t, c)
        if tap.tokens is None:  # (n, t, c), the layout not known: all are positions
            return activation.mean(1) if pool == "avg" else activation.amax(1)
        return _pool_tokens(activation, pool, tap.tokens)
    if pool == "patches":
        return activation
    return _pool_map(
        activation.movedim(-1, 1) if tap.channels_last else activation, pool
    )


def as_maps(activation: torch.Tensor, tap: Tap) -> torch.Tensor:
    """Return an activation as maps over the image.

    Parameters
    ----------
    activation : tensor of shape (n, c, h, w), (n, h, w, c), (n, t, c) or (n, c)
        As `tap` says.

    Returns
    -------
    tensor of shape (n, c, h, w)
        Of tokens the patches; h = w = 1 where there are no positions.

    Raises
    ------
    LayerError
        If it is not known which of its tokens are patches, or it has other axes.
    """
    if activation.ndim == 2:
        return activation[:, :, None, None]
    if activation.ndim == 4:
        return activation.movedim(-1, 1) if tap.channels_last else activation
    if activation.ndim == 3 and tap.tokens is not None:
        patches = activation[:, tap.tokens.n_prefix :]
        return patches.unflatten(1, tap.tokens.grid).movedim(-1, 1)
    raise LayerError(
        f"{tap.name}, an activation of shape {tuple(tap.shape)}, is not known to be "
        "maps of the image; use a layer whose shape has a height and a width"
    )


def _pool_tokens(activation: torch.Tensor, pool: str, tokens: Tokens) -> torch.Tensor:
    """Return tokens (n, t, c) pooled over patches, or those asked for."""
    prefix, patches = activation.tensor_split([tokens.n_prefix], dim=1)
    if pool == "cls":
        return prefix[:, 0]
    if pool == "registers":
        return prefix[:, 1:]
    if pool == "cls+mean":
        return torch.cat([prefix[:, 0], patches.mean(1)], dim=1)
    if pool == "avg":
        return patches.mean(1)
    grid = patches.unflatten(1, tokens.grid)  # (n, h, w, c)
    return grid if pool == "patches" else _pool_map(grid.movedim(-1, 1), pool)


def _pool_map(activation: torch.Tensor, pool: str) -> torch.Tensor:
    """Return a map (n, c, h, w) pooled over its positions."""
    if pool == "avg":
        return activation.mean((2, 3))
    if pool == "max":
        return activation.amax((2, 3))
    if pool == PEAKS:
        return torch.cat([activation.amax(3), activation.amax(2)], dim=2)
    levels = [
        functional.adaptive_max_pool2d(activation, side).flatten(1)
        for side in _PYRAMID_SIDES
    ]
    return torch.cat(levels, dim=1)


def pooled_shape(tap: Tap, pool: str) -> tuple[int, ...]:
    """Return the shape of one image's features, given what is tapped.

    Raises
    ------
    LayerError
        If there is no such pooling for an activation of this shape.
    """
    known = (*SPATIAL_POOLS, *TOKEN_POOLS.values(), PEAKS)
    if pool not in known:
        expected = ", ".join(dict.fromkeys(known))
        raise LayerError(f"unknown pooling {pool!r}: expected one of {expected}")
    shape = tap.shape
    if pool not in (*SPATIAL_POOLS, PEAKS):
        return _token_shape(tap, pool)
    if pool == "none" or len(shape) == 1:
        return tuple(shape)
    if pool == PEAKS:
        return _peaks_shape(tap)
    n_channels = shape[-1] if tap.channels_last or len(shape) == 2 else shape[0]
    is_map = len(shape) == 3 or (len(shape) == 2 and tap.tokens is not None)
    if pool == "pyramid" and is_map:
        return (n_channels * sum(side * side for side in _PYRAMID_SIDES),)
    if pool == "pyramid" or len(shape) > 3:
        raise LayerError(
            f"`pool={pool}` does not apply to {tap.name}, an activation of shape "
            f"{tuple(shape)}: pyramid takes (c, h, w), avg and max take tokens (t, c) "
            "as well; use `pool=none`"
        )
    return (n_channels,)


def _peaks_shape(tap: Tap) -> tuple[int, int]:
    """Return the shape of the maxima over rows and columns."""
    if tap.tokens is not None:
        return tap.shape[-1], sum(tap.tokens.grid)
    if len(tap.shape) != 3:
        raise LayerError(
            f"{tap.name}, an activation of shape {tuple(tap.shape)}, is not known to "
            "be maps of the image; use a layer whose shape has a height and a width"
        )
    c, h, w = tap.shape[-1:] + tap.shape[:-1] if tap.channels_last else tap.shape
    return c, h + w


def _token_shape(tap: Tap, pool: str) -> tuple[int, ...]:
    """Return the shape of the tokens asked for by name."""
    check_has_tokens(tap)
    tokens, n_channels = tap.tokens, tap.shape[-1]
    if pool == "patches":
        return tap.shape if tokens is None else (*tokens.grid, n_channels)
    if tokens is None or not tokens.has_class:
        raise LayerError(
            f"{tap.name} has no class token: use `tokens=mean`, patches or all"
        )
    if pool == "registers":
        if tokens.n_prefix == 1:
            raise LayerError(f"{tap.name} has no tokens beside class token and patches")
        return (tokens.n_prefix - 1, n_channels)
    return (n_channels * (2 if pool == "cls+mean" else 1),)


def check_has_tokens(tap: Tap) -> None:
    """Refuse `--tokens` where an activation has none.

    Raises
    ------
    LayerError
        If the activation is neither tokens whose layout is known nor a map (h, w, c).
    """
    if tap.tokens is None and not (tap.channels_last and len(tap.shape) == 3):
        raise LayerError(
            f"`tokens`: {tap.name}, an activation of shape {tuple(tap.shape)}, is not "
            "known to be tokens of a transformer; leave `tokens` out, or ask for "
            "another layer"
        )
