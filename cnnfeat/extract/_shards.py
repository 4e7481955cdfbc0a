"""Shares of a job that separate processes do, each into a file of its own.

A row's last bits depend on its place in the batch. So a shard is a run of whole batches
of the one listing, and engine and batch size are those planned for all of it: the rows
of all shards together equal those of one process, bit for bit.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cnnfeat.errors import OptionError
from cnnfeat.extract._options import ExtractOptions
from cnnfeat.suffixes import suffix_of

MOST_SHARDS = 99_999  # five digits of a name


@dataclass(frozen=True)
class Shard:
    """One of `n` shares of a job, `number` counted from 1."""

    number: int
    n: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the shard that `3/64` names.

        Raises
        ------
        OptionError
            If the text names none.
        """
        match = re.fullmatch(r"(\d{1,5})/(\d{1,5})", text)
        number, n = map(int, match.groups()) if match else (0, 0)
        if not 1 <= number <= n:
            raise OptionError(
                f"{text!r} is no shard: expected such as 3/64, from 1/64 to 64/64"
            )
        return cls(number, n)

    def __str__(self) -> str:
        return f"{self.number}/{self.n}"

    def path(self, output_path: str) -> str:
        """Return the name of the shard's file: `name-00003-of-00064.h5`."""
        suffix = os.fspath(output_path)[-len(suffix_of(output_path)) :]
        stem = os.fspath(output_path)[: -len(suffix)]
        return f"{stem}-{self.number:05}-of-{self.n:05}{suffix}"

    def rows(self, n_images: int, batch_size: int) -> range:
        """Return the rows of this shard: whole batches that follow each other.

        Raises
        ------
        OptionError
            If there are more shards than batches.
        """
        n_batches = -(-n_images // batch_size)
        if self.n > n_batches:
            raise OptionError(
                f"{self.n} shards of {n_images} images, which are {n_batches} batches "
                f"of {batch_size}: give at most {n_batches} shards, or a smaller "
                "`batch_size`"
            )
        first = (self.number - 1) * n_batches // self.n * batch_size
        stop = min(self.number * n_batches // self.n * batch_size, n_images)
        return range(first, stop)


def asked_shards(shard: str | None, shards: int | None) -> list[Shard]:
    """Return the shards that a command does, one after the other; none for one file.

    Raises
    ------
    OptionError
        If both are given, or one is none.
    """
    if shard is not None and shards is not None:
        raise OptionError("`shard` and `shards` contradict each other")
    if shard is not None:
        return [Shard.parse(shard)]
    if shards is None:
        return []
    if not 1 <= shards <= MOST_SHARDS:
        raise OptionError(f"`shards={shards}`: expected 1 to {MOST_SHARDS:,}")
    return [Shard(number, shards) for number in range(1, shards + 1)]


def may_go_on(options: ExtractOptions) -> bool:
    """Return whether rows of an unfinished run are kept: always those of a shard."""
    of_shards = options.shard is not None or options.shards is not None
    return options.resume or (of_shards and not options.overwrite)


def named_together(shards: Sequence[Shard], output_path: str) -> str:
    """Return the files of some shards as one name: `name-*-of-00064.h5`."""
    first = shards[0].path(output_path)
    if len(shards) == 1:
        return first
    return first.replace(f"-{shards[0].number:05}-of-", "-*-of-")
