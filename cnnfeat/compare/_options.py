"""What a comparison of sets of features is asked."""

from __future__ import annotations

from dataclasses import dataclass

from cnnfeat import suffixes
from cnnfeat.outputs import check_suffix


@dataclass(frozen=True)
class CompareOptions:
    """How sets are compared; the defaults are those of `cnnfeat compare`.

    `layers=()` is every layer of each file; `n_images` are drawn with `seed` where the
    files have more in common; `n_draws` make each interval, 0 for none. The first two
    paths are of the CSV and of the drawing of the first measure.
    """

    output_path: str | None = None
    plot_path: str | None = None
    layers: tuple[str, ...] = ()
    measures: tuple[str, ...] = ("cka",)
    n_images: int = 1000
    n_draws: int = 50
    seed: int = 0
    overwrite: bool = False

    @property
    def outputs(self) -> list[str]:
        """The files that are written; OptionError for a suffix that none has."""
        if self.output_path:
            check_suffix(self.output_path, suffixes.TABLES)
        if self.plot_path:
            check_suffix(self.plot_path, suffixes.PICTURES)
        return [path for path in (self.output_path, self.plot_path) if path]
