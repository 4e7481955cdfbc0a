"""Engines: the same features whichever runs, and the choice between them."""

import importlib.util
import json
import warnings

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
from cnnfeat.extraction._speeds import SpeedNote, SpeedNotes
from cnnfeat.extraction._tap_module import TapModule
from cnnfeat.images import list_images, load_batches
from cnnfeat.layers import Tapper, resolve_layers
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
    images = next(batches).images
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


# -- the choice ------------------------------------------------------------------------


class Timed(EagerEngine):
    """An eager engine under another name, correct or not."""

    def __init__(self, module, name, factor=1.0):
        super().__init__(module)
        self.name, self.factor = name, factor

    def finish(self, ticket):
        return {k: v * self.factor for k, v in super().finish(ticket).items()}


@pytest.fixture
def choose(tiny_network, monkeypatch, tmp_path):
    """Plan with stand-ins for the engines; names the engine and the batch size.

    `seconds` gives the seconds an image by engine or by (engine, batch size), `made`
    what is wrong with an engine: a factor on its features, or an error. `tried` lists
    what was timed and built.
    """
    monkeypatch.setenv("CNNFEAT_CACHE", str(tmp_path / "cache"))

    def choose(asked, n_images, seconds, made=None, size=4, **how):
        made, choose.tried = made or {}, []

        def build(name, module, batch_size):
            choose.tried.append(f"build {name} {batch_size}")
            if isinstance(made.get(name), Exception):
                raise made[name]
            return Timed(module, name, made.get(name, 1.0))

        def timed(engine, images):
            choose.tried.append(f"time {engine.name} {len(images)}")
            return seconds.get((engine.name, len(images)), seconds.get(engine.name))

        monkeypatch.setattr(planning, "_build", build)
        monkeypatch.setattr(planning, "_seconds_per_image", timed)
        module = tap_module(tiny_network, **how)
        n_crops = 10 if "crops" in how else 1
        planner = planning.Planner(module, n_images, lambda n: batch(n, n_crops))
        plan = planner.plan(asked, size)
        module.close()
        return plan.engine.name, plan.batch_size

    return choose


SECONDS = {"eager": 0.03, "openvino": 0.01, "compile": 0.02}


def test_auto_takes_what_pays_for_its_start(choose, monkeypatch):
    monkeypatch.setenv("CNNFEAT_CACHE", "off")
    assert choose("auto", 100, SECONDS)[0] == "eager"  # 3 s in all: nothing pays
    assert choose("auto", 9000, SECONDS)[0] == "openvino"
    assert choose("auto", 9000, {**SECONDS, "openvino": 0.04})[0] == "compile"
    assert choose("auto", 2000, {**SECONDS, "openvino": 0.04})[0] == "eager"
    # Alone as fast: while images are decoded beside it, faster.
    assert choose("auto", 9000, dict.fromkeys(SECONDS, 0.03))[0] == "openvino"
    slower = {"eager": 0.03, "openvino": 0.035, "compile": 0.03}
    assert choose("auto", 9000, slower)[0] == "eager"


def test_auto_falls_back_with_a_warning(choose):
    missing = EngineError("openvino is not installed: pip install 'cnnfeat[openvino]'")
    with pytest.warns(CnnfeatWarning, match="not installed.*; going on without"):
        assert choose("auto", 2000, SECONDS, {"openvino": missing})[0] == "eager"
    with pytest.warns(CnnfeatWarning, match="openvino: layer .* is not what eager"):
        assert choose("auto", 9000, SECONDS, {"openvino": 1.01})[0] == "compile"


def test_every_precision_has_its_tolerance(choose):
    for precision, allowed in (("fp32", 1.0005), ("bf16", 1.05), ("fp16", 1.01)):
        how = {"size": 8, "precision": precision}
        made = {"openvino": allowed}
        assert choose("openvino", 9, SECONDS, made, **how)[0] == "openvino"
        made = {"openvino": 1 + 8 * (allowed - 1)}
        with pytest.raises(DeviceError, match=r"largest difference .*at most"):
            choose("openvino", 9, SECONDS, made, **how)


