"""Fixtures shared by all tests: generated images, a miniature network, real data."""

import contextlib
import ctypes
import os
import sys

# Threads that wait for each other by spinning make everything many times slower beside
# another busy process. Read by OpenMP when torch is imported, here and in children.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

# No test fails for the time it takes: machines are shared.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

REPOSITORY = Path(__file__).resolve().parent.parent
# Real images and weights are optional: the folder that holds data/ and weights/.
SHARED = Path(os.environ.get("CNNFEAT_TEST_DATA", REPOSITORY.parent / "shared"))


@pytest.fixture(autouse=True, scope="session")
def _cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep converted networks out of the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNNFEAT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def _folder_or_skip(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"{path.name} is not at hand (set CNNFEAT_TEST_DATA)")
    return path


@pytest.fixture(scope="session")
def caltech101_dir() -> Path:
    """The folder of Caltech-101's class folders; the test skips without it."""
    return _folder_or_skip(SHARED / "data" / "caltech101" / "101_ObjectCategories")


@pytest.fixture(scope="session")
def squeezenet_weights() -> Path:
    """Real ImageNet weights of squeezenet1_1; the test skips without them."""
    return _folder_or_skip(SHARED / "weights" / "squeezenet1_1.pth")


@pytest.fixture(scope="session")
def mobilenet_weights() -> Path:
    """Real ImageNet weights of mobilenet_v2; the test skips without them."""
    return _folder_or_skip(SHARED / "weights" / "mobilenet_v2.pth")


def write_image(path: Path, seed: int, size: tuple[int, int] = (48, 40)) -> None:
    """Write a seeded colour image with some structure, as PNG or JPEG."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def image_dir(tmp_path: Path) -> Path:
    """Three classes of four generated images: `images/<class>/<k>.png`."""
    root = tmp_path / "images"
    for label, name in enumerate(("ant", "bee", "cat")):
        (root / name).mkdir(parents=True)
        for k in range(4):
            write_image(root / name / f"{k}.png", seed=10 * label + k)
    return root


@pytest.fixture(scope="session")
def colour_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of eight noisy images, each class of its own colour: easy."""
    root = tmp_path_factory.mktemp("colours") / "images"
    colours = {"blue": (40, 60, 200), "green": (50, 190, 60), "red": (200, 50, 40)}
    rng = np.random.default_rng(0)
    for name, colour in colours.items():
        (root / name).mkdir(parents=True)
        for k in range(8):
            noise = rng.normal(0, 25, (40, 48, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{k}.png")
    return root


# Quick and deterministic: a real network with random weights, its first block alone.
FIRST_BLOCK = (
    *("--model", "squeezenet1_1", "--weights", "random", "--device", "cpu"),
    *("--layer", "features.1", "--pool", "avg", "--workers", "0", "--quiet"),
)


@pytest.fixture(scope="session")
def colour_features(colour_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pooled first-block features of `colour_dir`, made by the command itself."""
    from click.testing import CliRunner

    from cnnfeat.cli.main import cli

    path = tmp_path_factory.mktemp("features") / "colours.h5"
    arguments = ["extract", str(colour_dir), "-o", str(path), *FIRST_BLOCK]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture(scope="session")
def colour_head(
    colour_features: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A head trained on five images of each class of `colour_features`."""
    from click.testing import CliRunner

    from cnnfeat.cli.main import cli

    path = tmp_path_factory.mktemp("heads") / "svm.h5"
    arguments = ("train-svm", colour_features, "-o", path, "--train-per-class", 5)
    result = CliRunner().invoke(cli, [str(one) for one in (*arguments, "--C", 1)])
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture(scope="session")
def colour_shards(colour_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the two shards of `colour_features`."""
    from click.testing import CliRunner

    from cnnfeat.cli.main import cli

    folder = tmp_path_factory.mktemp("shards")
    arguments = ["extract", str(colour_dir), "-o", str(folder / "f.h5"), *FIRST_BLOCK]
    result = CliRunner().invoke(cli, [*arguments, "--batch-size", "5", "--shards", "2"])
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def commands(
    colour_dir, colour_features, colour_head, colour_shards, tmp_path, monkeypatch
):
    """The command lines of `made_commands`, with their inputs and an empty folder."""
    from made_commands import Commands, patch

    patch(monkeypatch)
    (tmp_path / "out").mkdir()
    names = {"images": colour_dir, "features": colour_features, "head": colour_head}
    names["shards"] = colour_shards
    names["foreign"] = tmp_path / "foreign.npz"
    # As large as a file may not become where the disk is full.
    rows = np.ones((100, 40), np.float32)
    np.savez(names["foreign"], rows=rows, paths=[f"{k}.png" for k in range(100)])
    return Commands(tmp_path / "out", names)


@pytest.fixture
def tiny_network():
    """A seeded miniature `Network` for 32 x 32 crops and five classes."""
    from tiny import make_tiny_network

    return make_tiny_network()


class _Capabilities(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint32) for name in ("effective", "permitted", "inherit")
    ]


@pytest.fixture
def as_others():
    """Let the rights of files count, as they do for everybody but root."""
    if sys.platform != "linux":
        pytest.skip("capabilities as on Linux")
    libc, header = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0)
    before, now = (_Capabilities * 2)(), (_Capabilities * 2)()
    for sets in (before, now):
        assert libc.capget(header, sets) == 0
    now[0].effective &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    if libc.capset(header, now):
        pytest.skip("capabilities cannot be changed")
    yield
    libc.capset(header, before)


@pytest.fixture
def small_files():
    """A context in which no file may grow beyond 100 kB, as if the disk were full."""
    return files_up_to(100_000)


@contextlib.contextmanager
def files_up_to(n_bytes: int) -> Iterator[None]:
    """Let no file grow beyond a size: writing more fails, as on a full disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
