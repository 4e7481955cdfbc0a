"""Kills and signals at random moments: outputs are whole or absent, whatever comes.

    python tests/kill_trials.py COMMAND... [--trials 200] [--seed S] [--fresh 8]

Each trial starts a command on a few generated images, sends it SIGKILL, SIGTERM, SIGINT
or SIGHUP at a random moment, and looks at what is left. Then the command is run once
more: it must succeed, give what a run gives that nobody disturbed, and leave nothing
beside it. A run that ends before its signal does not count. Most trials fork a process
that has imported the libraries; every eighth (`--fresh`) is a new interpreter, whose
imports are interrupted, too.
"""

import argparse
import contextlib
import hashlib
import http.server
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
INTERRUPTED = "cnnfeat: interrupted"
NETWORK = (
    *("--model", "squeezenet1_1", "--weights", "random", "--layer", "features.1"),
    *("--pool", "avg", "--engine", "eager", "--batch-size", "4"),
)
HERE_ALONE = ("--device", "cpu", "--workers", "0", "--quiet")
LIBRARIES = (
    *("torch", "torchvision.models", "timm", "h5py", "sklearn.metrics", "PIL.Image"),
    *("matplotlib.figure", "matplotlib.backends.backend_agg", "click", "rich.progress"),
    *("urllib.request", "safetensors.torch", "torch._dynamo"),
)


@dataclass(frozen=True)
class Command:
    """What is run, what it leaves when it is done, and how it goes on."""

    arguments: tuple[str, ...]
    go_on: tuple[str, ...] = ()  # after a run that left no output
    again: tuple[str, ...] = ("--overwrite",)  # after one that did
    patches: tuple[str, ...] = ()  # names of functions below, run before the command
    partial: tuple[str, ...] = field(default=())  # outputs that grow while it runs


DRAW = ("--train-per-class", "3", "--splits", "2")
COMMANDS = {
    "extract": Command(
        ("extract", "{world}/images", "-o", "{out}/f.h5", *NETWORK, *HERE_ALONE),
        go_on=("--resume",),
        patches=("commit_often",),
    ),
    "train-svm": Command(
        ("train-svm", "{world}/features.h5", "-o", "{out}/h.h5", "--C", "0.1,1,10"),
    ),
    "predict": Command(
        (
            *("predict", "{world}/head.h5", "{world}/images", "-o", "{out}/p.csv"),
            *("--engine", "eager", *HERE_ALONE),
        ),
    ),
    "benchmark": Command(
        (
            *("benchmark", "{world}/features.h5", "--report", "{out}", "--C", "1,10"),
            *(*DRAW, "--device", "cpu", "--quiet"),
        ),
        patches=("one_date",),
    ),
    "finetune": Command(
        (
            *("finetune", "{world}/images", "-o", "{out}/w.safetensors"),
            *("--log-file", "{out}/log.jsonl", "--curves", "{out}/c.svg"),
            *("--epochs", "3", "--batch-size", "4", "--lr", "0.05", "--patience", "0"),
            *("--train-per-class", "5", "--no-frozen", *HERE_ALONE),
        ),
        go_on=("--resume",),
        patches=("tiny_network",),
        partial=("log.jsonl",),
    ),
    "download": Command(
        ("download", "caltech101", "{out}", "--quiet"), again=(), patches=("recipe",)
    ),
}


# ---------------------------------------------------------------- what is patched


def commit_often(world: Path) -> None:
    """Let every batch be committed, so that there is something to go on from."""
    from cnnfeat.extraction import _run as pipeline

    pipeline.SECONDS_BETWEEN_COMMITS = -1.0


def tiny_network(world: Path) -> None:
    """Fine-tune the tests' miniature network."""
    from tiny import make_tiny_network

    from cnnfeat.finetune import _material as material

    material.load_network = lambda *_, **__: make_tiny_network()


def one_date(world: Path) -> None:
    """Let all reports be made at the same minute."""
    from cnnfeat.benchmark import _run as module

    class Then(module.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2001, 2, 3, 4, 5, tzinfo=tz)

    module.datetime = Then


