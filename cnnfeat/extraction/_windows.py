"""Operators computed again only where a part of their input has changed.

A `Window` is the part of an activation that a changed square of the image can reach: of
one size for all images of a batch, at a place of its own in each; everything around it
is as it is for the unchanged image, the *base*. Windows grow from layer to layer by
kernels and shrink by strides (Nakandala et al., SIGMOD 2019, "Incremental and
Approximate Inference for Faster Occlusion-based Deep CNN Explanations", section 3). The
numbers are those of the whole map; only the order of rounding may differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

Place = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Window:
    """The changed part of a batch of maps.

    Attributes
    ----------
    patch : tensor of shape (m, c, h, w)
        The new values.
    places : sequence of m (int, int)
        Upper left corner of each in its map.
    base : tensor of shape (1, c, H, W)
        The unchanged image's map.
    """

    patch: torch.Tensor
    places: Sequence[Place]
    base: torch.Tensor

    @property
    def size(self) -> Place:
        """Height and width of the changed part."""
        return self.patch.shape[2], self.patch.shape[3]

    @property
    def share(self) -> float:
        """Its share of the map."""
        return self.patch[0].numel() / self.base[0].numel()

    def whole(self) -> torch.Tensor:
        """Return the maps (m, c, H, W) with the changed part in its place."""
        return self.cut([(0, 0)] * len(self.places), tuple(self.base.shape[2:]))

    def cut(
        self, places: Sequence[Place], size: Sequence[int], fill: float = 0.0
    ) -> torch.Tensor:
        """Return parts (m, c, h, w) of the new maps; `fill` is beyond their edges."""
        if tuple(size) == self.size and list(places) == list(self.places):
            return self.patch
        height, width = size
        out = self.base.new_empty((len(places), self.base.shape[1], height, width))
        changed = zip(places, self.places, strict=True)
        for k, ((y, x), (there_y, there_x)) in enumerate(changed):
            _paste(out[k], self.base[0], (-y, -x), fill)
            _paste(out[k], self.patch[k], (there_y - y, there_x - x))
        return out


def _paste(
    out: torch.Tensor, source: torch.Tensor, at: Place, fill: float | None = None
) -> None:
    """Put maps (c, h, w) into others at a place, as far as they overlap."""
    (height, width), (h, w) = out.shape[1:], source.shape[1:]
    top, left = max(at[0], 0), max(at[1], 0)
    bottom, right = min(at[0] + h, height), min(at[1] + w, width)
    if fill is not None and (top, left, bottom, right) != (0, 0, height, width):
        out.fill_(fill)
    if bottom > top and right > left:
        out[:, top:bottom, left:right] = source[
            :, top - at[0] : bottom - at[0], left - at[1] : right - at[1]
        ]


@dataclass(frozen=True)
class Slide:
    """How a kernel slides: pairs of height and width."""

    kernel: Place
    stride: Place
    padding: Place
    dilation: Place

    def window(
        self, source: Window, shape: Sequence[int]
    ) -> tuple[list[Place], Place, list[Place], Place]:
        """Return where outputs change, and what they read: places and size of each.

        Parameters
        ----------
        source : Window
        shape : (H, W)
            Of the output's maps.
        """
        axes = [
            self._axis(axis, [place[axis] for place in source.places], source, shape)
            for axis in range(2)
        ]
        (y, h, from_y, n_y), (x, w, from_x, n_x) = axes
        return (
            list(zip(y, x, strict=True)),
            (h, w),
            list(zip(from_y, from_x, strict=True)),
            (n_y, n_x),
        )

    def _axis(
        self, axis: int, starts: list[int], source: Window, shape: Sequence[int]
    ) -> tuple[list[int], int, list[int], int]:
        step, pad = self.stride[axis], self.padding[axis]
        reach = (self.kernel[axis] - 1) * self.dilation[axis]
        n = min((source.size[axis] - 1 + reach) // step + 1, shape[axis])
        # The first output that reads the start: the smallest o, o * step + reach - pad
        # >= start. Moved in from the edges, it computes a little more than has changed.
        first = [-((reach - pad - start) // step) for start in starts]
        first = [min(max(o, 0), shape[axis] - n) for o in first]
        return first, n, [o * step - pad for o in first], (n - 1) * step + reach + 1


def convolve(source: Window, args: Sequence[Any], base: torch.Tensor) -> Window | None:
    """Return a convolution's window; None where it is transposed."""
    weight, bias = args[1], args[2]
    if args[6] or weight.ndim != 4:
        return None
    stride, padding, dilation = (_pair(args[k]) for k in (3, 4, 5))
    kernel = (int(weight.shape[2]), int(weight.shape[3]))
    slide = Slide(kernel, stride, padding, dilation)
    places, _, read, size = slide.window(source, base.shape[2:])
    patch = torch.nn.functional.conv2d(
        source.cut(read, size), weight, bias, stride, 0, dilation, args[8]
    )
    return Window(patch, places, base)


def pool(
    name: str, source: Window, args: Sequence[Any], base: torch.Tensor
) -> Window | None:
    """Return a pooling's window; None where windows at the edge are other ones."""
    kernel = _pair(args[1])
    stride = _pair(args[2]) if len(args) > 2 and args[2] else kernel
    padding = _pair(args[3]) if len(args) > 3 else (0, 0)
    is_max = name.startswith("max_pool2d")
    dilation = _pair(args[4]) if is_max and len(args) > 4 else (1, 1)
    rounds_up = args[5] if is_max and len(args) > 5 else False
    if not is_max:
        rounds_up = len(args) > 4 and args[4]
    if not is_max and (rounds_up or padding != (0, 0)):
        return None
    slide = Slide(kernel, stride, padding, dilation)
    places, _, read, size = slide.window(source, base.shape[2:])
    # Beyond the edge there is nothing that could be largest; so it is where a window
    # that was rounded up reaches over it.
    part = source.cut(read, size, fill=float("-inf") if is_max else 0.0)
    if is_max:
        patch = torch.nn.functional.max_pool2d(part, kernel, stride, 0, dilation)
    else:
        patch = torch.nn.functional.avg_pool2d(part, kernel, stride)
    return Window(patch, places, base)


def pad(source: Window, margins: Sequence[int], base: torch.Tensor) -> Window | None:
    """Return the window in a map with margins; None where they cut, or pad channels."""
    if len(margins) > 4 or min(margins) < 0:
        return None
    left, top = margins[0], margins[2] if len(margins) > 2 else 0
    places = [(y + top, x + left) for y, x in source.places]
    return Window(source.patch, places, base)


def aligned(windows: Sequence[Window]) -> tuple[list[torch.Tensor], list[Place]]:
    """Return what several windows are where any of them has changed, and its places."""
    shape = windows[0].base.shape[2:]
    size, tops = [], []
    for axis in range(2):
        starts = [[place[axis] for place in one.places] for one in windows]
        ends = [
            [s + one.size[axis] for s in own]
            for own, one in zip(starts, windows, strict=True)
        ]
        first = [min(own) for own in zip(*starts, strict=True)]
        last = [max(own) for own in zip(*ends, strict=True)]
        n = max(b - a for a, b in zip(first, last, strict=True))
        size.append(n)
        tops.append([min(a, int(shape[axis]) - n) for a in first])
    places = list(zip(*tops, strict=True))
    return [one.cut(places, size) for one in windows], places


def _pair(values: Any) -> Place:
    if isinstance(values, int):
        return values, values
    return int(values[0]), int(values[-1])
