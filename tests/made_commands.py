"""One small command line for each command that writes, and what it writes where.

`{images}`, `{features}`, `{head}` and `{out}` stand for what the fixture `commands`
gives. The network is a miniature one, the data set one archive.
"""

import tarfile
from dataclasses import dataclass, replace
from pathlib import Path

from click.testing import CliRunner, Result
from conftest import FIRST_BLOCK
from tiny import make_tiny_network

from cnnfeat.benchmark import DrawOptions
from cnnfeat.benchmark._publish import report_names
from cnnfeat.cli.main import cli
from cnnfeat.datasets import FileRecipe, load_recipe

_TEMPORARY = ".{}.0123456789abcdef"
# Figures that one row of a table has not, if it makes no mistake.
_NOT_DRAWN = (
    *("accuracy_by_layer", "learning_curve", "c_curve", "confused_pairs", "mistakes"),
)


@dataclass(frozen=True)
class Line:
    """A command line: its outputs, those it locks, and what stays for --resume."""

    arguments: tuple[str, ...]
    outputs: tuple[str, ...]
    locks: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    @property
    def locked(self) -> tuple[str, ...]:
        """The outputs that one process at a time writes."""
        return self.locks or self.outputs

    @property
    def left(self) -> list[str]:
        """Names that a killed run may leave beside the outputs."""
        if self.arguments[0] in OF_ROWS:  # their writer has its own way
            return ["f.h5.part.new", "f.h5.part.journal"]
        locks = [f"{name}.lock" for name in self.locked]
        return [*map(_TEMPORARY.format, (*self.outputs, *self.kept)), *locks]


OF_ROWS = ("extract", "import", "merge")  # written row by row
DRAW = ("--train-per-class", "4")
LINES = {
    "extract": Line(
        ("extract", "{images}", "-o", "{out}/f.h5", *FIRST_BLOCK),
        ("f.h5",),
    ),
    "train": Line(("train", "knn", "{features}", "-o", "{out}/h.h5"), ("h.h5",)),
    "train-svm": Line(
        ("train-svm", "{features}", "-o", "{out}/h.h5", "--C", "1"), ("h.h5",)
    ),
    "train-softmax": Line(
        ("train-softmax", "{features}", "-o", "{out}/h.h5", "--C", "1"), ("h.h5",)
    ),
    "evaluate": Line(
        (
            *("evaluate", "{head}", "{features}", "--predictions", "{out}/p.csv"),
            *("--confusion", "{out}/c.pdf", "--mistakes", "{out}/m.png"),
            *("--per-class", "{out}/k.csv"),
        ),
        ("p.csv", "c.pdf", "m.png", "k.csv"),
    ),
    "leaks": Line(
        (
            *("leaks", "{features}", "-o", "{out}/p.csv", "--sheet", "{out}/s.png"),
            *("--cosine", "0.99", "--quiet"),
        ),
        ("p.csv", "s.png"),
    ),
    "suspects": Line(
        ("suspects", "{features}", "-o", "{out}/p.csv", "--sheet", "{out}/s.png"),
        ("p.csv", "s.png"),
    ),
    "compare": Line(
        (
            *("compare", "{features}", "--layer", "features.1,features.1+features.1"),
            *("-o", "{out}/p.csv", "--plot", "{out}/s.png", "--draws", "2"),
        ),
        ("p.csv", "s.png"),
    ),
    "splits": Line(("splits", "{features}", "-o", "{out}/s.csv", *DRAW), ("s.csv",)),
    "benchmark": Line(
        (
            *("benchmark", "{features}", "--report", "{out}", *DRAW, "--C", "1"),
            *("--splits", "2", "--quiet"),
        ),
        tuple(
            name
            for name in report_names(DrawOptions())
            if Path(name).stem not in _NOT_DRAWN
        ),
        locks=("results.json",),
    ),
    "finetune": Line(
        (
            *("finetune", "{images}", "-o", "{out}/w.safetensors", "--epochs", "1"),
            *("--log-file", "{out}/log.jsonl", "--curves", "{out}/c.svg"),
            *("--no-frozen", "--workers", "0", "--device", "cpu", "--quiet"),
        ),
        ("w.safetensors", "log.jsonl", "c.svg"),
        kept=("w.safetensors.part",),
    ),
    "finetune --show-augment": Line(
        ("finetune", "{images}", "--show-augment", "{out}/sheet.png"), ("sheet.png",)
    ),
    "predict": Line(
        (
            *("predict", "{head}", "{images}", "-o", "{out}/p.csv", "--workers", "0"),
            *("--engine", "eager", "--device", "cpu", "--quiet"),
        ),
        ("p.csv",),
    ),
    "visualize filters": Line(
        (
            *("visualize", "filters", "--model", "squeezenet1_1", "--weights"),
            *("random", "-o", "{out}/look.png", "--html", "{out}"),
        ),
        ("look.png", "index.html"),
    ),
    "export": Line(("export", "{features}", "-o", "{out}/x.npy"), ("x.npy", "x.csv")),
    "merge": Line(("merge", "{shards}", "-o", "{out}/f.h5", "--quiet"), ("f.h5",)),
    "import": Line(("import", "{foreign}", "-o", "{out}/f.h5"), ("f.h5",)),
    "download": Line(
        ("download", "caltech101", "{out}", "--quiet"), ("x",), locks=("caltech101",)
    ),
}


@dataclass(frozen=True)
class Commands:
    """Runs the lines in a folder that is empty but for what a line needs there."""

    out: Path
    names: dict[str, Path]

    def arguments(self, name: str, *more: str) -> list[str]:
        """Return the command line of that name."""
        if name == "download":
            with tarfile.open(self.out / "x.tar", "w") as tar:
                tar.add(self.names["images"], "x")
        return [
            one.format(out=self.out, **self.names) for one in LINES[name].arguments
        ] + [*more]

    def run(self, name: str, *more: str) -> Result:
        """Run it in this process."""
        return CliRunner().invoke(cli, self.arguments(name, *more))

    def there(self) -> set[str]:
        """Return the names of what is in the folder, inputs left out."""
        return {path.name for path in self.out.iterdir()} - {"x.tar"}


def patch(monkeypatch) -> None:
    """Put the miniature network and the one archive in their places."""
    one = FileRecipe("x.tar", "http://127.0.0.1:9/x.tar", unpacks_to="x", strip="x")
    recipe = replace(
        load_recipe("caltech101"),
        files=(one,),
        images="x",
        n_images=24,
        n_classes=3,
        splits=(),
    )
    monkeypatch.setattr("cnnfeat.download.load_recipe", lambda name: recipe)
    monkeypatch.setattr(
        "cnnfeat.finetune._material.load_network",
        lambda *_, **__: make_tiny_network(),
    )
