"""Pooling of activations over positions, on whatever device they are."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch.nn import functional

from cnnfeat.errors import LayerError

Pool = Literal["none", "avg", "max", "pyramid"]

# Levels of the spatial pyramid: He et al. 2014, arXiv 1406.4729, section 3.3, use up to
# 6 x 6 over 13 x 13 maps; these three suit the 6 x 6 to 14 x 14 maps of later networks.
_PYRAMID_SIDES = (1, 2, 4)


def pool_activation(
    activation: torch.Tensor, pool: str, channels_last: bool = False
) -> torch.Tensor:
    """Return the activation pooled over its positions.

    Parameters
    ----------
    activation : tensor of shape (n, c, h, w), (n, t, c) tokens, or (n, c)
        (n, h, w, c) where `channels_last`.
    pool : {"none", "avg", "max", "pyramid"}
        `pyramid` is the maxima over a 1 x 1, a 2 x 2 and a 4 x 4 division, one
        level after the other, channel by channel within a level.
    channels_last : bool, default=False
        The channels are the last axis of a 4-axis activation.

    Returns
    -------
    tensor of shape (n, c), or (n, 21 c) for the pyramid
        The activation itself for `none`, and where it has no positions.

    Raises
    ------
    LayerError
        If there is no such pooling for an activation of this shape.
    """
    pooled_shape(activation.shape[1:], pool, channels_last)  # refuses what cannot be
    if pool == "none" or activation.ndim == 2:
        return activation
    if activation.ndim == 3:  # tokens: (n, t, c)
        return activation.mean(1) if pool == "avg" else activation.amax(1)
    if channels_last:
        activation = activation.permute(0, 3, 1, 2)  # (n, c, h, w)
    if pool == "avg":
        return activation.mean((2, 3))
    if pool == "max":
        return activation.amax((2, 3))
    levels = [
        functional.adaptive_max_pool2d(activation, side).flatten(1)
        for side in _PYRAMID_SIDES
    ]
    return torch.cat(levels, dim=1)


def pooled_shape(
    shape: Sequence[int], pool: str, channels_last: bool = False
) -> tuple[int, ...]:
    """Return the shape of one image's features, given that of its activation.

    Raises
    ------
    LayerError
        If there is no such pooling for an activation of this shape.
    """
    if pool not in get_args(Pool):
        expected = ", ".join(get_args(Pool))
        raise LayerError(f"unknown pooling {pool!r}: expected one of {expected}")
    if pool == "none" or len(shape) == 1:
        return tuple(shape)
    if len(shape) == 2 and pool != "pyramid":
        return (shape[1],)
    if len(shape) != 3:
        raise LayerError(
            f"--pool {pool} does not apply to an activation of shape {tuple(shape)}: "
            "pyramid takes (c, h, w), avg and max take tokens (t, c) as well; "
            "use --pool none"
        )
    n_channels = shape[2] if channels_last else shape[0]
    if pool == "pyramid":
        return (n_channels * sum(side * side for side in _PYRAMID_SIDES),)
    return (n_channels,)
