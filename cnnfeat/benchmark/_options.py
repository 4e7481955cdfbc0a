"""What a benchmark is asked to do."""

from dataclasses import dataclass
from pathlib import Path

from cnnfeat.protocols import Draw

HEADS = ("svm", "softmax")
BASELINES = ("pixels", "random")


@dataclass(frozen=True)
class DrawOptions(Draw):
    """Which rows; None leaves a choice to the protocol.

    `splits_file` is a CSV as `cnnfeat splits` writes it and takes the place of all
    others.
    """

    protocol: str = "folder"
    train_sizes: tuple[int, ...] = ()
    splits_file: str | None = None

    @property
    def files_read(self) -> list[Path]:
        """The files that say which rows: CSV, published lists."""
        lists = Path(self.lists_dir).glob("*.txt") if self.lists_dir else ()
        return [*([Path(self.splits_file)] if self.splits_file else []), *lists]


@dataclass(frozen=True)
class BenchmarkOptions:
    """How a benchmark is run; the defaults are those of `cnnfeat benchmark`.

    `layers=()` is every layer of the file; `C=None` tries a grid that suits the scale;
    `compare` are pairs of rows of the table, each named by words that only it has;
    `memory_mib` bounds the features in memory and the solver's square matrices, None
    for no bound.
    """

    draw: DrawOptions = DrawOptions()
    layers: tuple[str, ...] = ()
    heads: tuple[str, ...] = ("svm",)
    baselines: tuple[str, ...] = ()
    compare: tuple[tuple[str, str], ...] = ()
    C: tuple[float, ...] | None = None
    scale: str = "l2"
    signed_sqrt: bool = False
    n_components: int | None = None
    dropout: float = 0.0
    device: str = "auto"
    memory_mib: int | None = None
    report_dir: str | None = None
    overwrite: bool = False

    @property
    def chooses_C(self) -> bool:
        """Whether there is more than one C to choose from."""
        return self.C is None or len(self.C) > 1