def recipe(world: Path) -> None:
    """Fetch a small archive from the server of the trials."""
    import dataclasses

    from cnnfeat import datasets, download

    data = (world / "x.tar").read_bytes()
    one = datasets.FileRecipe(
        "x.tar",
        (world / "url").read_text(),
        size=len(data),
        md5=hashlib.md5(data).hexdigest(),
        unpacks_to="x",
    )
    found = dataclasses.replace(
        datasets.load_recipe("caltech101"),
        files=(one,),
        images="x",
        n_images=12,
        n_classes=2,
        splits=(),
    )
    download.load_recipe = lambda name: found


# ---------------------------------------------------------------- processes


class Child:
    """A process that runs one command line from its first line to its last."""

    def __init__(self, trials: "Trials", arguments: list[str], is_fresh: bool) -> None:
        self.log = trials.world / "log"
        self.status: int | None = None
        reading, writing = os.pipe()
        os.set_inheritable(writing, True)
        with self.log.open("wb") as log:
            if is_fresh:
                self.pid = self._start(trials, arguments, writing, log.fileno())
            else:
                self.pid = os.fork()
                if not self.pid:
                    _become(log.fileno())
                    run_command(trials.name, trials.world, arguments, writing)
        os.close(writing)
        os.read(reading, 1)  # it is about to begin
        os.close(reading)

    def _start(self, trials, arguments, writing, log):
        code = (
            "import os, signal, sys\n"
            "for n in (1, 2, 15): signal.signal(n, signal.SIG_DFL)\n"
            f"signal.signal(2, signal.default_int_handler)\n"
            f"sys.path[:0] = {[str(HERE), str(HERE.parent)]!r}\n"
            "import kill_trials\n"
            "from pathlib import Path\n"
            f"kill_trials.run_command({trials.name!r}, Path({str(trials.world)!r}), "
            f"{arguments!r}, {writing})\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            pass_fds=[writing],
        )
        process.returncode = 0  # it is waited for here
        return process.pid

    def wait(self, seconds: float) -> bool:
        """Return whether it has ended within the time; then `status` is set."""
        end = time.monotonic() + seconds
        while self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > end:
                return False
            else:
                time.sleep(0.001)
        return True

    def end(self) -> int:
        """Wait for the end; a process that hangs is killed and is an error."""
        if not self.wait(60):
            os.kill(self.pid, signal.SIGKILL)
            self.wait(10)
            raise AssertionError("it hangs")
        assert self.status is not None
        return self.status

    def told(self) -> str:
        """Return what it has written to stderr."""
        return self.log.read_text(errors="replace")


