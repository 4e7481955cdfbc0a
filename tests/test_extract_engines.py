"""Engines: the same features whichever runs, and the choice between them."""

import importlib.util
import warnings

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from cnnfeat.cli.main import cli
from cnnfeat.errors import CnnfeatError, CnnfeatWarning, DeviceError
from cnnfeat.extraction import planning
from cnnfeat.networks import (
    EagerEngine,
    EngineError,
    OpenVINOEngine,
    TapModule,
    Tapper,
    check_agreement,
    load_network,
    resolve_layers,
)

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
    pixels = torch.from_numpy(images).flatten(0, 1).permute(0, 3, 1, 2)
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
def test_bf16_is_within_its_tolerance(tiny_network):
    images = batch(4)
    reference = EagerEngine(tap_module(tiny_network, ["classifier"]))(images)
    module = tap_module(tiny_network, ["classifier"], precision="bf16")
    for found in (
        EagerEngine(module)(images),
        OpenVINOEngine(module, 4, 2, "bf16")(images),
    ):
        a, b = reference["classifier"], found["classifier"]
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        assert cosine.min() >= 0.999
        assert np.abs(a - b).max() <= 0.03 * np.ptp(a)


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
    from cnnfeat.networks import CompileEngine

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
def choose(tiny_network, monkeypatch):
    """`choose_engine` with stand-ins: name -> (seconds per image, factor or error)."""

    def choose(asked, n_images, seconds, made=None):
        made = made or {}

        def build(name, module, batch_size):
            if isinstance(made.get(name), Exception):
                raise made[name]
            return Timed(module, name, made.get(name, 1.0))

        monkeypatch.setattr(planning, "_build", build)
        monkeypatch.setattr(
            planning, "_seconds_per_image", lambda engine, _: seconds[engine.name]
        )
        module = tap_module(tiny_network)
        engine = planning.choose_engine(asked, module, 4, n_images, lambda: batch(4))
        module.close()
        return engine.name

    return choose


SECONDS = {"eager": 0.03, "openvino": 0.01, "compile": 0.02}


def test_auto_takes_what_pays_for_its_start(choose):
    assert choose("auto", 100, SECONDS) == "eager"  # 3 s in all: nothing pays
    assert choose("auto", 9000, SECONDS) == "openvino"
    assert choose("auto", 9000, {**SECONDS, "openvino": 0.04}) == "compile"
    assert choose("auto", 2000, {**SECONDS, "openvino": 0.04}) == "eager"
    assert choose("auto", 9000, dict.fromkeys(SECONDS, 0.03)) == "eager"


def test_auto_falls_back_with_a_warning(choose):
    missing = EngineError("openvino is not installed: pip install 'cnnfeat[openvino]'")
    with pytest.warns(CnnfeatWarning, match="not installed.*; going on without"):
        assert choose("auto", 2000, SECONDS, {"openvino": missing}) == "eager"
    with pytest.warns(CnnfeatWarning, match="openvino: layer .* is not what eager"):
        assert choose("auto", 9000, SECONDS, {"openvino": 1.01}) == "compile"


def test_an_engine_asked_for_is_taken_or_refused(choose):
    assert choose("eager", 9000, SECONDS) == "eager"
    assert choose("openvino", 1, SECONDS) == "openvino"
    with pytest.raises(DeviceError, match="compiler; or give --engine auto"):
        choose("compile", 9000, SECONDS, {"compile": EngineError("no C++ compiler")})


@pytest.mark.parametrize(
    ("asked", "n_images", "n_crops", "expected"),
    [(None, 1000, 1, 32), (None, 5, 1, 5), (None, 1000, 10, 4), (64, 9, 1, 9)],
)
def test_batch_size(asked, n_images, n_crops, expected):
    chosen = planning.choose_batch_size(asked, n_images, n_crops, gpu=False)
    assert chosen == expected


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
    from cnnfeat.extraction import pipeline

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
    import json

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
