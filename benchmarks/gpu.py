"""What a GPU makes of the whole way from JPEG files to HDF5, beside what bounds it.

    python -m benchmarks.gpu [--wheels DIR] [--images N] [--minutes M]

Needs no data and no network: JPEGs of about 500 x 375 pixels are generated, weights are
random. Prints a table in Markdown; says "no CUDA device" and ends with status 0 where
there is none. In at most eight minutes: what does not fit is "not measured".

`--wheels DIR` first installs cnnfeat's dependencies from a folder of wheels, on a
machine without a network. Such a folder is made elsewhere, for the same Python, by

    pip wheel '.[demo,dev]' -w DIR
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

NETWORKS = ("resnet50", "efficientnet_lite0", "alexnet", "vit_b_16")
PRECISIONS = ("fp32", "bf16")
MINUTES = 8.0
N_IMAGES = 8192
SIZES = ((500, 375), (375, 500), (500, 333), (480, 360))
NOT_MEASURED = "not measured"
# Few, so that a part begun late still ends in time.
SECONDS_A_PART = 60.0


@dataclass
class Clock:
    """How much of the time is left; a part that would not fit is left out."""

    minutes: float
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self):
        return self.minutes * 60 - (time.monotonic() - self.started)

    def has(self, seconds=SECONDS_A_PART):
        return self.left > seconds


def install(folder):
    """Install cnnfeat and what it needs from a folder of wheels, and nowhere else."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index"]
    subprocess.run([*command, "--find-links", folder, "cnnfeat[demo,dev]"], check=True)


# -- images ----------------------------------------------------------------------------


def write_jpegs(job):
    """Write some JPEGs with structure and noise, as photographs have them."""
    import numpy as np
    from PIL import Image

    folder, numbers = job
    for number in numbers:
        rng = np.random.default_rng(number)
        size = SIZES[number % len(SIZES)]
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), np.int16)
        noisy = smooth + rng.integers(-12, 13, smooth.shape, dtype=np.int16)
        image = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
        label = folder / f"class{number % 10}"
        label.mkdir(exist_ok=True, parents=True)
        image.save(label / f"{number:06d}.jpg", quality=90)


def make_images(folder, n_images):
    parts = [(folder, range(k, n_images, 64)) for k in range(64)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(write_jpegs, parts))
    return folder


# -- bounds: each part of the way alone ------------------------------------------------


def rate(work, n_at_once, seconds=5.0, warm=2):
    """Return items a second of a call that does `n_at_once`, after some to warm up."""
    for _ in range(warm):
        work()
    n_calls, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds or n_calls < 3:
        work()
        n_calls += 1
    return n_calls * n_at_once / (time.perf_counter() - started)


def decode_rate(images, decoder, device):
    """Images a second through decoding, resizing and cropping, none kept."""
    from cnnfeat.images import Preprocessing, list_images, load_batches

    batches = load_batches(
        list_images(images),
        Preprocessing(256, (224, 224)),
        batch_size=256,
        decoder=decoder,
        device=device,
    )
    n_done, started = 0, None
    for batch in batches:
        if started is None:  # the first one waited for processes to start
            started = time.perf_counter()
        else:
            n_done += len(batch.ok)
        if started and time.perf_counter() - started > 15:
            break
    return n_done / (time.perf_counter() - started) if n_done else None


def nvjpeg_rate(images, device):
    """Images a second of one call a batch, from memory, nothing resized."""
    from cnnfeat.images._gpu import _decode

    paths = sorted(Path(images).rglob("*.jpg"))[:256]
    files = [path.read_bytes() for path in paths]

    def work():
        _decode(files, device)
        synchronize(device)

    return rate(work, len(files))


def synchronize(device):
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forward_rate(model, precision, device, n_at_once):
    """Images a second of the network alone, its input on the device."""
    import torch

    from cnnfeat.extraction._tap_module import TapModule
    from cnnfeat.layers import resolve_layers
    from cnnfeat.networks import load_network

    network = load_network(model, weights="random", device=str(device))
    taps = resolve_layers(network)
    module = TapModule(network, taps, precision=precision).to(
        memory_format=torch.channels_last
    )
    height, width = network.weights.preprocessing.crop_size
    shape = (n_at_once, 1, height, width, 3)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)

    def work():
        with torch.inference_mode():
            module(images)
        synchronize(device)

    return rate(work, n_at_once)


