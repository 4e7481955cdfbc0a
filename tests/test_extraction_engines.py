"""Engines: the same features whichever runs, and the choice between them."""

import importlib.util
import json
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from cnnfeat.cli.main import cli
from cnnfeat.errors import CnnfeatError, CnnfeatWarning, DeviceError
from cnnfeat.extraction import _graphs as graphs, _planning as planning
from cnnfeat.extraction._engines import (
    TOLERANCES,
    EagerEngine,
    EngineError,
    check_agreement,
)
from cnnfeat.extraction._graphs import OpenVINOEngine, record_graph
from cnnfeat.extraction._tap_module import TapModule
from cnnfeat.images import list_images, load_batches
from cnnfeat.layers import Tapper, layer_table, resolve_layers, tapped_macs
from cnnfeat.networks import load_network

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)
LAYERS = ("features.0", "features.1", "features.3", "classifier")


def tap_module(network, layers=LAYERS, **how):
    return TapModule(network, resolve_layers(network, layers), **how)


def batch(n, n_crops=1, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, n_crops, 32, 32, 3), dtype=np.uint8)


def by_hand(network, images, layers=LAYERS):
    """The activations without any engine: normalise, tap, (n * n_crops, ...)."""
    pixels = torch.from_numpy(images).flatten(0, 1)  # (n * n_crops, h, w, 3)
    with Tapper(network, resolve_layers(network, layers)) as tapper:
        found = tapper(network.weights.preprocessing.normalize(pixels).contiguous())
    return {name: tensor.numpy() for name, tensor in found.items()}


def test_eager_equals_the_network_run_by_hand(tiny_network):
    images = batch(5)
    expected = by_hand(tiny_network, images)
    found = EagerEngine(tap_module(tiny_network))(images)
    assert list(found) == list(LAYERS)
    for name in LAYERS:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)
    assert found["features.0"].min() < 0 <= found["features.1"].min()


def test_ten_crops_are_averaged_or_stacked(tiny_network):
    images = batch(3, n_crops=10)
    each = by_hand(tiny_network, images, ["classifier"])["classifier"]
    each = each.reshape(3, 10, -1)
    for crops, expected in (("ten", each.mean(1)), ("ten-stacked", each)):
        module = tap_module(tiny_network, ["classifier"], crops=crops)
        found = EagerEngine(module)(images)["classifier"]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        module.close()


def engines(module, batch_size):
    """Every graph engine that is quick to build here."""
    if importlib.util.find_spec("openvino"):
        yield OpenVINOEngine(module, batch_size, n_threads=2)


@needs_openvino
@pytest.mark.parametrize("pool", ["none", "avg", "max", "pyramid"])
def test_graph_engines_agree_whatever_the_size_of_the_batch(tiny_network, pool):
    layers = ("features.0", "features.1", "features.3")
    module = tap_module(tiny_network, layers, pool=pool)
    eager = EagerEngine(module)
    for engine in engines(module, 4):
        for n in (1, 3, 4):
            images = batch(n, seed=n)
            expected, found = eager(images), engine(images)
            check_agreement(expected, found, engine.name)
            assert {k: v.shape for k, v in found.items()} == {
                k: v.shape for k, v in expected.items()
            }


SILENT = """
from tiny import make_tiny_network
from cnnfeat.extraction._graphs import OpenVINOEngine
from test_extraction_engines import tap_module
OpenVINOEngine(tap_module(make_tiny_network()), 1, n_threads=1)
from openvino.tools.ovc import telemetry_utils
print(telemetry_utils.tm.__name__)
"""


@needs_openvino
def test_openvino_sends_no_report_of_its_use():
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", SILENT], cwd=here, capture_output=True, text=True
    )
    assert done.stdout == "openvino.tools.ovc.telemetry_stub\n", done.stderr


