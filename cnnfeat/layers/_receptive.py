"""Receptive fields: how much of the image one position of an activation sees.

Each tensor carries a `Grid`: for both axes the interval of image pixels that the first
position sees, and the step in pixels to the next. Operators move the grid as in Araujo
et al., Distill 2019, "Computing Receptive Fields of Convolutional Neural Networks",
section "Computing receptive field region"; where branches meet, the intervals' union
is taken. Padding counts as image, so a field may be larger than the image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

_POOLS = {"max_pool2d_with_indices": (3, 4), "max_pool2d": (3, 4), "avg_pool2d": (3, 9)}
_CONVOLUTIONS = ("convolution", "_convolution", "cudnn_convolution")
_ADAPTIVE = ("_adaptive_avg_pool2d", "adaptive_max_pool2d")
_REDUCTIONS = ("mean", "sum", "amax", "max", "linalg_vector_norm", "var", "var_mean")
_PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")
_MIXING = ("native_group_norm", "upsample_bilinear2d", "upsample_nearest2d")


@dataclass(frozen=True)
class Grid:
    """Interval seen by the first position, step and number of positions, per axis.

    All in pixels of the image but `size`; axis order is height, width.
    """

    first: tuple[int, int]
    last: tuple[int, int]
    step: tuple[int, int]
    size: tuple[int, int]

    @classmethod
    def of_image(cls, size: Sequence[int]) -> "Grid":
        """Return the grid of the input: each pixel sees itself."""
        return cls((0, 0), (0, 0), (1, 1), (size[0], size[1]))

    @property
    def receptive_field(self) -> int:
        """Side in pixels; the longer one where the axes differ."""
        return max(
            last - first + 1 for first, last in zip(self.first, self.last, strict=True)
        )

    @property
    def stride(self) -> int:
        """Step between neighbouring positions in pixels."""
        return max(self.step)

    def region(self, i: int, j: int) -> tuple[int, int, int, int]:
        """Return the pixels that position (i, j) of a map sees.

        Parameters
        ----------
        i, j : int
            Row and column of the map.

        Returns
        -------
        (left, upper, right, lower)
            In pixels of the network's input, right and lower exclusive, as PIL's boxes.
            It may reach beyond the image into the padding. `Preprocessing.source_box`
            maps it on to the original image.
        """
        top, left = (
            self.first[axis] + at * self.step[axis] for axis, at in enumerate((i, j))
        )
        bottom, right = (
            self.last[axis] + at * self.step[axis] for axis, at in enumerate((i, j))
        )
        return left, top, right + 1, bottom + 1

    def slide(
        self,
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        size: Sequence[int],
    ) -> "Grid":
        """Return the grid after a window that slides over this one."""
        first, last, step = [], [], []
        for axis in range(2):
            jump = self.step[axis]
            reach = (kernel[axis] - 1) * dilation[axis]
            first.append(self.first[axis] - padding[axis] * jump)
            last.append(self.last[axis] + (reach - padding[axis]) * jump)
            step.append(jump * stride[axis])
        return Grid(_two(first), _two(last), _two(step), _two(size))


def propagate(
    name: str,
    known: Sequence[tuple[Grid | None, torch.Tensor]],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    out: torch.Tensor,
) -> Grid | None:
    """Return the grid of an operator's output; None once it sees the whole image.

    Parameters
    ----------
    name : str
        The operator, as `aten` calls it.
    known : sequence of (grid, tensor)
        Those arguments that depend on the image.
    args, kwargs
        All of the operator's arguments.
    out : tensor
        Its first result.
    """
    if any(grid is None for grid, _ in known):
        return None
    grids = [grid for grid, _ in known if grid is not None]
    if len(grids) > 1:
        return None if name in _PRODUCTS or _is_attention(name) else _union(grids)
    grid, source = grids[0], known[0][1]
    if name in _CONVOLUTIONS:
        return _convolve(grid, args, out)
    if name in _POOLS:
        return _pool(name, grid, args, out)
    if name in _ADAPTIVE:
        return _pool_adaptively(grid, out)
    if name == "constant_pad_nd":
        return _pad(grid, args[1], out)
    if name in _PRODUCTS:
        n_positions = source.shape[:-1].numel()
        return grid if n_positions == grid.size[0] * grid.size[1] else None
    if name in _REDUCTIONS:
        return grid if _over_channels(source, args) else None
    return None if name in _MIXING or _is_attention(name) else grid


def _is_attention(name: str) -> bool:
    return name.startswith("_scaled_dot_product") or "attention" in name


def _union(grids: Sequence[Grid]) -> Grid | None:
    """Return the grid of positions that see what any of `grids` sees."""
    if len({grid.step for grid in grids}) > 1:
        return None
    first = [min(grid.first[axis] for grid in grids) for axis in range(2)]
    last = [max(grid.last[axis] for grid in grids) for axis in range(2)]
    return Grid(_two(first), _two(last), grids[0].step, grids[0].size)


def _convolve(grid: Grid, args: Sequence[Any], out: torch.Tensor) -> Grid | None:
    # convolution(input, weight, bias, stride, padding, dilation, transposed, …)
    weight, transposed = args[1], args[6]
    if transposed or weight.ndim != 4:
        return None
    stride, padding, dilation = (_pair(args[i]) for i in (3, 4, 5))
    return grid.slide(weight.shape[-2:], stride, padding, dilation, out.shape[-2:])


def _pool(name: str, grid: Grid, args: Sequence[Any], out: torch.Tensor) -> Grid:
    # pool(input, kernel_size, stride, padding, dilation): avg_pool2d has no dilation
    padding_at, dilation_at = _POOLS[name]
    kernel = _pair(args[1])
    stride = _pair(args[2]) if len(args) > 2 and args[2] else kernel
    padding = _pair(args[padding_at]) if len(args) > padding_at else (0, 0)
    dilation = (1, 1)
    if name != "avg_pool2d" and len(args) > dilation_at:
        dilation = _pair(args[dilation_at])
    return grid.slide(kernel, stride, padding, dilation, out.shape[-2:])


def _pool_adaptively(grid: Grid, out: torch.Tensor) -> Grid | None:
    """Return the grid where the windows are all alike, else None."""
    if any(n % m for n, m in zip(grid.size, out.shape[-2:], strict=True)):
        return None
    window = [n // m for n, m in zip(grid.size, out.shape[-2:], strict=True)]
    if tuple(out.shape[-2:]) == (1, 1) and max(window) > 1:
        return None
    return grid.slide(window, window, (0, 0), (1, 1), out.shape[-2:])


def _pad(grid: Grid, padding: Sequence[int], out: torch.Tensor) -> Grid:
    # constant_pad_nd counts from the last axis: left, right, top, bottom
    left, top = padding[0], padding[2] if len(padding) > 2 else 0
    return grid.slide((1, 1), (1, 1), (top, left), (1, 1), out.shape[-2:])


def _over_channels(source: torch.Tensor, args: Sequence[Any]) -> bool:
    """Tell whether a reduction runs over the channel axis alone."""
    dims = [args[-1]] if isinstance(args[-1], int) else args[1] if len(args) > 1 else []
    if not isinstance(dims, (list, tuple)):
        return False
    axes = {dim % source.ndim for dim in dims}
    return axes == {source.ndim - 1} or (source.ndim == 4 and axes == {1})


def _pair(values: Sequence[int] | int) -> tuple[int, int]:
    if isinstance(values, int):
        return values, values
    return values[0], values[-1]


def _two(values: Sequence[int]) -> tuple[int, int]:
    return values[0], values[1]
