"""An extractor and what follows it as one program for any number of images.

The taps end the pass with an exception, which `torch.export` cannot follow; so the
operations are recorded first, as for the engines, but for a batch of any size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch._decomp import get_decompositions
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim, ExportedProgram
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import (
    DimDynamic,
    ShapeEnv,
    StatelessSymbolicContext,
)

from cnnfeat.errors import NetworkError
from cnnfeat.extraction._engines import quiet_compilers
from cnnfeat.extraction._extractor import Extractor
from cnnfeat.extraction._graphs import FAILURES, first_line, without_fused_attention
from cnnfeat.extraction._tap_module import TapModule

# Of the images that are recorded: no length in a network that could be taken for it.
_RECORDED = 7
# PyTorch's own operation fixes the number of images that it was recorded with.
_DECOMPOSED = (torch.ops.aten.constant_pad_nd,)


class _Program(nn.Module):
    """Pixels of one crop or several through the taps, side by side, and a tail."""

    def __init__(self, body: TapModule, tail: nn.Module, has_crops: bool) -> None:
        super().__init__()
        self.body, self.tail, self.has_crops = body, tail, has_crops

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        features = self.body(pixels if self.has_crops else pixels.unsqueeze(1))
        joined = torch.cat([rows.flatten(1) for rows in features], 1)  # (m, d)
        result: torch.Tensor = self.tail(joined)
        return result


def record_program(extractor: Extractor, tail: nn.Module) -> ExportedProgram:
    """Return the operations from pixels to what `tail` makes of the features.

    Parameters
    ----------
    extractor : Extractor
        Open, on the CPU, in fp32.
    tail : torch.nn.Module
        Takes features (m, n_features), float32: the layers side by side, in order.

    Returns
    -------
    torch.export.ExportedProgram
        Takes pixels (m, h, w, 3), uint8, for any m from 1; (m, 10, h, w, 3) where the
        extractor takes ten crops.

    Raises
    ------
    NetworkError
        If the network does something that no graph for any number of images holds.
    """
    example = extractor.module.example(_RECORDED)
    has_crops = example.shape[1] > 1
    pixels = example if has_crops else example[:, 0]
    program = _Program(extractor.module, tail, has_crops)
    try:
        with quiet_compilers(), torch.no_grad(), without_fused_attention():
            graph = _record(program, pixels)
            return torch.export.export(
                graph, (pixels,), dynamic_shapes=({0: Dim("batch", min=1)},)
            )
    except FAILURES as error:
        raise NetworkError(
            f"{extractor.network.name!r} cannot be recorded for any number of images: "
            f"{first_line(error)}"
        ) from error


def _record(program: nn.Module, pixels: torch.Tensor) -> torch.fx.GraphModule:
    """Return the operations on a batch whose length is a symbol."""
    fakes = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    fixed = [DimDynamic.STATIC] * (pixels.ndim - 1)
    lengths: Any = StatelessSymbolicContext([DimDynamic.DYNAMIC, *fixed])
    batch = fakes.from_tensor(pixels, symbolic_context=lengths)
    decompositions: Any = get_decompositions(_DECOMPOSED)
    with fakes:
        graph = make_fx(program, decompositions, _allow_non_fake_inputs=True)(batch)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph
