"""What a GPU computes is what the CPU computes, to the tolerance that stands here.

    make test-cuda

Needs no data: images are generated, weights random. Without a CUDA device everything is
skipped, in one line. `CNNFEAT_KIT_DEVICE=cpu` runs the kit on the CPU, to see that the
tests themselves work.
"""

import os
import warnings
from io import BytesIO

import numpy as np
import pytest
import timm
import torch
from made_features import write_features
from PIL import Image
from tiny import make_tiny_network
from torch.nn import functional as F

from cnnfeat.errors import CnnfeatWarning, DeviceError
from cnnfeat.extract import ExtractOptions, extract_arrays
from cnnfeat.extraction import Extractor
from cnnfeat.extraction._engines import TOLERANCES, EagerEngine
from cnnfeat.extraction._tap_module import TapModule
from cnnfeat.finetune import FinetuneOptions, finetune_network
from cnnfeat.images import Preprocessing
from cnnfeat.layers import Tapper, resolve_layers
from cnnfeat.networks import LoadOptions, Network, load_network
from cnnfeat.networks._weights import read_state_dict
from cnnfeat.store import load_head
from cnnfeat.train import TrainOptions, train_head

pytestmark = pytest.mark.cuda

DEVICE = os.environ.get("CNNFEAT_KIT_DEVICE", "cuda")
IS_CUDA = DEVICE.startswith("cuda")
if IS_CUDA and not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)
POOLS = ("none", "avg", "max", "pyramid")
TOKENS = ("cls", "mean", "cls+mean", "patches", "registers", "all")
# In parts of the largest value; a GPU adds in another order, and may use TF32.
FP32_DIFFERENCE = 5e-3
# Grey levels between nvJPEG and PIL: two inverse transforms, and two ways to enlarge
# the colour planes, which shows at edges.
JPEG_MEAN, JPEG_SHARE, JPEG_LEVELS = 1.5, 0.99, 16
HEAD_DIFFERENCE = 1e-3  # of scores, in parts of their range
STEP_DIFFERENCE = 1e-2  # of the change that a step makes


def pixels(n, side=64, n_crops=1):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (n * n_crops, 8, 8, 3), dtype=np.uint8)
    grown = coarse.repeat(side // 8, axis=1).repeat(side // 8, axis=2)
    return grown.reshape(n, n_crops, side, side, 3)


def resnet(device):
    options = LoadOptions(input_size=64)
    return load_network("resnet18", weights="random", device=device, options=options)


def vit(device):
    torch.manual_seed(0)
    small = {"embed_dim": 48, "depth": 2, "num_heads": 3, "img_size": 28}
    module = timm.create_model("vit_small_patch14_reg4_dinov2", **small)
    size = Preprocessing(28, (28, 28))
    return Network.from_module(module.eval(), size, name="vit", device=device)


def features(network, images, layers=(), **how):
    with Extractor(network, layers, **how) as extractor:
        return extractor(images)


def cosine(a, b):
    a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (a, b))
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def assert_close(found, expected, most=FP32_DIFFERENCE):
    assert list(found) == list(expected)
    for name in expected:
        assert found[name].shape == expected[name].shape
        difference = np.abs(found[name] - expected[name]).max()
        assert difference <= most * np.abs(expected[name]).max(), name


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("engine", ["eager", "compile"])
def test_every_engine_and_precision(engine, precision):
    layers, images = ("conv1", "layer1", "avgpool"), pixels(8)
    expected = features(resnet("cpu"), images, layers)
    if engine == "compile" and not IS_CUDA:
        pytest.skip("torch.compile takes a minute on a CPU")
    found = features(
        resnet(DEVICE), images, layers, engine=engine, precision=precision, batch_size=8
    )
    for name in layers:
        assert found[name].dtype == np.float32
        assert cosine(found[name], expected[name]).min() >= TOLERANCES[precision][0]


