"""How fast `cnnfeat extract` is, and what it costs, beside the loop a user would write.

    python benchmarks/extract.py IMAGES [--weights-dir DIR] [--part NAME]... [--quick]

Every figure is a whole process, timed from outside; its memory is the sum over the
process and those it started, sampled. The first run of cnnfeat of each kind begins with
an empty cache of converted networks, the others find it filled. Tables are markdown, on
stdout. About 50 minutes on two cores when nothing else runs; --quick takes
fewer images.
"""

import argparse
import csv
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from cnnfeat import list_images

HERE = Path(__file__).parent
SQUEEZENET = "squeezenet1_1"
LITE0 = "efficientnet_lite0"
# Both sides are told the layer: a user of the plain loop knows its name.
WORK = {SQUEEZENET: "features.12", LITE0: "global_pool"}
EIGHT = (*(f"features.{k}" for k in (3, 4, 6, 7, 9, 10, 11, 12)),)
FIRST_BLOCK = ("features.0", "features.1", "features.2")
# Convolutional, narrow and wide; with large linear layers; a transformer.
OTHERS = (
    "resnet50",
    "densenet121",
    "mobilenet_v3_large",
    "vgg16",
    "alexnet",
    "vit_b_16",
)


@dataclass(frozen=True)
class Measured:
    """One process: what it printed, its wall time, its peak memory."""

    seconds: float
    peak_mib: float
    printed: dict


def process_tree(pid):
    """Return the process and all that descend from it (Linux)."""
    found, todo = [], [pid]
    while todo:
        pid = todo.pop()
        found.append(pid)
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                children = Path(f"/proc/{pid}/task/{task}/children").read_text()
                todo += map(int, children.split())
        except OSError:
            continue
    return found


def memory_mib(pids):
    """Return the resident memory of the processes, shared pages counted in each."""
    pages = 0
    for pid in pids:
        try:
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except OSError:
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(*command):
    """Run `python COMMAND…`, which prints one JSON object last; return `Measured`."""
    started, peak = time.monotonic(), 0.0
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        arguments = [sys.executable, *map(str, command)]
        process = subprocess.Popen(arguments, stdout=out, stderr=err)
        while process.poll() is None:
            peak = max(peak, memory_mib(process_tree(process.pid)))
            time.sleep(0.1)
        seconds = time.monotonic() - started
        out.seek(0)
        err.seek(0)
        printed, said = out.read().strip().splitlines(), err.read()
    if process.returncode:
        raise RunFailedError(f"{' '.join(arguments)} failed:\n{said}")
    return Measured(seconds, peak, json.loads(printed[-1]))


class RunFailedError(Exception):
    """What a command said last before it failed."""