@needs_openvino
def test_openvino_in_flight_gives_each_batch_its_own_features(tiny_network):
    module = tap_module(tiny_network)
    engine = OpenVINOEngine(module, 4, n_threads=2)
    alone = [engine(batch(4, seed=k)) for k in range(6)]
    tickets, together = [], []
    for k in range(6):
        tickets.append(engine.start(batch(4, seed=k)))
        if len(tickets) == engine.depth:
            together.append(engine.finish(tickets.pop(0)))
    together += [engine.finish(ticket) for ticket in tickets]
    for a, b in zip(alone, together, strict=True):
        for name in LAYERS:
            np.testing.assert_array_equal(a[name], b[name])


@needs_openvino
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_is_within_its_tolerance_and_not_within_fp32_s(
    tiny_network, precision
):
    images = batch(4)
    reference = EagerEngine(tap_module(tiny_network, ["classifier"]))(images)
    module = tap_module(tiny_network, ["classifier"], precision=precision)
    with module.in_fp32():
        again = EagerEngine(module)(images)
    np.testing.assert_array_equal(again["classifier"], reference["classifier"])
    found = EagerEngine(module)(images)
    assert not np.array_equal(found["classifier"], reference["classifier"])
    check_agreement(reference, found, "eager", precision)
    engine = OpenVINOEngine(module, 4, 2, precision)
    check_agreement(reference, engine(images), "openvino", precision)
    far = {"classifier": found["classifier"] + 0.15 * np.ptp(reference["classifier"])}
    with pytest.raises(EngineError, match=f"engine other in {precision}: layer"):
        check_agreement(reference, far, "other", precision)


@needs_openvino
@pytest.mark.images
@pytest.mark.weights
def test_half_precision_is_taken_or_refused_by_its_tolerance_on_real_images(
    caltech101_dir, squeezenet_weights
):
    # Processors differ in how they round; whether one is within is counted here again.
    network = load_network(
        "squeezenet1_1", weights=str(squeezenet_weights), device="cpu"
    )
    taps = resolve_layers(network, ["features.12"])
    image_list = list_images(caltech101_dir / "accordion")
    batches = load_batches(image_list, network.weights.preprocessing, batch_size=8)
    images = next(batches).images_nhwc
    reference = EagerEngine(TapModule(network, taps))(images)
    expected = reference["features.12"].reshape(8, -1).astype(float)
    for precision, (least_cosine, most_difference) in TOLERANCES.items():
        module = TapModule(network, taps, precision=precision)
        found = OpenVINOEngine(module, 8, 2, precision)(images)
        rows = found["features.12"].reshape(8, -1).astype(float)
        unit, own = (X / np.linalg.norm(X, axis=1)[:, None] for X in (expected, rows))
        difference = np.abs(rows - expected).max() / np.ptp(expected)
        cosine = (unit * own).sum(axis=1).min()
        assert cosine > 0.99
        if cosine >= least_cosine and difference <= most_difference:
            check_agreement(reference, found, "openvino", precision)
        else:
            with pytest.raises(EngineError, match="is not what eager computes"):
                check_agreement(reference, found, "openvino", precision)


class Product(nn.Module):
    """Rows that are no plain block of memory times one matrix, or times one each."""

    def __init__(self, matrix):
        super().__init__()
        self.register_buffer("matrix", matrix)

    def example(self, batch_size):
        generator = torch.Generator().manual_seed(batch_size)
        return torch.randn(batch_size, 5, 3, generator=generator)

    def forward(self, rows):
        return (torch.matmul(rows.transpose(0, 1), self.matrix),)


def test_a_recorded_graph_holds_one_matrix_instead_of_a_copy_for_each_row(monkeypatch):
    generator = torch.Generator().manual_seed(0)

    def n_batched(graph):
        return sum(n.target is torch.ops.aten.bmm.default for n in graph.graph.nodes)

    one, each = (
        Product(torch.randn(shape, generator=generator))
        for shape in [(3, 4), (5, 3, 4)]
    )
    for module, expected in ((one, 0), (each, 1)):
        graph = record_graph(module, 2)
        assert n_batched(graph) == expected
        rows = module.example(2)
        torch.testing.assert_close(graph(rows)[0], module(rows)[0])
    monkeypatch.setattr(graphs, "_share_matrix", lambda node: None)
    assert n_batched(record_graph(one, 2)) == 1