@pytest.mark.parametrize("crops", ["center", "ten", "ten-stacked"])
@pytest.mark.parametrize("pool", POOLS)
def test_every_pooling(pool, crops):
    images = pixels(3, n_crops=1 if crops == "center" else 10)
    how = {"pool": pool, "crops": crops}
    expected = features(resnet("cpu"), images, ("layer2",), **how)
    assert_close(features(resnet(DEVICE), images, ("layer2",), **how), expected)


@pytest.mark.parametrize("tokens", TOKENS)
def test_every_choice_of_tokens(tokens):
    images = pixels(3, side=32)[:, :, :28, :28]
    layers = ("block.0", "block.-1:norm")
    expected = features(vit("cpu"), images, layers, tokens=tokens)
    assert_close(features(vit(DEVICE), images, layers, tokens=tokens), expected)


def test_a_tap_before_a_nonlinearity_in_place():
    network = resnet(DEVICE)
    taps = resolve_layers(network, ["bn1", "relu"])
    assert taps[0].overwritten
    images = network.weights.preprocessing.normalize(
        torch.from_numpy(pixels(4)[:, 0]).to(DEVICE)
    )
    with Tapper(network, taps) as tapper:
        before, after = tapper(images).values()
    assert before.min() < 0 <= after.min()
    assert torch.equal(F.relu(before), after)


def test_batches_follow_each_other_without_mixing():
    images = pixels(24)
    expected = features(resnet(DEVICE), images, ("avgpool",))["avgpool"]
    with Extractor(resnet(DEVICE), ("avgpool",), batch_size=6) as extractor:
        found, tickets = [], []
        for k in range(0, 24, 6):  # as many in flight as it allows
            tickets.append(extractor.start(images[k : k + 6]))
            if len(tickets) >= extractor.depth:
                found.append(extractor.finish(tickets.pop(0))["avgpool"])
        found += [extractor.finish(ticket)["avgpool"] for ticket in tickets]
    assert_close({"x": np.concatenate(found)}, {"x": expected}, 1e-4)


def too_much(engine, most, monkeypatch):
    """Let more than `most` images at once be too many for the memory."""
    forward = TapModule.forward

    def limited(self, images):
        if len(images) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, images)

    monkeypatch.setattr(TapModule, "forward", limited)
    return engine


def test_a_batch_too_large_for_the_memory_is_halved(monkeypatch):
    network, images = resnet(DEVICE), pixels(16)
    expected = features(network, images, ("avgpool",))
    taps = resolve_layers(network, ["avgpool"])
    engine = too_much(EagerEngine(TapModule(network, taps)), 5, monkeypatch)
    with pytest.warns(CnnfeatWarning, match="too many for the memory"):
        found = engine(images)
    assert_close(found, expected, 1e-4)


def test_memory_that_really_ends_is_halved_too():
    if not IS_CUDA:
        pytest.skip("of a GPU")
    network, images = resnet(DEVICE), pixels(4096)
    total = torch.cuda.get_device_properties(DEVICE).total_memory
    torch.cuda.empty_cache()
    # 64 maps of 32 x 32 in float32 are 256 KiB an image: 1 GiB for all at once.
    share = (torch.cuda.memory_allocated() + 2**30) / total
    torch.cuda.set_per_process_memory_fraction(min(1.0, share))
    try:
        taps = resolve_layers(network, ["layer1"])
        engine = EagerEngine(TapModule(network, taps, pool="avg"))
        with pytest.warns(CnnfeatWarning, match="too many for the memory"):
            found = engine(images)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    expected = features(network, images[:64], ("layer1",), pool="avg")
    assert_close({"layer1": found["layer1"][:64]}, expected, 1e-3)


def test_memory_that_ends_at_one_image_is_one_line(monkeypatch):
    network = resnet(DEVICE)
    taps = resolve_layers(network, ["avgpool"])
    engine = too_much(EagerEngine(TapModule(network, taps)), 0, monkeypatch)
    with warnings.catch_warnings(), pytest.raises(DeviceError, match="for one image"):
        warnings.simplefilter("ignore")
        engine(pixels(2))


