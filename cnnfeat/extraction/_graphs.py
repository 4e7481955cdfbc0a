"""Engines that compute from a graph: torch.compile and OpenVINO.

The taps are hooks that end the pass with an exception, which compilers cannot follow.
So the module is run once while `make_fx` records the operations: what comes
out is a plain graph of just what the taps need, pooling and averaging included, for one
batch size. The last batch is padded to it.
"""

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.fx.experimental.proxy_tensor import make_fx

from cnnfeat.extraction._engines import (
    Engine,
    EngineError,
    _CudaLane,
    pad_batch,
    quiet_compilers,
)
from cnnfeat.extraction._model_cache import ModelCache, cache_folder
from cnnfeat.extraction._tap_module import TapModule

# What compilers raise on networks that they cannot take; anything else is our error.
FAILURES = (
    *(RuntimeError, ImportError, OSError, TypeError, ValueError),
    *(LookupError, AttributeError, AssertionError),
)


@contextlib.contextmanager
def without_fused_attention() -> Iterator[None]:
    """Let attention be computed by operations that compilers know, for a while."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def record_graph(module: TapModule, batch_size: int) -> fx.GraphModule:
    """Return the operations between a batch of uint8 crops and the taps' features.

    Raises
    ------
    EngineError
        If the network does something that no fixed graph holds.
    """
    try:
        with torch.no_grad(), without_fused_attention():
            # On fake tensors, which have shapes and no values: nothing is computed.
            record = make_fx(module, tracing_mode="fake", _allow_non_fake_inputs=True)
            graph = record(module.example(batch_size))
    except FAILURES as error:
        raise EngineError(
            f"the network is no fixed graph: {first_line(error)}"
        ) from error
    for node in graph.graph.nodes:
        # Compilers lay tensors out in other ways than the one that was recorded (the
        # result of attention): what was a view then need not be one for them.
        if node.target is torch.ops.aten.view.default:
            node.target = torch.ops.aten.reshape.default
        elif node.target is torch.ops.aten.bmm.default:
            _share_matrix(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def _share_matrix(node: fx.Node) -> None:
    """Make a batch of products with copies of one matrix a product with that matrix.

    PyTorch multiplies (n, m, k) by (k, l) in this way where the first is no plain
    block of memory, as in the attention of vision transformers. Its copies are views;
    a compiler that computes constants ahead makes them real, 17 GB for ViT-B/16.
    """
    aten = torch.ops.aten
    left: Any = node.args[0]
    copies: Any = node.args[1]
    (n, m, k), width = _shape(left), _shape(copies)[2]
    matrix: Any = copies
    while _shape(matrix)[-2:] == (k, width) and len(_shape(matrix)) > 2:
        if matrix.target not in (aten.reshape.default, aten.expand.default):
            return
        matrix = matrix.args[0]
    if _shape(matrix) != (k, width):
        return
    graph = node.graph
    with graph.inserting_before(node):
        rows = graph.call_function(aten.reshape.default, (left, [n * m, k]))
        product = graph.call_function(aten.mm.default, (rows, matrix))
        shape = [n, m, width]
        result = graph.call_function(aten.reshape.default, (product, shape))
    node.replace_all_uses_with(result)


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


class CompileEngine(Engine):
    """The graph by torch.compile: weights frozen on the CPU, CUDA graphs on a GPU.

    Raises
    ------
    EngineError
        If there is no C++ compiler, or the network cannot be compiled.
    """

    name = "compile"

    def __init__(self, module: TapModule, batch_size: int) -> None:
        self._names = module.names
        self._batch_size = batch_size
        on_gpu = module.device.type == "cuda"
        self._lane = _CudaLane(module.device) if on_gpu else None
        self.depth = 2 if on_gpu else 1
        how: dict[str, Any] = (
            {"mode": "reduce-overhead"} if on_gpu else {"options": {"freezing": True}}
        )
        module.to(memory_format=torch.channels_last)
        graph = record_graph(module, batch_size)
        try:
            with quiet_compilers(), torch.no_grad():
                self._compiled = torch.compile(graph, dynamic=False, **how)
                self._compiled(module.example(batch_size))
        except FAILURES as error:
            raise EngineError(f"torch.compile: {first_line(error)}") from error

    def start(self, images_nhwc: np.ndarray) -> Any:
        """Compute on the CPU; only queue the work on a GPU."""
        padded = pad_batch(images_nhwc, self._batch_size)
        with torch.no_grad():
            if self._lane:
                return len(images_nhwc), self._lane.send(self._compiled, padded)
            return len(images_nhwc), self._compiled(torch.from_numpy(padded))

    def finish(self, ticket: Any) -> dict[str, np.ndarray]:
        """Return the features, on the host, without those of the padding."""
        n_rows, outputs = ticket
        tensors = self._lane.receive(outputs) if self._lane else outputs
        return {
            name: tensor.numpy()[:n_rows]
            for name, tensor in zip(self._names, tensors, strict=True)
        }


class OpenVINOEngine(Engine):
    """The graph by OpenVINO on the CPU, one batch on each half of the cores.

    Two batches in flight need no barrier between cores within a layer, and leave a core
    that decodes images in peace.

    Raises
    ------
    EngineError
        If the package is missing, or the network cannot be converted.
    """

    name = "openvino"

    def __init__(
        self,
        module: TapModule,
        batch_size: int,
        n_threads: int,
        precision: str = "fp32",
    ) -> None:
        if module.device.type != "cpu":
            raise EngineError("openvino runs on the CPU here: give `device=cpu`")
        self._names = module.names
        self._batch_size = batch_size
        self.depth = min(2, n_threads)
        settings = {
            # Its own default on CPUs with bf16 units would be bf16.
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}[
                precision
            ],
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": self.depth,
            "INFERENCE_NUM_THREADS": n_threads,
        }
        compiled = _compile_openvino(module, batch_size, settings)
        self._free = [compiled.create_infer_request() for _ in range(self.depth)]

    def start(self, images_nhwc: np.ndarray) -> Any:
        """Begin a batch in the background."""
        request = self._free.pop()
        padded = pad_batch(images_nhwc, self._batch_size)
        request.start_async([padded], share_inputs=True)
        return len(images_nhwc), padded, request  # `padded` must outlive the request

    def finish(self, ticket: Any) -> dict[str, np.ndarray]:
        """Wait for the batch; copy its features, since the request is used again."""
        n_rows, _, request = ticket
        request.wait()
        self._free.append(request)
        return {
            name: request.get_output_tensor(k).data[:n_rows].copy()
            for k, name in enumerate(self._names)
        }


def _compile_openvino(
    module: TapModule, batch_size: int, settings: dict[str, Any]
) -> Any:
    # It reports its use to its makers unless the module for that cannot be imported.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino  # optional, and it starts threads
    except ImportError as error:
        raise EngineError(
            "openvino is not installed: pip install 'cnnfeat[openvino]'"
        ) from error
    frontend, core = openvino.frontend, openvino.Core()
    cache = ModelCache(cache_folder())
    fingerprint = f"{module.fingerprint()} {batch_size} openvino {openvino.__version__}"
    kept = cache.find(fingerprint)
    try:
        if kept is not None:
            return core.compile_model(core.read_model(kept), "CPU", settings)
        model = _convert(openvino, module, batch_size)
        save = partial(openvino.save_model, model, compress_to_fp16=False)
        cache.keep(fingerprint, save)
        # A model that was written and read rounds otherwise than one that was not: to
        # have the same bits with and without a cache, it is always read.
        with tempfile.TemporaryDirectory() as folder:
            save(Path(folder, "model.xml"))
            read = core.read_model(Path(folder, "model.xml"))
            return core.compile_model(read, "CPU", settings)
    except (*FAILURES, frontend.OpConversionFailure, frontend.GeneralFailure) as error:
        raise EngineError(f"openvino: {first_line(error)}") from error


def _convert(openvino: Any, module: TapModule, batch_size: int) -> Any:
    with quiet_compilers(), torch.no_grad():
        graph = record_graph(module, batch_size)
        example = (module.example(batch_size),)
        return openvino.convert_model(torch.export.export(graph, example))


def first_line(error: BaseException) -> str:
    """Return the kind of an error and the first line of its message."""
    lines: Sequence[str] = [s for s in str(error).splitlines() if s.strip()]
    return f"{type(error).__name__}: {lines[0].strip() if lines else ''}"[:200]
