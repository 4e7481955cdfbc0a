"""Which rows one head, or one network, is trained on and which are held out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnfeat.errors import OptionError

TEST_SHARE = 0.2  # where nothing else is asked


@dataclass(frozen=True, kw_only=True)
class RowOptions:
    """How the rows of one split are chosen; the defaults hold out a fifth.

    Parameters
    ----------
    train_per_class, test_per_class : int or None
        Rows of each class; without the second all the rest are held out.
    test_share : float or None
        Share of each class that is held out, 0 for none; None: `TEST_SHARE`, where
        neither numbers nor a file are given.
    splits_file : str or None
        A CSV as `cnnfeat splits` writes it, in place of a draw; `split_index` says
        which of its splits.
    group : str or None
        A column of the images' table: those of one value are never divided.
    skip_small : bool
        Leave out classes that are too small for the draw.
    exclude_classes : tuple of str
        Leave these out.
    seed : int
        Draws the rows.
    """

    train_per_class: int | None = None
    test_per_class: int | None = None
    test_share: float | None = None
    splits_file: str | None = None
    split_index: int = 0
    group: str | None = None
    skip_small: bool = False
    exclude_classes: tuple[str, ...] = ()
    seed: int = 0

    def check_rows(self) -> None:
        """Raise OptionError if the options contradict each other; nothing is read."""
        drawing = {
            "train_per_class": self.train_per_class,
            "test_per_class": self.test_per_class,
            "test_share": self.test_share,
        }
        refuse_beside("splits_file", self.splits_file, drawing, "names the rows")
        del drawing["test_share"]
        refuse_beside("test_share", self.test_share, drawing, "is of all rows")
        if self.test_per_class is not None and self.train_per_class is None:
            raise OptionError(
                "`test_per_class` draws from the rows that `train_per_class` leaves: "
                "give both"
            )


def refuse_beside(
    name: str, value: Any, others: Mapping[str, Any], reason: str
) -> None:
    """Raise OptionError if one of the arguments `others` is given beside `name`."""
    for other, other_value in others.items():
        if value is not None and other_value is not None:
            raise OptionError(f"`{name}` {reason}: `{other}` does not go with it")
