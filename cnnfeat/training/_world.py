"""Several processes that train one network, as `torchrun` starts them.

Each process takes every `size`-th image of a batch; gradients are averaged by
DistributedDataParallel. The processes of one batch see the same images as one process
would, so the loss curve is the same to rounding.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cnnfeat.errors import DataError, LeftAloneError


@dataclass(frozen=True)
class World:
    """The place of one process among all, and its device; alone by default."""

    rank: int = 0
    size: int = 1
    device: str = "auto"

    @property
    def is_first(self) -> bool:
        """True for the one process that writes and prints."""
        return self.rank == 0

    def share(self, batch: np.ndarray) -> np.ndarray:
        """Return this process's part of a batch."""
        return batch[self.rank :: self.size]

    def sum(self, *values: float) -> list[float]:
        """Return the sums over all processes."""
        return self._reduce(values, torch.distributed.ReduceOp.SUM)

    def max(self, value: float) -> float:
        """Return the largest value of all processes."""
        return self._reduce([value], torch.distributed.ReduceOp.MAX)[0]

    def _reduce(self, values: Sequence[float], operation: Any) -> list[float]:
        if self.size == 1:
            return list(values)
        # On the CPU, so that nobody waits for what a GPU has been asked to do.
        total = torch.tensor(values, dtype=torch.float64)
        torch.distributed.all_reduce(total, operation)
        return [float(value) for value in total.tolist()]

    def check(self, n_train: int, batch_size: int) -> None:
        """Refuse more processes than a batch has images.

        Raises
        ------
        DataError
            If a process would have nothing to do.
        """
        if self.size > n_train:
            raise DataError(
                f"{self.size} processes for {n_train} training images: give torchrun "
                f"--nproc-per-node {n_train} or fewer"
            )
        if self.size > batch_size:
            raise DataError(
                f"{self.size} processes share a batch of {batch_size}: give "
                f"`batch_size={self.size}` or more"
            )


def find_world(device: str = "auto") -> World:
    """Return this process's place from torchrun's environment.

    With `auto`, each of several processes gets a CUDA device of its own, where there
    are any.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World(device=device)
    if device == "auto" and torch.cuda.is_available():
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return World(int(os.environ.get("RANK", "0")), size, device)


@contextmanager
def joined(world: World, device: torch.device) -> Iterator[None]:
    """Join the other processes for as long as the block runs; nothing when alone.

    Raises
    ------
    LeftAloneError
        If another process ends while this one waits for it.
    """
    if world.size == 1:
        yield
        return
    on_cuda = device.type == "cuda"
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if on_cuda else "gloo")
    try:
        yield
    except RuntimeError as error:
        if not _is_of_another(error):
            raise
        raise LeftAloneError("another process of this run has ended") from error
    finally:
        torch.distributed.destroy_process_group()


def _is_of_another(error: RuntimeError) -> bool:
    """Return whether a collective broke because its partner is gone."""
    text = str(error)
    return isinstance(error, torch.distributed.DistError) or any(
        sign in text for sign in ("Connection closed by peer", "Connection reset")
    )


def wrap(module: nn.Module, world: World, device: torch.device) -> nn.Module:
    """Return the module as the processes train it together."""
    if world.size == 1:
        return module
    ids = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(module, device_ids=ids, broadcast_buffers=False)
