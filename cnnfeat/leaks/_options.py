"""What a search for copies is asked."""

from dataclasses import dataclass

from cnnfeat import suffixes
from cnnfeat.errors import OptionError
from cnnfeat.outputs import check_suffix
from cnnfeat.splits import refuse_beside


@dataclass(frozen=True, kw_only=True)
class LeaksOptions:
    """How copies are sought; the defaults are those of `cnnfeat leaks`.

    Parameters
    ----------
    layer : str, optional
        As for `FeatureFile.resolve`.
    cosine : float
        Of two images' features, from which on they are looked at.
    bits : int
        Of the 64 of a perceptual hash that may differ in a near-copy.
    head_path : str, optional
        A head trained from the feature file: its training rows and held-out rows are
        the two sides, and it is scored with and without the copies.
    splits_file : str, optional
        A CSV as `cnnfeat splits` writes it: the two sides are those of its split
        number `split_index`.
    output_path, sheet_path : str, optional
        Where to list the pairs, as CSV, and where to draw them.
    overwrite : bool
        Replace outputs that exist.
    """

    layer: str | None = None
    cosine: float = 0.9
    bits: int = 6
    head_path: str | None = None
    splits_file: str | None = None
    split_index: int = 0
    output_path: str | None = None
    sheet_path: str | None = None
    overwrite: bool = False

    @property
    def outputs(self) -> list[str]:
        """The files that are written."""
        return [path for path in (self.output_path, self.sheet_path) if path]

    def check(self, other_path: str | None) -> None:
        """Raise OptionError for what contradicts itself; nothing is read."""
        sides = {"splits_file": self.splits_file}
        refuse_beside("head_path", self.head_path, sides, "says which rows")
        if other_path and (self.head_path or self.splits_file):
            raise OptionError(
                "with a second feature file the two files are the two sides: leave "
                "out `head_path` and `splits_file`"
            )
        if self.output_path:
            check_suffix(self.output_path, suffixes.TABLES)
        if self.sheet_path:
            check_suffix(self.sheet_path, suffixes.PICTURES)
