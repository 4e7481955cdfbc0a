"""What a benchmark is asked to do."""

from dataclasses import dataclass
from pathlib import Path

from cnnfeat.errors import OptionError
from cnnfeat.heads import HEAD_KINDS, HeadKind
from cnnfeat.images import LabelOptions
from cnnfeat.protocols import Draw

HEADS = tuple(HEAD_KINDS)
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
    def _kinds(self) -> list[HeadKind]:
        return [HEAD_KINDS[kind] for kind in self.heads if kind in HEAD_KINDS]

    def check_heads(self) -> None:
        """Raise OptionError where an option is for kinds of head that are not asked."""
        if self.C and not any(kind.has_C for kind in self._kinds):
            raise OptionError(f"`C` is for none of the heads: {', '.join(self.heads)}")
        if self.dropout and not all(kind.has_dropout for kind in self._kinds):
            able = ", ".join(name for name, k in HEAD_KINDS.items() if k.has_dropout)
            raise OptionError(f"`dropout` is for the heads {able} alone")