def _become(log: int) -> None:
    """Be a process like a new one: its streams, its signals."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(log, 2)
    for number in SIGNALS[1:]:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(n, "r" if n == 0 else "w", closefd=False) for n in range(3)
    )


def run_command(name: str, world: Path, arguments: list[str], ready: int) -> None:
    """Say that all is ready, and be the command."""
    try:
        sys.argv = ["cnnfeat", *arguments]
        from cnnfeat.__main__ import main

        # Libraries that are here already are patched now, others once they are.
        for patch in COMMANDS[name].patches:
            globals()[patch](world) if "torch" in sys.modules else _later(patch, world)
        os.write(ready, b"x")
        os.close(ready)
        main()
    except BaseException:
        traceback.print_exc()
        os._exit(99)


def _later(patch: str, world: Path) -> None:
    """Patch just before the command runs, so that its imports take place under it."""
    from cnnfeat.cli import main as module

    run = module.run

    def patched() -> None:
        globals()[patch](world)
        run()

    module.run = patched


# ---------------------------------------------------------------- what is left


def contents(path: Path) -> object:
    """Return what decides whether two outputs are the same."""
    if path.suffix == ".h5":
        return _hdf5(path)
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, "np") as file:
            return {key: file.get_tensor(key).tobytes() for key in file.keys()}  # noqa: SIM118
    if path.suffix == ".jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [{k: v for k, v in line.items() if "second" not in k} for line in lines]
    if path.is_dir():
        return {
            str(one.relative_to(path)): one.read_bytes()
            for one in sorted(path.rglob("*"))
            if one.is_file()
        }
    # A report says how it was made; made again it is made with one flag more.
    return path.read_bytes().replace(b" --overwrite", b"")


def _hdf5(path: Path) -> dict[str, object]:
    import h5py

    found: dict[str, object] = {}
    with h5py.File(path) as file:
        assert file.attrs.get("complete", True), "not complete"
        file.visititems(
            lambda name, item: (
                found.update({name: item[()].tolist()})
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    return found


class Trials:
    """One command, disturbed again and again."""

    def __init__(self, name: str, world: Path, seed: int, fresh: int) -> None:
        self.name, self.world = name, world
        self.command = COMMANDS[name]
        self._seed, self._fresh = seed, fresh
        self.out = world / "out" / name
        self.temporary = world / "tmp"
        self.disturbed = 0  # trials whose signal came in time
        self.count: Counter[str] = Counter()
        self._seconds: dict[bool, float] = {}
        self.expected: dict[str, object] = {}

    def prepare(self) -> None:
        """Run once undisturbed, for what comes out and how long it takes."""
        for is_fresh in (False, True) if self._fresh else (False,):
            self._clear()
            started = time.monotonic()
            child = Child(self, self._arguments(()), is_fresh)
            assert child.end() == 0, child.told()
            self._seconds[is_fresh] = time.monotonic() - started
        self.expected = {p.name: contents(p) for p in self.out.iterdir()}
        assert self.expected, "it left nothing"

    def run(self, number: int) -> str:
        """Make one trial; return what was wrong, or nothing."""
        dice = random.Random(f"{self._seed} {self.name} {number}")
        is_fresh = bool(self._fresh) and number % self._fresh == 0
        sent = dice.choice(SIGNALS)
        moment = dice.uniform(0, 1.05 * self._seconds[is_fresh])
        self._clear()
        started = time.monotonic()
        child = Child(self, self._arguments(()), is_fresh)
        ended = child.wait(moment)
        if ended:
            self._seconds[is_fresh] = time.monotonic() - started
        else:
            os.kill(child.pid, sent)
        kind = "fresh" if is_fresh else "forked"
        where = f"trial {number} ({kind}, {sent.name} at {moment:.3f} s)"
        try:
            self._check_end(child, None if ended else sent)
            self._check_again()
        except (AssertionError, OSError, ValueError, KeyError) as error:
            return f"{where}: {type(error).__name__}: {error}\n{child.told()[-2000:]}"
        return ""

    def _check_end(self, child: Child, sent: signal.Signals | None) -> None:
        status, told = child.end(), child.told()
        assert "Traceback" not in told, "a traceback"
        whole = self._check_outputs()
        if sent is None or status == 0:
            self.count["ended before"] += 1
            assert status == 0, f"status {status} undisturbed"
            assert whole == self.expected.keys(), f"status 0, and there is {whole}"
            return
        self.disturbed += 1
        self.count[sent.name] += 1
        self.count["with all outputs"] += whole == self.expected.keys()
        if status == -sent:  # SIGKILL; others before the program takes signals
            self.count["unheard"] += sent != signal.SIGKILL
            return
        assert status == 128 + sent, f"status {status}"
        last = told.splitlines()[-1] if told else ""
        assert last.startswith(INTERRUPTED), f"told: {told!r}"

    def _check_outputs(self) -> set[str]:
        """Return the names of the outputs that are there; they must be whole."""
        there = set()
        for name, expected in self.expected.items():
            path = self.out / name
            if not path.exists():
                continue
            found = contents(path)
            if name in self.command.partial:
                assert found == expected[: len(found)], f"{name} differs"
            else:
                assert found == expected, f"{name} differs"
                there.add(name)
        partial = set(self.command.partial) & self.expected.keys()
        return there | (partial if there else set())

    def _check_again(self) -> None:
        command = self.command
        there = [name for name in self.expected if (self.out / name).exists()]
        is_done = any(name not in command.partial for name in there)
        if self.name == "finetune":
            is_done = "w.safetensors" in there
        child = Child(
            self, self._arguments(command.again if is_done else command.go_on), False
        )
        status = child.end()
        assert status == 0, f"run again: status {status}: {child.told()}"
        names = {path.name for path in self.out.iterdir()}
        assert names == self.expected.keys(), f"left: {names ^ self.expected.keys()}"
        for name, expected in self.expected.items():
            assert contents(self.out / name) == expected, f"again: {name} differs"
        # torch makes a folder of its own as it is imported.
        left = [
            path.name
            for path in self.temporary.iterdir()
            if not path.name.startswith("torchinductor_")
        ]
        assert not left, f"left in the temporary folder: {left}"

    def _arguments(self, flags: tuple[str, ...]) -> list[str]:
        names = {"world": self.world, "out": self.out}
        return [one.format(**names) for one in self.command.arguments] + [*flags]

    def _clear(self) -> None:
        for folder in (self.out, self.temporary):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)


# ---------------------------------------------------------------- the world


class _Slowly(http.server.BaseHTTPRequestHandler):
    """Serves one file in small pieces, whole or from an offset."""

    data = b""

    def log_message(self, *args):
        pass

    def do_GET(self):
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.send_response(206 if asked else 200)
        if asked:
            end = len(self.data)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
        self.send_header("Content-Length", str(len(self.data) - start))
        self.end_headers()
        with contextlib.suppress(OSError):
            for k in range(start, len(self.data), 1 << 15):
                self.wfile.write(self.data[k : k + (1 << 15)])
                time.sleep(0.02)


def _serve(world: Path) -> int:
    """Start the server in a process of its own and return its id."""
    _Slowly.data = (world / "x.tar").read_bytes()
    server = http.server.HTTPServer(("127.0.0.1", 0), _Slowly)
    (world / "url").write_text(f"http://127.0.0.1:{server.server_address[1]}/x.tar")
    pid = os.fork()
    if not pid:
        server.serve_forever()
    server.server_close()
    return pid


def make_world(world: Path) -> None:
    """Make the inputs: images, an archive of them, features and a head."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for name, colour in {"blue": (40, 60, 200), "red": (200, 50, 40)}.items():
        (world / "images" / name).mkdir(parents=True)
        for k in range(6):
            noise = rng.normal(0, 25, (120, 130, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(world / "images" / name / f"{k}.png")
    with tarfile.open(world / "x.tar", "w") as tar:
        tar.add(world / "images", "x")
    for made, output in (("extract", "features.h5"), ("train-svm", "head.h5")):
        trials = Trials(made, world, 0, 0)
        trials.prepare()
        shutil.move(next(trials.out.iterdir()), world / output)


def main() -> None:
    """Run the trials of some commands; exit 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commands", nargs="+", choices=[*COMMANDS, "all"])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fresh", type=int, default=8, metavar="N")
    asked = parser.parse_args()
    names = [*COMMANDS] if "all" in asked.commands else asked.commands
    # Not a TemporaryDirectory: forked processes would remove it as they end.
    world = Path(tempfile.mkdtemp(prefix="kill-trials-"))
    try:
        os.environ |= {
            "TMPDIR": str(world / "tmp"),
            "CNNFEAT_CACHE": str(world / "cache"),
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)]),
        }
        (world / "tmp").mkdir()
        tempfile.tempdir = None
        sys.path[:0] = [str(HERE.parent), str(HERE)]
        for library in LIBRARIES:
            __import__(library)
        make_world(world)
        server = _serve(world)
        try:
            failed = sum(_run_all(one, world, asked) for one in names)
        finally:
            os.kill(server, signal.SIGKILL)
            os.waitpid(server, 0)
    finally:
        shutil.rmtree(world, ignore_errors=True)
    sys.exit(1 if failed else 0)


def _run_all(name: str, world: Path, asked: argparse.Namespace) -> int:
    """Run the trials of one command and tell how they ended; return the failed ones."""
    started = time.monotonic()
    trials = Trials(name, world, asked.seed, asked.fresh)
    trials.prepare()
    failed = 0
    for number in itertools.count():
        if trials.disturbed + failed >= asked.trials:
            break
        wrong = trials.run(number)
        failed += bool(wrong)
        if wrong:
            print(f"{name}: {wrong}", flush=True)
    counts = ", ".join(f"{n} {what}" for what, n in sorted(trials.count.items()))
    print(
        f"{name}: {asked.trials} trials, {failed} failed, in "
        f"{time.monotonic() - started:.0f} s ({counts})",
        flush=True,
    )
    return failed


if __name__ == "__main__":
    main()