def pcie_rate(device, n_at_once):
    """Images a second (224 x 224, uint8) from pinned memory to the device."""
    import torch

    images = torch.zeros((n_at_once, 224, 224, 3), dtype=torch.uint8).pin_memory()

    def work():
        images.to(device, non_blocking=True)
        synchronize(device)

    return rate(work, n_at_once, seconds=3.0)


def disk_rate(folder, n_features=2048, n_rows=20_000):
    """Rows a second of float32 features that reach the disk."""
    data = bytes(4 * n_features * 1000)
    started = time.perf_counter()
    with (folder / "rows").open("wb") as file:
        for _ in range(n_rows // 1000):
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return n_rows / (time.perf_counter() - started)


# -- the way as a whole ----------------------------------------------------------------


def run_cnnfeat(*arguments, timeout):
    """Return what a command prints as JSON."""
    command = [sys.executable, "-m", "cnnfeat", *map(str, arguments), "--json", "-q"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=True
    )
    return json.loads(done.stdout)


def extract_rate(images, folder, model, precision, decoder, device, timeout):
    """Images a second from files to a feature file, start-up left out."""
    output = folder / "f.h5"
    report = run_cnnfeat(
        *("extract", images, "-o", output, "--model", model, "--weights", "random"),
        *("--precision", precision, "--decoder", decoder, "--device", device),
        *("--engine", "eager", "--dtype", "float16", "--overwrite"),
        timeout=timeout,
    )
    start = report["time"].get("start", 0.0)
    return report["n_images"] / max(report["seconds"] - start, 1e-9)


def head_seconds(device, n_rows, n_features=2048, n_classes=100):
    """Seconds of heads on made rows: cnnfeat, LIBLINEAR, scikit-learn."""
    import numpy as np

    from cnnfeat.heads import LinearSVM, Softmax

    rng = np.random.default_rng(0)
    y = rng.integers(0, n_classes, n_rows)
    means = rng.normal(size=(n_classes, n_features))
    X = (means[y] + 4 * rng.normal(size=(n_rows, n_features))).astype(np.float32)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    found = {}
    for name, estimator in (
        ("cnnfeat SVM", LinearSVM(C=1.0, device=str(device))),
        ("cnnfeat softmax", Softmax(C=1.0, device=str(device))),
    ):
        found[name] = timed(lambda e=estimator: e.fit(X, y))
    n_few = min(n_rows, 2000)  # LIBLINEAR takes one core and minutes
    from sklearn.svm import LinearSVC

    few = LinearSVC(C=1.0, dual=False)
    found[f"LIBLINEAR, {n_few:,} rows"] = timed(lambda: few.fit(X[:n_few], y[:n_few]))
    found["scikit-learn array API"] = array_api_seconds(X, y, device)
    return found


def array_api_seconds(X, y, device):
    """Seconds of scikit-learn's logistic regression on the device, None if it has none.

    It tells that it does not take tensors by an error of one of these kinds.
    """
    import sklearn
    import torch
    from sklearn.linear_model import LogisticRegression

    tensors = torch.from_numpy(X).to(device), torch.from_numpy(y).to(device)
    try:
        with sklearn.config_context(array_api_dispatch=True):
            return timed(lambda: LogisticRegression(C=1.0).fit(*tensors))
    except (TypeError, ValueError, ImportError, RuntimeError):
        return None


def timed(work):
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def finetune_rate(images, folder, device, timeout):
    """Images a second of one epoch of all layers, start-up included."""
    started = time.perf_counter()
    report = run_cnnfeat(
        *("finetune", images, "-o", folder / "w.safetensors", "--model", "resnet18"),
        *("--weights", "random", "--train", "all", "--epochs", 1, "--device", device),
        *("--no-frozen", "--overwrite"),
        timeout=timeout,
    )
    return report["n_train"] / (time.perf_counter() - started)


def occlusion_seconds(images, device, timeout, model="resnet50"):
    """Seconds of one image under every square, start-up included."""
    image = next(iter(sorted(Path(images).rglob("*.jpg"))))
    return timed(
        lambda: run_cnnfeat(
            *("visualize", "occlusion", image, "--model", model),
            *("--weights", "random", "--device", device),
            timeout=timeout,
        )
    )


# -- the table -------------------------------------------------------------------------


class Table:
    """Rows of the table, printed as they come; a part that fails says why."""

    def __init__(self, clock):
        self._clock = clock
        self.rows = []
        print("| what | images a second |\n|---|--:|", flush=True)

    def add(self, what, work, *, unit="", seconds=SECONDS_A_PART):
        """Measure one part, unless the time is over; return the figure or None."""
        figure, told = None, NOT_MEASURED
        if self._clock.has(seconds):
            try:
                figure = work()
                told = NOT_MEASURED if figure is None else f"{figure:,.4g}{unit}"
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                told = f"{NOT_MEASURED} ({reason_of(error)})"
        self.rows.append((what, told))
        print(f"| {what} | {told} |", flush=True)
        return figure


def reason_of(error):
    """Return the last line of what a part says of its failure, fit for a cell."""
    if isinstance(error, subprocess.TimeoutExpired):
        return "the time was over"
    text = getattr(error, "stderr", None) or str(error) or type(error).__name__
    return str(text).strip().splitlines()[-1][:100].replace("|", "/")


def told_of_machine(device):
    """Return one line on the device, its driver and what computes."""
    import torch

    found = [platform.machine(), f"{os.cpu_count()} cores"]
    if device.type == "cuda":
        name, total = torch.cuda.get_device_name(device), torch.cuda.mem_get_info()[1]
        found = [f"{name} ({total / 2**30:.0f} GiB)", f"driver {driver()}", *found]
        found.append(f"CUDA {torch.version.cuda}")
    libraries = ("cnnfeat", "torch", "torchvision", "timm", "scikit-learn", "h5py")
    return ", ".join([*found, *(f"{name} {version(name)}" for name in libraries)])


def driver():
    """Return the version of the GPU's driver, as its own tool says."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=20)
        return told.stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return "not known"


def measure_bounds(table, images, folder, device, n_at_once):
    """Add what each part of the way does alone."""
    is_cuda = device.type == "cuda"
    table.add("decode alone, on the cores", lambda: decode_rate(images, "pil", device))
    if is_cuda:
        table.add("decode alone, nvJPEG", lambda: nvjpeg_rate(images, device))
        table.add(
            "decode, resize and crop, nvJPEG",
            lambda: decode_rate(images, "nvjpeg", device),
        )
        table.add("PCIe, pinned", lambda: pcie_rate(device, n_at_once))
    table.add("disk, 2,048 float32 a row", lambda: disk_rate(folder))
    for model in NETWORKS:
        for precision in PRECISIONS:
            table.add(
                f"forward alone, {model}, {precision}",
                lambda m=model, p=precision: forward_rate(m, p, device, n_at_once),
                seconds=30,
            )


def measure_whole(table, clock, images, folder, device):
    """Add the way as a whole, heads and fine-tuning."""
    kinds = [("bf16", "nvjpeg"), ("bf16", "pil"), ("fp32", "pil")]
    for precision, decoder in kinds if device.type == "cuda" else kinds[1:]:
        for model in NETWORKS:
            table.add(
                f"JPEG to HDF5, {model}, {precision}, {decoder}",
                lambda m=model, p=precision, d=decoder: extract_rate(
                    images, folder, m, p, d, device, clock.left
                ),
                seconds=40,
            )
    table.add(
        "finetune, resnet18, one epoch, start included",
        lambda: finetune_rate(images, folder, device, clock.left),
    )
    table.add(
        "occlusion of one image, resnet50, start included",
        lambda: occlusion_seconds(images, device, clock.left),
        unit=" s",
    )


def measure_heads(device, clock, n_rows):
    """Print the seconds of heads, in a table of their own."""
    print(f"\n| head on {n_rows:,} rows of 2,048, 100 classes | seconds |\n|---|--:|")
    found = head_seconds(device, n_rows) if clock.has() else {}
    for name, seconds in found.items():
        print(f"| {name} | {NOT_MEASURED if seconds is None else f'{seconds:.2f}'} |")
    if not found:
        print(f"| all | {NOT_MEASURED} |")


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheels", metavar="DIR", help="install from this folder")
    parser.add_argument("--images", type=int, default=N_IMAGES, metavar="N")
    parser.add_argument("--minutes", type=float, default=MINUTES, metavar="M")
    parser.add_argument("--device", default="cuda", help="cpu tries the script itself")
    parser.add_argument("--batch", type=int, default=256, metavar="N")
    parser.add_argument("--head-rows", type=int, default=20_000, metavar="N")
    return parser.parse_args()


def main():
    options = parsed()
    if options.wheels:
        install(options.wheels)
    import torch

    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("no CUDA device")
        return
    device, clock = torch.device(options.device), Clock(options.minutes)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = make_images(folder / "images", options.images)
        print(told_of_machine(device), end="\n\n", flush=True)
        table = Table(clock)
        measure_bounds(table, images, folder, device, options.batch)
        measure_whole(table, clock, images, folder, device)
        measure_heads(device, clock, options.head_rows)


if __name__ == "__main__":
    main()