@pytest.mark.slow
@needs_openvino
def test_openvino_agrees_with_eager_on_a_vision_transformer():
    network = load_network("timm/vit_tiny_patch16_224", weights="random", device="cpu")
    module = TapModule(network, resolve_layers(network, []))
    images = module.example(2).numpy()
    engine = OpenVINOEngine(module, 2, n_threads=2)
    check_agreement(EagerEngine(module)(images), engine(images), "openvino")


@pytest.mark.slow
def test_compile_agrees_with_eager(tiny_network):
    from cnnfeat.extraction._graphs import CompileEngine

    module = tap_module(tiny_network)
    engine = CompileEngine(module, 4)
    for n in (1, 4):
        images = batch(n, seed=n)
        check_agreement(EagerEngine(module)(images), engine(images), "compile")


def test_disagreement_is_named():
    a = {"fc": np.arange(12, dtype=np.float32).reshape(3, 4)}
    check_agreement(a, {"fc": a["fc"] + 1e-5}, "other")
    wrong = a["fc"].copy()
    wrong[1] = wrong[1, ::-1]
    with pytest.raises(EngineError, match="engine other: layer 'fc' is not what eager"):
        check_agreement(a, {"fc": wrong}, "other")
    with pytest.raises(EngineError, match="difference nan"):
        check_agreement(a, {"fc": a["fc"] * np.nan}, "other")


class Greedy(nn.Module):
    """Computes at most four images at once, as a device with little memory would."""

    def __init__(self, module, error):
        super().__init__()
        self.module, self.error, self.names = module, error, module.names
        self.device, self.sizes = torch.device("cpu"), []

    def forward(self, images):
        if len(images) > 4:
            raise self.error("DefaultCPUAllocator: can't allocate memory")
        self.sizes.append(len(images))
        return self.module(images)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_a_batch_too_large_is_halved_once_and_says_so(tiny_network, error):
    module = tap_module(tiny_network)
    images = batch(8)
    expected = EagerEngine(module)(images)
    greedy = Greedy(module, error)
    engine = EagerEngine(greedy)
    with pytest.warns(CnnfeatWarning, match="8 images at once .* going on with 4"):
        found = engine(images)
    assert greedy.sizes == [4, 4]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine(images)  # it has learned
    for name in LAYERS:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)


def test_one_image_too_large_is_a_named_error(tiny_network):
    greedy = Greedy(tap_module(tiny_network), RuntimeError)
    greedy.forward = lambda images: greedy.error_out()
    greedy.error_out = lambda: (_ for _ in ()).throw(torch.OutOfMemoryError("no"))
    with pytest.raises(DeviceError, match="not enough memory for one image"):
        EagerEngine(greedy)(batch(1))


class Wrong(EagerEngine):
    """An eager engine under another name whose features are off by a factor."""

    def __init__(self, module, name, factor):
        super().__init__(module)
        self.name, self.factor = name, factor

    def finish(self, ticket):
        return {k: v * self.factor for k, v in super().finish(ticket).items()}


@pytest.fixture
def choose(tiny_network, monkeypatch):
    """Plan with stand-ins for the engines; names the engine and the batch size.

    `made` says what is wrong with an engine: a factor on its features, or an error.
    """

    def choose(asked, n_images, made=None, size=4, n_macs=10**9, **how):
        made = made or {}

        def build(name, module, batch_size):
            if isinstance(made.get(name), Exception):
                raise made[name]
            return Wrong(module, name, made.get(name, 1.0))

        monkeypatch.setattr(planning, "_build", build)
        monkeypatch.setattr(planning, "usable_cores", lambda: 2)
        module = tap_module(tiny_network, **how)
        first = partial(batch, n_crops=10 if "crops" in how else 1)
        plan = planning.Planner(module, n_macs, n_images, first).plan(asked, size)
        module.close()
        return plan.engine.name, plan.batch_size

    return choose


