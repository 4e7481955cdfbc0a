"""What a benchmark is asked to do."""

from dataclasses import dataclass
from pathlib import Path

from cnnfeat.images import LabelOptions
from cnnfeat.protocols import Draw

HEADS = ("svm", "softmax")
BASELINES = ("pixels", "random")


@dataclass(frozen=True)
class DrawOptions(Draw, LabelOptions):
    """Which rows, and whose labels; None leaves a choice to the protocol.

    `splits_file` is a CSV as `cnnfeat splits` writes it and takes the place of all
    others. `group` is a column of the images' table: images of one value are never
    divided, neither by a split nor where C is chosen.
    """

    protocol: str = "folder"
    train_sizes: tuple[int, ...] = ()
    splits_file: str | None = None
    group: str | None = None

    @property
    def files_read(self) -> list[Path]:
        """The files that say which rows: tables, published lists."""
        lists = Path(self.lists_dir).glob("*.txt") if self.lists_dir else ()
        tables = filter(None, (self.splits_file, self.labels_file))
        return [*map(Path, tables), *lists]


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
    power: float = 1.0
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