@pytest.mark.parametrize("kind", ["svm", "softmax"])
def test_heads(kind, tmp_path):
    path = write_features(tmp_path / "f.h5", n_per_class=30, n_features=64)
    heads = {}
    for device in ("cpu", DEVICE):
        output = str(tmp_path / f"{device.partition(':')[0]}-{len(heads)}.h5")
        options = TrainOptions(kind=kind, layer="layer10", C=(1.0,), device=device)
        train_head(str(path), output, options)
        heads[len(heads)] = load_head(output)
    X = np.random.default_rng(1).normal(size=(50, 64)).astype(np.float32)
    expected, found = (head.scores(X) for head in heads.values())
    assert np.abs(found - expected).max() <= HEAD_DIFFERENCE * np.ptp(expected)


def test_a_finetuning_step(colour_dir, tmp_path, monkeypatch):
    states = []
    for number, device in enumerate(("cpu", DEVICE)):
        monkeypatch.setattr(
            "cnnfeat.finetune._material.load_network",
            lambda *_, device=device, **__: make_tiny_network().to(device),
        )
        output = tmp_path / f"{number}.safetensors"
        options = FinetuneOptions(
            epochs=1, device=device, batch_size=24, workers=0, frozen=False
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CnnfeatWarning)
            finetune_network(str(colour_dir), str(output), options)
        states.append(read_state_dict(output)[0])
    start = make_tiny_network().module.state_dict()
    expected, found = states
    for name, tensor in expected.items():
        if tensor.shape == start[name].shape:
            moved = (tensor - start[name]).abs().max()
            difference = (found[name] - tensor).abs().max()
            assert difference <= STEP_DIFFERENCE * moved + 1e-6, name


def jpeg(seed, size, **how):
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 7, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), np.int16)
    noisy = np.clip(smooth + rng.integers(-5, 6, smooth.shape), 0, 255)
    buffer = BytesIO()
    Image.fromarray(noisy.astype(np.uint8)).save(buffer, "JPEG", quality=90, **how)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def jpeg_dir(tmp_path_factory):
    """Two classes of JPEGs of several sizes, colour layouts and kinds."""
    root = tmp_path_factory.mktemp("jpegs")
    kinds = [{"subsampling": s} for s in (0, 1, 2)] + [{"progressive": True}]
    for label in ("ant", "bee"):
        (root / label).mkdir()
        for k in range(12):
            size = [(500, 375), (375, 500), (96, 80), (640, 480)][k % 4]
            data = jpeg(k + 100 * (label == "bee"), size, **kinds[k % len(kinds)])
            (root / label / f"{k:02d}.jpg").write_bytes(data)
    return root


def test_nvjpeg_against_pil(jpeg_dir):
    from cnnfeat.images import list_images, load_batches

    if not IS_CUDA:
        pytest.skip("nvJPEG is of a GPU")
    how = Preprocessing(256, (224, 224))
    images = {}
    for decoder in ("pil", "nvjpeg"):
        batches = load_batches(
            list_images(jpeg_dir),
            how,
            batch_size=8,
            decoder=decoder,
            device=torch.device(DEVICE),
        )
        images[decoder] = np.concatenate([batch.images_nhwc for batch in batches])
    difference = np.abs(images["nvjpeg"].astype(int) - images["pil"])
    assert difference.mean() <= JPEG_MEAN
    assert (difference <= JPEG_LEVELS).mean() >= JPEG_SHARE


@pytest.mark.parametrize("decoder", ["pil", "nvjpeg"])
def test_features_of_files(jpeg_dir, decoder):
    if decoder == "nvjpeg" and not IS_CUDA:
        pytest.skip("nvJPEG is of a GPU")
    options = ExtractOptions(decoder=decoder, pool="avg", workers=2)
    found = extract_arrays(resnet(DEVICE), str(jpeg_dir), ["layer2"], options=options)
    expected = extract_arrays(
        resnet("cpu"), str(jpeg_dir), ["layer2"], options=ExtractOptions(pool="avg")
    )
    least = 0.99999 if decoder == "pil" else 0.99
    rows = cosine(found.features["layer2"], expected.features["layer2"])
    assert rows.min() >= least