def test_auto_takes_openvino_where_the_run_is_long(choose):
    # 10^9 multiply-adds an image, 2 x 2 10^10 of them a second: 40 images a second.
    assert choose("auto", 199)[0] == "eager"
    assert choose("auto", 200)[0] == "openvino"
    assert choose("auto", 32, size=1, crops="ten")[0] == "openvino"
    assert choose("auto", 2000, n_macs=10**8)[0] == "openvino"


def test_auto_stays_eager_for_attention(choose, monkeypatch):
    monkeypatch.setattr(planning, "_has_attention", lambda module: True)
    assert choose("auto", 10**6)[0] == "eager"
    assert choose("openvino", 10)[0] == "openvino"
    monkeypatch.undo()
    network = load_network("vit_b_32", weights="random", device="cpu")
    module = tap_module(network, ["encoder.ln"])
    assert planning._has_attention(module)


def test_auto_falls_back_with_a_warning(choose):
    missing = EngineError("openvino is not installed: pip install 'cnnfeat[openvino]'")
    with pytest.warns(CnnfeatWarning, match="not installed.*; going on without"):
        assert choose("auto", 9000, {"openvino": missing})[0] == "eager"
    with pytest.warns(CnnfeatWarning, match="openvino: layer .* is not what eager"):
        assert choose("auto", 9000, {"openvino": 1.01})[0] == "eager"


def test_every_precision_has_its_tolerance(choose):
    for precision, allowed in (("fp32", 1.0005), ("bf16", 1.05), ("fp16", 1.01)):
        how = {"size": 8, "precision": precision}
        assert choose("openvino", 9, {"openvino": allowed}, **how)[0] == "openvino"
        with pytest.raises(DeviceError, match=r"largest difference .*at most"):
            choose("openvino", 9, {"openvino": 1 + 8 * (allowed - 1)}, **how)


def test_an_engine_asked_for_is_taken_or_refused(choose):
    assert choose("eager", 9000)[0] == "eager"
    assert choose("openvino", 1)[0] == "openvino"
    with pytest.raises(DeviceError, match="compiler; or give `engine=auto`"):
        choose("compile", 9000, {"compile": EngineError("no C++ compiler")})


def test_batch_sizes_count_crops_and_never_more_than_all_images(choose):
    assert choose("eager", 9000, size=None) == ("eager", 8)
    assert choose("eager", 5, size=None) == ("eager", 5)
    assert choose("eager", 9000, size=64) == ("eager", 64)
    assert choose("eager", 9000, size=None, crops="ten") == ("eager", 1)


def test_the_work_is_counted_to_the_deepest_tap():
    network = load_network("squeezenet1_1", weights="random", device="cpu")
    rows = {row.name: row.macs for row in layer_table(network)}
    taps = resolve_layers(network, ["features.3", "features.0"])
    names = list(rows)
    before = names[: names.index("features.3.expand3x3_activation") + 1]
    assert tapped_macs(network, taps) == sum(rows[name] for name in before)
    whole = resolve_layers(network, ["classifier"])
    assert tapped_macs(network, whole) == sum(rows.values())


def extracted(image_dir, output, *options):
    arguments = ["extract", str(image_dir), "-o", str(output), "--device", "cpu"]
    network = ["--model", "squeezenet1_1", "--weights", "random"]
    result = CliRunner().invoke(
        cli, [*arguments, *network, "--layer", "features.1", *options]
    )
    assert result.exit_code == 0, result.output
    with h5py.File(output) as file:
        return file["features/features.1"][:], dict(file["provenance"].attrs)


