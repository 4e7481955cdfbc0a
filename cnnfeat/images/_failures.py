"""How many images may fail before what is left is not worth having."""

from collections.abc import Mapping

from cnnfeat.errors import InputError
from cnnfeat.image_table import ImageTable


def refuse_too_many_failed(
    table: ImageTable, failures: Mapping[int, str], most: int
) -> None:
    """Raise InputError if more than `most` images of a table cannot be read, or all.

    Parameters
    ----------
    table : ImageTable
    failures : mapping of int to str
        Why a row has no image.
    most : int
        How many may fail.
    """
    n_failed = len(failures)
    if n_failed <= most and n_failed < len(table):
        return
    row = min(failures)
    first = f"the first is {table.paths[row]}: {failures[row]}"
    if n_failed == len(table):
        are_gone = all(why.endswith("no such file") for why in failures.values())
        cure = "; where they lie elsewhere, give `root=DIR`" if are_gone else ""
        raise InputError(
            f"none of the {n_failed} images under {table.root} can be read, and "
            f"nothing is written; {first}{cure}"
        )
    raise InputError(
        f"{n_failed} of the {len(table)} images under {table.root} cannot be read, "
        f"more than the {most} that may fail; {first}"
    )
