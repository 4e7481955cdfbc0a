"""Splits as CSV files of paths, and rows found by their paths."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cnnfeat.errors import SplitError
from cnnfeat.readback import why_unreadable
from cnnfeat.shown import csv_text, from_csv_cell
from cnnfeat.splits._draw import Split

_MOST_DIGITS = 10  # of a split_index
_NAMED = 5  # how many offending names an error lists


def match_paths(wanted: Sequence[str], paths: Sequence[str], source: str) -> np.ndarray:
    """Return the row of each wanted path.

    Raises
    ------
    SplitError
        If some are not there: the first five are named, and the count; `source` says
        who wants them. Or if a wanted path stands in two rows.
    """
    row_of = {path: row for row, path in enumerate(paths)}
    missing = [path for path in wanted if path not in row_of]
    if missing:
        more = ", …" if len(missing) > _NAMED else ""
        raise SplitError(
            f"{source}: {len(missing)} of {len(wanted)} images are not in the "
            f"features: {', '.join(missing[:_NAMED])}{more}"
        )
    if len(row_of) != len(paths):
        seen: set[str] = set()
        twice = {path for path in paths if path in seen or seen.add(path)}  # type: ignore[func-returns-value]
        for path in wanted:
            if path in twice:
                raise SplitError(f"{source}: {path} stands in two rows of the features")
    return np.array([row_of[path] for path in wanted], dtype=np.int64)


def splits_to_csv(splits: Sequence[Split], paths: Sequence[str]) -> str:
    """Return splits as CSV with the columns path, split and, for several, split_index.

    `split` is "train" or "test"; `split_index` counts from 0.
    """
    several = len(splits) > 1
    lines: list[list[str | int]] = [
        ["path", "split", *(["split_index"] if several else [])]
    ]
    for index, split in enumerate(splits):
        for name, rows in (("train", split.train), ("test", split.test)):
            for row in rows.tolist():
                lines.append([paths[row], name, *([index] if several else [])])
    return csv_text(lines)


def read_splits(csv_path: str | Path, paths: Sequence[str]) -> list[Split]:
    """Return the splits of a CSV as `splits_to_csv` writes it.

    Parameters
    ----------
    csv_path : path
        UTF-8, with the columns path, split ("train" or "test"), and maybe split_index.
    paths : sequence of str
        The images of the feature file.

    Raises
    ------
    SplitError
        If the file cannot be read, is malformed (the line is named), is empty, names an
        image twice in one split, or names images that are not there.
    """
    chosen: dict[int, dict[str, str]] = {}
    for line, fields in _csv_rows(Path(csv_path)):
        where = f"{csv_path}, line {line}"
        if fields["split"] not in ("train", "test"):
            raise SplitError(
                f"{where}: split is {fields['split']!r}, not train or test"
            )
        index = fields.get("split_index") or "0"
        if not _is_index(index):
            raise SplitError(
                f"{where}: split_index {index!r} is not a whole number from 0"
            )
        split = chosen.setdefault(int(index), {})
        image = from_csv_cell(fields["path"])
        if image in split:
            raise SplitError(f"{where}: {image} is there twice")
        split[image] = fields["split"]
    if not chosen:
        raise SplitError(f"{csv_path} names no images")
    return [
        _named_split(chosen[index], paths, str(csv_path)) for index in sorted(chosen)
    ]


def read_split(csv_path: str | Path, paths: Sequence[str], index: int = 0) -> Split:
    """Return one of the splits that `read_splits` returns.

    Raises
    ------
    SplitError
        As `read_splits`, and if there are not so many; counted from 0.
    """
    splits = read_splits(csv_path, paths)
    if index >= len(splits):
        raise SplitError(
            f"`split_index={index}`: {csv_path} has {len(splits)} splits, counted "
            "from 0"
        )
    return splits[index]


def _named_split(parts: dict[str, str], paths: Sequence[str], source: str) -> Split:
    rows = match_paths(list(parts), paths, source)
    is_train = np.array([name == "train" for name in parts.values()])
    return Split(np.sort(rows[is_train]), np.sort(rows[~is_train]))


def _is_index(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < _MOST_DIGITS


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    if reason := why_unreadable(path):
        raise SplitError(f"{path}: {reason}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            found = reader.fieldnames or []
            for column in ("path", "split"):
                if column not in found:
                    raise SplitError(
                        f"{path} has no column {column!r}: {', '.join(found)}"
                    )
            for fields in reader:
                if None in fields or None in fields.values():
                    raise SplitError(
                        f"{path}, line {reader.line_num}: not {len(found)} fields"
                    )
                yield reader.line_num, fields
    except UnicodeDecodeError as error:
        raise SplitError(f"{path} is not UTF-8 text") from error
    except csv.Error as error:
        raise SplitError(f"{path} is not CSV: {error}") from error
    except OSError as error:
        raise SplitError(f"{path} cannot be read: {error.strerror}") from error