@pytest.mark.parametrize(
    "engine", ["eager", pytest.param("openvino", marks=needs_openvino)]
)
def test_rows_are_equal_to_the_bit_whatever_the_workers(image_dir, tmp_path, engine):
    common = ("--batch-size", "5", "--pool", "avg", "--engine", engine)
    expected, _ = extracted(image_dir, tmp_path / "0.h5", *common, "--workers", "0")
    for n in ("1", "2"):
        found, _ = extracted(image_dir, tmp_path / "n.h5", *common, "--workers", n)
        np.testing.assert_array_equal(found, expected)
        (tmp_path / "n.h5").unlink()


@needs_openvino
@pytest.mark.parametrize("n_before", [1, 2])
def test_openvino_rows_are_equal_to_the_bit_wherever_a_run_resumes(
    image_dir, tmp_path, monkeypatch, n_before
):
    from cnnfeat.extraction import _run as pipeline

    common = ("--batch-size", "5", "--pool", "avg", "--engine", "openvino")
    expected, _ = extracted(image_dir, tmp_path / "whole.h5", *common)
    monkeypatch.setattr(pipeline, "SECONDS_BETWEEN_COMMITS", -1.0)
    finish, counts = OpenVINOEngine.finish, {"batches": 0}

    def fails(self, ticket):
        counts["batches"] += 1
        if counts["batches"] > 1 + n_before:  # the first is the check of the engine
            raise CnnfeatError("stopped by the test")
        return finish(self, ticket)

    output = tmp_path / "resumed.h5"
    with monkeypatch.context() as patch:
        patch.setattr(OpenVINOEngine, "finish", fails)
        with pytest.raises(AssertionError, match="stopped by the test"):
            extracted(image_dir, output, *common, "--workers", "2")
    found, _ = extracted(image_dir, output, *common, "--resume", "--workers", "1")
    np.testing.assert_array_equal(found, expected)


@needs_openvino
def test_the_engine_is_recorded_and_changes_little(image_dir, tmp_path):
    common = ("--workers", "0", "--pool", "avg", "--batch-size", "5")
    a, eager = extracted(image_dir, tmp_path / "a.h5", *common, "--engine", "eager")
    b, other = extracted(image_dir, tmp_path / "b.h5", *common, "--engine", "openvino")
    check_agreement({"x": a}, {"x": b}, "openvino")
    assert (eager["engine"], other["engine"]) == ("eager", "openvino")
    assert "openvino" in other
    assert "openvino" not in eager
    assert eager["decoder"] == "pil"


def test_stacked_crops_average_to_the_averaged_ones(image_dir, tmp_path):
    common = ("--pool", "avg", "--workers", "0")
    ten, _ = extracted(image_dir, tmp_path / "a.h5", *common, "--crops", "ten")
    all_ten, record = extracted(
        image_dir, tmp_path / "b.h5", *common, "--crops", "ten-stacked"
    )
    assert all_ten.shape == (12, 10, 64)
    np.testing.assert_allclose(all_ten.mean(1), ten, rtol=1e-5, atol=1e-6)
    assert record["crops"] == "ten-stacked"


def test_time_is_told(image_dir, tmp_path):
    arguments = ["extract", str(image_dir), "-o", str(tmp_path / "f.h5"), "--json"]
    arguments.append("--verbose")
    network = ["--model", "squeezenet1_1", "--weights", "random", "--device", "cpu"]
    layer = ["--layer", "features.1", "--pool", "avg", "--workers", "0"]
    result = CliRunner().invoke(cli, [*arguments, *network, *layer])
    time = json.loads(result.stdout)["time"]
    assert set(time) == {
        *("start", "decode", "forward", "write"),
        *("wait_for_images", "wait_for_writer", "limit"),
    }
    assert time["limit"] in ("decode", "forward", "write")
    assert "the limit was" in result.stderr