class Bench:
    """The images, the weights and the folder for outputs of one run."""

    def __init__(self, chosen, folder):
        self.chosen, self.folder = chosen, Path(folder)
        self.output, self.plain_output = self.folder / "f.h5", self.folder / "plain.h5"
        os.environ["CNNFEAT_CACHE"] = str(self.folder / "cache")
        self.paths = [
            f"{images.root}/{path}"
            for images in [list_images(chosen.images)]
            for path in images.paths
        ]

    def manifest(self, n_rows, paths=None):
        """Write a list of `n_rows` images, even or repeated; return its path."""
        paths = paths or self.paths
        picked = np.linspace(0, len(paths) - 1, min(n_rows, len(paths))).astype(int)
        path = self.folder / f"{n_rows}-{abs(hash(paths[0])) % 10**6}.csv"
        with path.open("w", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(["path"])
            for k in range(n_rows):
                turn, place = divmod(k, len(picked))
                lines.writerow([self.again(turn) + paths[picked[place]]])
        return path

    def again(self, turn):
        """Return what makes a path another one to the same file: a link to /."""
        link = self.folder / f"again-{turn}"
        if turn and not link.is_symlink():
            link.symlink_to("/")
        return str(link) if turn else ""

    def network(self, model):
        """Return --model and --weights: the published ones where they are at hand."""
        weights = "default"
        if model != LITE0:
            file = Path(self.chosen.weights_dir or ".") / f"{model}.pth"
            weights = str(file) if file.exists() else "random"
        return ["--model", model, "--weights", weights]

    def cnnfeat(self, images, *options):
        """Time one `cnnfeat extract`."""
        self.output.unlink(missing_ok=True)
        command = ["-m", "cnnfeat", "extract", images, "-o", self.output]
        device = ["--device", self.chosen.device]
        return measure(*command, *device, "--json", "--quiet", *options)

    def plain(self, images, n_workers, *options):
        """Time one plain loop."""
        script = HERE / "plain_loop.py"
        workers = ["--workers", n_workers, "--device", self.chosen.device]
        return measure(script, images, self.plain_output, *workers, *options)

    def rows(self, layer):
        """Return the first rows of the latest extraction, flattened."""
        with h5py.File(self.output) as file:
            found = file[f"features/{layer}"][:2000]
        return found.reshape(len(found), -1)

    def plain_rows(self):
        """Return the first rows of the latest plain loop, flattened."""
        with h5py.File(self.plain_output) as file:
            found = file["features"][:2000]
        return found.reshape(len(found), -1)


def disagreement(a, b):
    """Return the lowest cosine of a row and the largest difference, in ranges of b."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = (a * b).sum(axis=1, dtype=np.float64) / norms
    return float(cosine.min()), float(np.abs(a - b).max() / np.ptp(b))


def table(title, columns, rows):
    """Print a markdown table."""
    print(f"\n### {title}\n")
    print("| " + " | ".join(columns) + " |")
    print("|" + " --- |" * len(columns))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    sys.stdout.flush()


def spread(values, digits=1):
    """Return the median with the smallest and largest, or the only value."""
    values = sorted(values)
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    middle = float(np.median(values))
    return f"{middle:.{digits}f} ({values[0]:.{digits}f} to {values[-1]:.{digits}f})"


def speed(bench):
    """Against the plain loop and against the bound, for two networks."""
    n_images = 600 if bench.chosen.quick else len(bench.paths)
    images = bench.manifest(n_images)
    rows, bounds = [], []
    for model, layer in WORK.items():
        options = [*bench.network(model), "--layer", layer]
        n_workers = best_workers(bench, options)
        plain = bench.plain(images, n_workers, *options)
        ours = [bench.cnnfeat(images, *options) for _ in range(bench.chosen.repeats)]
        bound = bench_bounds(bench, images, options)
        seconds = [run.seconds for run in ours]
        cosine, difference = disagreement(bench.rows(layer), bench.plain_rows())
        rows.append(
            [
                f"{model} {layer}",
                n_images,
                f"{spread(seconds)} ({ours[0].printed['engine']})",
                f"{start_seconds(ours[0]):.1f}",
                spread([start_seconds(run) for run in ours[1:] or ours]),
                f"{plain.seconds:.1f} ({n_workers} workers)",
                f"{spread([plain.seconds / s for s in seconds], 2)}",
                f"{spread([n_images / s / bound['both'] for s in seconds], 2)}",
                f"{max(run.peak_mib for run in ours):.0f}",
                f"{plain.peak_mib:.0f}",
                f"{cosine:.7f}, {difference:.1e}",
            ]
        )
        bounds.append(bound_row(model, bound, [n_images / s for s in seconds]))
    columns = ("work", "images", "cnnfeat, s", "its start-up, s", "start-up again, s")
    more = ("plain loop, s", "times faster", "of the bound", "cnnfeat, MiB")
    last = ("plain loop, MiB", "least cosine, largest difference of the range")
    table("Whole process", (*columns, *more, *last), rows)
    columns = ("network", "forward alone", "decode alone", "disk alone")
    more = ("1 / (1/forward + 1/decode)", "cnnfeat, start-up included")
    table("Bounds, images a second", (*columns, *more), bounds)


def best_workers(bench, options):
    """Return the count of DataLoader workers that is fastest on a few images."""
    few = bench.manifest(120 if bench.chosen.quick else 480)
    counts = (0, 2) if bench.chosen.quick else (0, 1, 2, 4)
    trials = {n: bench.plain(few, n, *options).printed["seconds"] for n in counts}
    return min(trials, key=trials.get)


def bound_row(model, bound, rates):
    """Return the cells of one network in the table of bounds."""
    forward = ", ".join(f"{name} {rate:.0f}" for name, rate in bound["forward"].items())
    alone = [f"{bound['decode']:.0f}", f"{bound['disk']:.0f}"]
    return [model, forward, *alone, f"{bound['both']:.0f}", spread(rates)]


def bench_bounds(bench, images, options):
    """Return the rates of `bounds.py`, and `both` on shared cores."""
    script, device = HERE / "bounds.py", ["--device", bench.chosen.device]
    seconds = ["--seconds", 3 if bench.chosen.quick else 15]
    n_images = ["--n-images", 500 if bench.chosen.quick else 3000]
    arguments = [images, bench.folder, *options, *device, *seconds, *n_images]
    bound = measure(script, *arguments).printed
    best = max(bound["forward"].values())
    return {**bound, "both": 1 / (1 / best + 1 / bound["decode"])}


def layers(bench):
    """Layers tapped in one pass, pooled, and depth of the deepest; one engine."""
    n_images = 300 if bench.chosen.quick else 1500
    images = bench.manifest(n_images)
    # `auto` might choose another engine for each row.
    has_openvino = (
        importlib.util.find_spec("openvino") and bench.chosen.device != "cuda"
    )
    engine = "openvino" if has_openvino else "eager"
    network = [*bench.network(SQUEEZENET), "--pool", "avg", "--engine", engine]
    taps = {f"{n} of 8": EIGHT[-n:] for n in (1, 2, 4, 8)}
    taps |= {f"up to {name}": (name,) for name in ("features.6", "features.9")}
    taps["the first block only"] = FIRST_BLOCK[-1:]
    taps["the whole network"] = ("classifier",)
    runs = {title: [] for title in taps}
    for _ in range(bench.chosen.repeats):  # in turn, so that a slow minute meets all
        for title, names in taps.items():
            options = [word for name in names for word in ("--layer", name)]
            runs[title].append(bench.cnnfeat(images, *network, *options))
    base = [compute_seconds(run) for run in runs["1 of 8"]]
    rows = []
    for title, found in runs.items():
        seconds = [compute_seconds(run) for run in found]
        ratios = [a / b for a, b in zip(seconds, base, strict=True)]
        whole = spread([run.seconds for run in found])
        rows.append([title, whole, spread(seconds), spread(ratios, 2)])
    title = f"{SQUEEZENET}, {n_images} images, pooled, {engine}: layers, and depth"
    against = "against 1 of 8 (features.12)"
    table(title, ("layers", "whole process, s", "without start-up, s", against), rows)


def compute_seconds(run):
    """Return the run's time without start-up, which does not grow with the images."""
    return run.printed["seconds"] - run.printed["time"]["start"]


def start_seconds(run):
    """Return what the process took beside the images: Python, imports, the engine."""
    return run.seconds - compute_seconds(run)


def memory(bench):
    """Growth of the peak with the number of rows, on a cheap layer."""
    sizes = (300, 3000) if bench.chosen.quick else (1000, 10_000, 100_000)
    options = [*bench.network(SQUEEZENET), "--layer", "features.1", "--pool", "avg"]
    rows, base = [], None
    for n_rows in sizes:
        run = bench.cnnfeat(bench.manifest(n_rows), *options, "--engine", "eager")
        base = base or run.peak_mib
        cells = [f"{run.seconds:.0f}", f"{run.peak_mib:.0f}", run.peak_mib / base]
        rows.append([f"{n_rows:,}", *cells[:2], f"{cells[2]:.3f}"])
    title = f"Peak memory ({SQUEEZENET} features.1, pooled: a cheap layer; repeated)"
    table(title, ("rows", "s", "peak, MiB", "against the first"), rows)


def crops(bench):
    """One crop against ten."""
    n_images = 100 if bench.chosen.quick else 300
    images = bench.manifest(n_images)
    rows = []
    for name in ("center", "ten", "ten-stacked"):
        run = bench.cnnfeat(images, *bench.network(SQUEEZENET), "--crops", name)
        rows.append([name, f"{compute_seconds(run):.1f}", f"{run.peak_mib:.0f}"])
    columns = ("crops", "without start-up, s", "peak, MiB")
    table(f"{SQUEEZENET}, {n_images} images: crops", columns, rows)


def sizes(bench):
    """Image size, by both decoders."""
    n_images = 60 if bench.chosen.quick else 200
    rows = []
    for megapixels in (0.1, 1.0, 12.0):
        images = bench.manifest(n_images, enlarged(bench, megapixels))
        for decoder in ("pil", "fast"):
            options = [*bench.network(SQUEEZENET), "--decoder", decoder]
            run = bench.cnnfeat(images, *options, "--engine", "eager")
            per_image = 1000 * run.printed["time"]["decode"] / n_images
            cells = [f"{per_image:.1f}", f"{n_images / compute_seconds(run):.0f}"]
            limit = run.printed["time"]["limit"]
            rows.append([megapixels, decoder, *cells, limit, f"{run.peak_mib:.0f}"])
    columns = ("megapixels", "decoder", "decode, ms an image", "images a second")
    title = f"{SQUEEZENET}, {n_images} JPEGs: image size"
    table(title, (*columns, "limit", "peak, MiB"), rows)


def enlarged(bench, megapixels, n_images=10):
    """Write images enlarged to so many pixels, with noise as cameras have."""
    rng = np.random.default_rng(0)
    found = []
    for k, source in enumerate(bench.paths[:: len(bench.paths) // n_images][:n_images]):
        with Image.open(source) as image:
            scale = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
            size = round(image.width * scale), round(image.height * scale)
            pixels = np.asarray(image.convert("RGB").resize(size), dtype=np.int16)
        noisy = np.clip(pixels + rng.integers(-6, 7, pixels.shape), 0, 255)
        path = bench.folder / f"{megapixels}-{k}.jpg"
        Image.fromarray(noisy.astype(np.uint8)).save(path, quality=92)
        found.append(str(path))
    return found


def batches(bench):
    """The batch size, by engine: the network alone, random weights."""
    seconds = ["--seconds", 2 if bench.chosen.quick else 6]
    sizes = (8, 32)
    rows = []
    for model in (SQUEEZENET, LITE0, *OTHERS):
        options = [*bench.network(model), *seconds, "--device", bench.chosen.device]
        for size in sizes:
            options += ["--batch-size", size]
        command = [HERE / "bounds.py", bench.paths[0], bench.folder, *options]
        found = measure(*command, "--forward-only").printed["forward"]
        cells = []
        for engine in ("eager", "openvino"):
            rates = [found.get(f"{engine} {size}") for size in sizes]
            cells += [f"{rate:.1f}" if rate else "" for rate in rates]
            cells.append(f"{rates[0] / rates[1]:.2f}" if all(rates) else "")
        rows.append([model, *cells])
    columns = [f"{e} {c}" for e in ("eager", "openvino") for c in (*sizes, "ratio")]
    table("Batch size: images a second, forward alone", ("network", *columns), rows)


def precision(bench):
    """What bf16 and fp16 change of the features, by engine."""
    images = bench.manifest(100 if bench.chosen.quick else 500)
    engines = ["eager"]
    if importlib.util.find_spec("openvino") and bench.chosen.device != "cuda":
        engines.append("openvino")
    rows = []
    for model, layer in WORK.items():
        options = [*bench.network(model), "--layer", layer]
        bench.cnnfeat(images, *options, "--engine", "eager")
        expected = bench.rows(layer)
        for name in ("fp32", "bf16", "fp16"):
            for engine in engines:
                how = ["--precision", name, "--engine", engine]
                try:
                    run = bench.cnnfeat(images, *options, *how)
                except RunFailedError as error:  # out of its tolerance
                    said = str(error).splitlines()[-1].partition("computes: ")[2]
                    rows.append([model, name, engine, f"refused: {said}", "", ""])
                    continue
                cosine, difference = disagreement(bench.rows(layer), expected)
                cells = [f"{cosine:.7f}", f"{difference:.1e}"]
                rows.append(
                    [model, name, engine, *cells, f"{compute_seconds(run):.1f}"]
                )
    columns = ("network", "precision", "engine", "least cosine", "largest difference")
    title = f"Precision, against eager fp32, {len(expected)} images"
    table(title, (*columns, "without start-up, s"), rows)


PARTS = {
    "speed": speed,
    "batches": batches,
    "precision": precision,
    "layers": layers,
    "memory": memory,
    "crops": crops,
    "sizes": sizes,
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", help="a folder of class folders, such as Caltech-101")
    parser.add_argument("--weights-dir", help="where squeezenet1_1.pth lies")
    parser.add_argument("--part", action="append", choices=PARTS, help="default: all")
    parser.add_argument("--quick", action="store_true", help="fewer images")
    parser.add_argument("--repeats", type=int, default=2, help="runs of cnnfeat")
    parser.add_argument("--device", default="auto")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cnnfeat-benchmark-") as folder:
        bench = Bench(chosen, folder)
        print(f"{len(bench.paths)} images, {len(os.sched_getaffinity(0))} cores")
        for part in chosen.part or PARTS:
            started = time.monotonic()
            try:
                PARTS[part](bench)
            except RunFailedError as error:
                sys.exit(str(error))
            print(f"\n({part}: {time.monotonic() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