def test_an_engine_asked_for_is_taken_or_refused(choose):
    assert choose("eager", 9000, SECONDS)[0] == "eager"
    assert choose("openvino", 1, SECONDS)[0] == "openvino"
    with pytest.raises(DeviceError, match="compiler; or give --engine auto"):
        choose("compile", 9000, SECONDS, {"compile": EngineError("no C++ compiler")})


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_batch_sizes_count_crops_and_never_more_than_all_images(device):
    usual, other = {"cpu": (8, 16), "cuda": (256, 64)}[device]
    assert planning.batch_sizes(9000, 1, device) == [usual, other]
    assert planning.batch_sizes(5, 1, device) == [5]
    ten = [-(-usual // 10), -(-other // 10)]
    assert planning.batch_sizes(9000, 10, device) == ten


def test_the_batch_size_is_measured_where_the_run_is_long(choose):
    slow_at = {("eager", 8): 0.03, ("eager", 16): 0.02}
    assert choose("eager", 2000, slow_at, size=None) == ("eager", 8)
    assert choose.tried == []  # 72 trial images would be more than one in 40
    assert choose("eager", 9000, slow_at, size=None) == ("eager", 16)
    assert choose.tried == ["time eager 8", "time eager 16"] * 3
    assert choose("eager", 9000, slow_at, size=64) == ("eager", 64)
    assert choose("eager", 9, slow_at, size=64) == ("eager", 9)
    quick = {("eager", 1): 0.03, ("eager", 2): 0.04}
    assert choose("eager", 9000, quick, size=None, crops="ten") == ("eager", 1)


def test_what_was_measured_is_noted_and_not_measured_again(choose):
    times = {**SECONDS, ("eager", 8): 0.03, ("eager", 16): 0.02}
    first = choose("auto", 9000, times, size=None)
    assert first == ("openvino", 16)
    other = {("eager", 8): 0.001, ("eager", 16): 1.0, "openvino": 2.0}
    assert choose("auto", 9000, other, size=None) == first
    assert choose.tried == ["build openvino 16"]
    # Noted seconds decide whether it pays: as they would have the first time.
    assert choose("auto", 200, other, size=None) == ("eager", 16)
    assert choose.tried == []
    # Another size that was asked for is other work.
    assert choose("auto", 9000, {**SECONDS, "openvino": 0.04}, size=4)[0] == "compile"
    assert choose("auto", 9000, other, size=None) == first


def test_an_engine_that_is_hardly_faster_or_fails_is_measured_again(choose):
    hardly = {"eager": 0.03, "openvino": 0.033, "compile": 1.0}
    assert choose("auto", 9000, hardly) == ("openvino", 4)
    assert choose("auto", 9000, {**SECONDS, "openvino": 1.0}) == ("compile", 4)
    broken = {"compile": EngineError("no C++ compiler")}
    with pytest.warns(CnnfeatWarning, match="no C.. compiler; going on without"):
        assert choose("auto", 9000, {**SECONDS, "openvino": 1.0}, broken)[0] == "eager"


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{", '{"KEY": 3}', '{"KEY": {"batch_size": 0}}'),
        '{"KEY": {"batch_size": 8, "engine": "warp", "eager_seconds": 1.0}}',
        '{"KEY": {"batch_size": "8", "engine": "", "eager_seconds": 0.0}}',
    ],
)
def test_damaged_notes_count_as_none_and_are_replaced(tmp_path, text):
    notes = SpeedNotes(tmp_path, "work")
    notes.keep(SpeedNote(8))
    path = tmp_path / "speeds.json"
    (key,) = json.loads(path.read_text())
    path.write_text(text.replace("KEY", key))
    assert notes.find() is None
    note = SpeedNote(32, "openvino", 0.5)
    notes.keep(note)
    assert notes.find() == note
    assert SpeedNotes(tmp_path, "other work").find() is None
    assert [entry.name for entry in tmp_path.iterdir()] == ["speeds.json"]


def test_notes_that_cannot_be_kept_are_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (None, tmp_path / "file"):
        notes = SpeedNotes(folder, "work")
        notes.keep(SpeedNote(8))
        assert notes.find() is None


# -- the whole command -----------------------------------------------------------------


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
